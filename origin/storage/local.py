"""Blobs on this machine's disk: `blobs/ab/<digest>`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiofiles

from manifests.digests import Digest, is_digest
from manifests.errors import NotFoundError, StorageDamagedError, StorageError
from origin.storage.base import PORTION_BYTES
from origin.storage.faults import storage_error, storage_faults


class LocalStorage:
    """A `BlobStorage` in one directory; staged files must lie in the same file system."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, digest: Digest) -> Path:
        return self._root / digest[:2] / digest

    def local_path(self, digest: Digest) -> Path | None:
        """The blob's file, None when it is not here."""
        path = self._path(digest)
        return path if path.is_file() else None

    async def address(self, _digest: Digest) -> str | None:
        """None: this machine serves its files itself."""
        return None

    async def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, None when it is not here."""
        return await asyncio.to_thread(_size_of, self._path(digest))

    async def put(self, staged: Path, digest: Digest, size: int) -> None:
        """Take over a staged file: fsync, rename, fsync of the directory."""
        await asyncio.to_thread(_adopt, staged, self._path(digest), size)

    async def read(self, digest: Digest, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the half-open range in portions of 1 MiB."""
        try:
            async with aiofiles.open(self._path(digest), "rb", buffering=0) as file:
                await file.seek(start)
                left = stop - start
                while left > 0:
                    data = await file.read(min(PORTION_BYTES, left))
                    if not data:
                        raise StorageDamagedError(
                            f"blob {digest[:16]}… ends {left} bytes early",
                            zh=f"数据块文件 {digest[:16]}… 缺少 {left} 字节",
                            hint="restore this blob from a backup or publish its file again",
                            hint_zh="请从备份恢复该文件或重新发布",
                        )
                    left -= len(data)
                    yield data
        except FileNotFoundError as error:
            raise NotFoundError(f"blob {digest[:16]}… is not here", zh=f"没有数据块文件 {digest[:16]}…") from error
        except OSError as error:
            raise storage_error(error, f"reading blob {digest[:16]}…") from error

    async def delete(self, digest: Digest) -> bool:
        """Remove a blob; False when it was not here."""
        return await asyncio.to_thread(_remove, self._path(digest))

    async def sweep(self) -> int:
        """0: a file is adopted by one rename, so nothing is ever left half done."""
        return 0

    async def digests(self) -> AsyncIterator[Digest]:
        """Every blob that is here, sorted."""
        for folder in await asyncio.to_thread(_folders, self._root):
            for name in await asyncio.to_thread(_names, folder):
                yield name


def _folders(root: Path) -> list[Path]:
    with storage_faults("listing blobs"):
        return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _names(folder: Path) -> list[Digest]:
    with storage_faults("listing blobs"):
        return sorted(Digest(path.name) for path in folder.iterdir() if _is_blob(path))


def _is_blob(path: Path) -> bool:
    return is_digest(path.name) and path.name[:2] == path.parent.name


def _size_of(path: Path) -> int | None:
    with storage_faults(f"looking for blob {path.name[:16]}…"):
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return None


def _adopt(staged: Path, path: Path, size: int) -> None:
    with storage_faults(f"storing blob {path.name[:16]}…"):
        got = staged.stat().st_size
        if got != size:
            raise StorageError(f"storing blob {path.name[:16]}…: the staged file has {got} bytes instead of {size}")
        # Also when it is here already: then these bytes, just hashed, take the place of bytes that may have rotted, and
        # it is we who sync the directory, not another process that may not have come so far.
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            fsync_directory(path.parent.parent)
        staged.replace(path)
        fsync_directory(path.parent)


def _remove(path: Path) -> bool:
    with storage_faults(f"deleting blob {path.name[:16]}…"):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        fsync_directory(path.parent)
        return True


def fsync_directory(path: Path) -> None:
    """Make renames and removals within `path` durable.

    Raises:
        OSError: environment.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
