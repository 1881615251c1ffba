"""scrubs.json: what the last scrubs came to, and what that says of the disk.

A file of its own, not a row of the index: a disk that decays takes the index too, and what was seen must outlast it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from edge.paths import Paths
from edge.store.decay import LAST_SCRUBS, Fault, ScrubRecord, judge_decay
from edge.store.disk import replace_file
from manifests.errors import StorageError

_RECORDS = msgspec.json.Decoder(tuple[ScrubRecord, ...])

log = structlog.get_logger(__name__)


def read_scrubs(path: Path) -> tuple[ScrubRecord, ...]:
    """The last scrubs, oldest first; empty when none are on record, or the record cannot be read."""
    try:
        return _RECORDS.decode(path.read_bytes())
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("scrub_log_unreadable", reason=str(error))
        return ()


def note_scrub(path: Path, record: ScrubRecord) -> None:
    """Add one scrub to the record; a disk that takes no file must not hide what the scrub found."""
    last = (*read_scrubs(path), record)[-LAST_SCRUBS:]
    try:
        replace_file(path, msgspec.json.format(msgspec.json.encode(last), indent=1) + b"\n")
    except StorageError as error:
        log.warning("scrub_not_noted", reason=error.message)


def faults_of(paths: Paths) -> tuple[Fault, ...]:
    """What the scrubs of this edge say of its disk, for /healthz, doctor and the reports."""
    return judge_decay(read_scrubs(paths.scrubs))
