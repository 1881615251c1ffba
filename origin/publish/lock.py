"""One publisher at a time: publish, recall, rotation and renewal hold one lock, across processes."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from manifests.errors import BusyError
from origin.storage.faults import storage_faults

_LOOK_AGAIN_S: Final = 0.05


@asynccontextmanager
async def publish_lock(path: Path, deadline_s: float) -> AsyncIterator[None]:
    """Hold the publish lock; the kernel gives it back when the process dies, however it dies.

    Raises:
        BusyError: environment; another held it for `deadline_s`.
        StorageError: environment; the lock file cannot be made.
    """
    with storage_faults(f"opening {path.name}"):
        # One descriptor per taking: flock keeps tasks of one process apart by it, as it does processes.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        await _take(fd, path, deadline_s)
        yield
    finally:
        os.close(fd)


async def _take(fd: int, path: Path, deadline_s: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if loop.time() >= until:
                raise BusyError(
                    f"{path} was held by another publish, recall or rotation for {deadline_s:g} s",
                    zh=f"另一个发布、召回或换钥任务仍在进行（已等待 {deadline_s:g} 秒）",
                ) from error
            await asyncio.sleep(_LOOK_AGAIN_S)
        else:
            return
