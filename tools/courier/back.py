"""The way back: an edge's reports on the disk, and the disk's reports at the origin.

An edge without a line never hears what the origin has received, so each disk takes home everything that waits. That is
no harm: reports are signed and numbered, and whoever brings one again, by disk or by line, changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

import msgspec
import structlog

from edge.upstream.client import MissingError
from edge.upstream.disk import list_folder, read_file
from manifests.courier import RETURN_FOLDER, is_return_file, is_return_folder, return_file, return_folder
from manifests.errors import FormatError, StorageError, YuanjiaoError
from manifests.reports import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    Envelope,
    decode_envelopes,
    decode_report,
    encode_envelopes,
)
from manifests.signing import open_envelope
from origin.app import Origin
from origin.stations.receipts import Taken, receive, received_of
from tools.courier.medium import Medium
from tools.courier.stations import enrolled

# Of one edge on one disk: 64 MiB of reports are 64 files at worst.
_MOST_FILES = 1000
_MOST_EDGES = 10_000
# A batch stays well below what the origin takes at once.
_FILE_BYTES = 4 * 1024 * 1024

Take = Callable[[Origin, Sequence[Envelope]], Awaitable[Taken]]

log = structlog.get_logger(__name__)


class Carried(msgspec.Struct, frozen=True):
    """What an import put on the disk for the way back.

    Attributes:
        error, error_zh: why it could not; the reports wait in the outbox then.
    """

    reports: int = 0
    files: int = 0
    error: str = ""
    error_zh: str = ""


class Brought(msgspec.Struct, frozen=True):
    """What one edge's folder came to.

    Attributes:
        edge: code of the edge; empty when none of its files could be taken.
        applied, repeated, left: reports taken, known already, and waiting for one that is missing before them.
        refused: file → reason.
    """

    folder: str
    edge: str = ""
    applied: int = 0
    repeated: int = 0
    left: int = 0
    refused: dict[str, str] = msgspec.field(default_factory=dict)


def write_return(medium: Medium, region: str, key_id: str, envelopes: Sequence[Envelope]) -> Carried:
    """Put everything that waits on the disk; what an earlier import put there is replaced. Blocking.

    A medium that takes nothing (full, write-protected) is told and no failure: the lessons are installed.
    """
    try:
        folder = f"{RETURN_FOLDER}/{return_folder(region, key_id)}"
        with medium.locked(RETURN_FOLDER, folder):
            names = []
            for batch in _batches(envelopes):
                names.append(return_file(decode_report(batch[0].text).number))
                medium.write(f"{folder}/{names[-1]}", encode_envelopes(batch))
            for name in list_folder(medium.folder, folder, _MOST_FILES):
                if is_return_file(name) and name not in names:
                    medium.remove(f"{folder}/{name}")
    except YuanjiaoError as error:
        log.warning("reports not put on the disk", reason=error.message)
        return Carried(error=error.message, error_zh=error.zh)
    return Carried(len(envelopes), len(names))


def _batches(envelopes: Sequence[Envelope]) -> Iterator[list[Envelope]]:
    batch: list[Envelope] = []
    size = 0
    for one in envelopes:
        if batch and (len(batch) == MAX_BATCH or size + len(one.text) > _FILE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one.text)
    if batch:
        yield batch


async def run_return(origin: Origin, medium: Medium, *, dry_run: bool = False) -> tuple[Brought, ...]:
    """Take in all reports on a disk; those of one edge that are refused do not hold up the others.

    Args:
        origin: where they are taken in.
        medium: opened disk.
        dry_run: prove them and say what would be taken in; change nothing.

    Raises:
        FormatError: bad data; a link lies where the folder belongs.
        TransferError: environment; the medium cannot be read.
        StorageError: environment; the origin's database.
    """
    folders: list[str] = []
    with suppress(MissingError):
        folders = await asyncio.to_thread(list_folder, medium.folder, RETURN_FOLDER, _MOST_EDGES)
    take = _look if dry_run else _take
    return tuple([await _bring(origin, medium, name, take) for name in sorted(filter(is_return_folder, folders))])


async def _bring(origin: Origin, medium: Medium, folder: str, take: Take) -> Brought:
    found = Brought(folder)
    try:
        names = await asyncio.to_thread(list_folder, medium.folder, f"{RETURN_FOLDER}/{folder}", _MOST_FILES)
    except YuanjiaoError as error:
        return msgspec.structs.replace(found, refused={folder: error.message})
    for name in sorted(filter(is_return_file, names)):
        try:
            path = f"{RETURN_FOLDER}/{folder}/{name}"
            data = await asyncio.to_thread(read_file, medium.folder, path, MAX_BATCH_BYTES)
            envelopes = await asyncio.to_thread(decode_envelopes, data)
            if any(not folder.endswith(f"-{one.key_id}") for one in envelopes):
                raise FormatError(f"{path} holds reports of another edge", zh=f"{path} 含有其他边缘服务器的上报")
            taken = await take(origin, envelopes)
        except StorageError:
            raise
        except YuanjiaoError as error:
            log.warning("reports refused", file=name, reason=error.message)
            found.refused[name] = error.message
        else:
            found = Brought(
                folder,
                taken.edge,
                found.applied + taken.applied,
                found.repeated + taken.repeated,
                found.left + taken.left,
                found.refused,
            )
    return found


async def _take(origin: Origin, envelopes: Sequence[Envelope]) -> Taken:
    days = origin.settings.reports.run_days
    return await receive(origin.engine, envelopes, origin.clock(), run_days=days, carried=True)


async def _look(origin: Origin, envelopes: Sequence[Envelope]) -> Taken:
    """What `_take` would come to, if nothing is missing before these."""
    if not envelopes:
        raise FormatError("no report in the list", zh="上报列表为空")
    edge = await enrolled(origin, envelopes[0].key_id)
    answer = await received_of(origin.engine, edge.key_id)
    reports = [await asyncio.to_thread(open_envelope, one, edge.public_key) for one in envelopes]
    new = sum(one.number > answer.received for one in reports)
    return Taken(answer, edge.code, new, len(reports) - new, 0)
