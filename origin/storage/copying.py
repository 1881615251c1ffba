"""Copying blobs from one storage to another: each proved on the way out and again where it arrived.

What arrived is noted in a file, so that a copy which was cut off goes on; a blob that is noted is not read again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiofiles

from manifests.digests import Digest, is_digest
from manifests.errors import StorageDamagedError
from origin.storage.base import BlobStorage
from origin.storage.faults import storage_faults

AT_A_TIME: Final = 2

Told = Callable[[int, int], None]
"""Told of blobs done and blobs in all."""


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What is to be copied, and how many were noted before."""

    missing: tuple[Digest, ...]
    noted: int


def plan_copy(source: Iterable[Digest], noted: Iterable[Digest]) -> CopyPlan:
    """Everything that is at the source and was not noted; pure."""
    have = frozenset(noted)
    every = tuple(source)
    missing = tuple(digest for digest in every if digest not in have)
    return CopyPlan(missing, len(every) - len(missing))


class Notes:
    """The blobs that arrived, one name a line; a line that a power cut halved is none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> frozenset[Digest]:
        """All names. Blocking.

        Raises:
            StorageError: environment.
        """
        with storage_faults(f"reading {self._path.name}"):
            if not self._path.exists():
                return frozenset()
            lines = self._path.read_text(encoding="ascii", errors="replace").splitlines()
        return frozenset(Digest(line) for line in lines if is_digest(line))

    def add(self, digest: Digest) -> None:
        """Note one. Blocking."""
        with storage_faults(f"writing {self._path.name}"):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, f"\n{digest}\n".encode())
            finally:
                os.close(fd)


async def arrived(notes: Notes, target: BlobStorage) -> frozenset[Digest]:
    """Blobs that were noted and are still there."""
    noted = await asyncio.to_thread(notes.read)
    return noted & {digest async for digest in target.digests()} if noted else noted


async def run_copy(
    plan: CopyPlan, source: BlobStorage, target: BlobStorage, staging: Path, notes: Notes, told: Told | None = None
) -> int:
    """Carry out a plan; returns how many bytes were copied.

    Args:
        plan: from `plan_copy`; a blob that the source no longer has is passed over (it was collected).
        source: where from.
        target: where to; `staging` must suit it.
        staging: this process's own directory; it needs room for the largest blobs.
        notes: of this pair of storages.
        told: of progress.

    Raises:
        StorageDamagedError: environment; a blob is not what its name says, here or there. The others that were begun
            are finished.
        StorageError: environment; the next copy goes on.
    """
    left = list(reversed(plan.missing))
    total, done, copied = len(left), 0, 0

    async def work() -> None:
        nonlocal done, copied
        while left:
            digest = left.pop()
            try:
                size = await _copy(digest, source, target, staging)
            except BaseException:
                left.clear()  # the others finish what they have begun
                raise
            if size is not None:
                copied += size
                await asyncio.to_thread(notes.add, digest)
            done += 1
            if told is not None:
                told(done, total)

    results = await asyncio.gather(*(work() for _ in range(AT_A_TIME)), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return copied


async def _copy(digest: Digest, source: BlobStorage, target: BlobStorage, staging: Path) -> int | None:
    size = await source.size(digest)
    if size is None:
        return None
    staged = staging / f"{secrets.token_hex(8)}.copy"
    try:
        await _prove(digest, source, size, "source", "来源", staged)
        await target.put(staged, digest, size)
    finally:
        staged.unlink(missing_ok=True)
    await _prove(digest, target, size, "copy", "副本", None)
    return size


async def _prove(digest: Digest, storage: BlobStorage, size: int, which: str, which_zh: str, to: Path | None) -> None:
    whole = hashlib.sha256()
    if to is None:
        async for portion in storage.read(digest, 0, size):
            await asyncio.to_thread(whole.update, portion)
    else:
        with storage_faults(f"staging blob {digest[:16]}…"):
            async with aiofiles.open(to, "xb", buffering=0) as file:
                async for portion in storage.read(digest, 0, size):
                    await asyncio.to_thread(whole.update, portion)
                    while portion:  # a disk that fills up may take a part
                        portion = portion[await file.write(portion) :]
    if whole.hexdigest() != digest:
        raise StorageDamagedError(
            f"the {which} of blob {digest[:16]}… is not what its name says",
            zh=f"数据块文件 {digest[:16]}… 的{which_zh}内容与名称不符",
            hint="publish its file again, or restore it from a backup, then go on",
            hint_zh="请重新发布该文件或从备份恢复，然后继续",
        )
