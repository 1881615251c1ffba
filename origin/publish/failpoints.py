"""Named places where a test kills this process, as a power cut would.

For testing: with `YUANJIAO_FAILPOINT=NAME` in the environment, the process that reaches NAME dies by SIGKILL: no
`finally`, no flush, no lock given back by courtesy. Each name stands between two steps of which the first is done
and the second is not. Nothing else ever reads the variable, and without it a fail point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "YUANJIAO_FAILPOINT"

INGEST_POINTS: Final = (
    "ingest:staged",  # bytes hashed and staged, nothing stored
    "ingest:blob-stored",  # the blob is stored, its piece table is not
)
PUBLISH_POINTS: Final = (
    "publish:begun",  # numbers and versions are in the database, nothing else is
    "publish:catalog-stored",  # the catalog blob is stored, its patches are not
    "publish:patches-stored",  # all blobs are stored, nothing is signed
    "publish:targets-written",  # N.targets.json is there, no snapshot names it
    "publish:snapshot-written",  # N.snapshot.json is there, timestamp.json still names the old one
    "publish:timestamp-renamed",  # edges see the new release, the database does not know
    "publish:marked",  # the database knows; old metadata files are not cleared away
)
RESTORE_POINTS: Final = (
    "restore:patched",  # patches are stored, no release is begun
)
ROTATE_POINTS: Final = (
    "rotate:key-made",  # the new private key is on the disk, nobody trusts it
    "rotate:signed",  # the role is signed by the old and the new key, the root names the old one
    "rotate:root-written",  # the new root is served, the key files still have their old names
    "rotate:key-retired",  # the old key file is put aside, the new one does not have its name yet
)
COURIER_POINTS: Final = (
    "courier:begun",  # the disk says what it is to be, nothing else is on it
    "courier:signed",  # the release and its catalog are on the disk, no lesson is
    "courier:part-written",  # one file of a blob has its name, others are missing
    "courier:written",  # all files are there, the disk still says that it is not complete
    "courier:complete",  # the disk is complete, the origin has not noted what went on it
)
MOVE_POINTS: Final = (
    "move:blobs-copied",  # all blobs are at the new place, the library and the settings are the old ones
    "move:library-copied",  # the new database holds the library, the old one is still open
    "move:closed",  # the old database refuses changes, the settings still name it
    "move:switched",  # the settings are the new ones, a running server was not told
)
UPLOAD_POINTS: Final = (
    "upload:written",  # bytes are in the file, perhaps not yet on the disk
    "upload:synced",  # bytes are on the disk, the database does not know
    "upload:counted",  # the database knows, the sender was not told
    "upload:checked",  # the file was looked into, what was found is not written down
)
DRAFT_POINTS: Final = (
    "draft:gathered",  # its files lie side by side, nothing is published
    "draft:published",  # the release is out, the draft does not say so
)
POINTS: Final = (
    *(*DRAFT_POINTS, *INGEST_POINTS, *PUBLISH_POINTS, *RESTORE_POINTS, *ROTATE_POINTS),
    *(*COURIER_POINTS, *MOVE_POINTS, *UPLOAD_POINTS),
)


def reach(name: str) -> None:
    """Die here when the environment says so.

    Raises:
        ValueError: caller's mistake; the name is not listed above, so no test would ever find it.
    """
    if name not in POINTS:
        raise ValueError(f"fail point {name!r} is not listed")
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
