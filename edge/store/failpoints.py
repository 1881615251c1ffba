"""Named places where a test kills this process, as a power cut would.

For testing: with `YUANJIAO_FAILPOINT=NAME` in the environment, the process that reaches NAME dies by SIGKILL: no
`finally`, no flush, no lock given back by courtesy. Each name stands between two steps of which the first is done
and the second is not. Without the variable a fail point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "YUANJIAO_FAILPOINT"

POINTS: Final = (
    "sync:verified",  # the newest release is verified and kept, its catalog is not here
    "sync:cataloged",  # the catalog is here, nothing of it is applied
    "sync:removed",  # recalls and removals are applied, no bulk byte is fetched
    "sync:proved",  # all files of a lesson are here and proved, it is not installed
    "sync:filled",  # all lessons are installed, useless blobs are still there
    "put:written",  # a small blob lies in tmp/, synced, without its name
    "put:renamed",  # it has its name, the index does not know it
    "partial:demoted",  # a rotten blob's file is partial again, the index still has it as a rotten blob
    "partial:allocated",  # the partial file is there, the index does not know it
    "partial:written",  # proved pieces are in the file, their marks are not in the index
    "partial:marked",  # marks are committed, the caller was not told
    "finish:synced",  # all bytes are on the disk, the file is still partial
    "finish:renamed",  # the file has its blob's name, the index still calls it partial
    "finish:indexed",  # the index calls it whole, the caller was not told
    "install:breadcrumb",  # catalogs.json names the new catalog, the index has the old state
    "install:written",  # all rows are written, the transaction is not committed
    "install:committed",  # the new state is visible, the caller was not told
    "delete:unindexed",  # rows are gone, files are still there
    "evict:noted",  # a lesson's blobs are noted as evicted, and are all still here
    "scrub:marked",  # a rotten piece is known in the index, nothing is repaired yet
    "rebuild:proved",  # the new index is complete beside the old one
    "rebuild:aside",  # the old index is set aside, the new one does not have its name yet
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
