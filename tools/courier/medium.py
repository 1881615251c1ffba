"""Writing on a medium that may be FAT, slow, full, pulled out at any moment, or prepared by somebody else.

Every file is written under a passing name, synced, and renamed; a name that is there was written whole. Rights are not
relied on, links are never made and never followed. Everything here blocks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.store.disk import write_at
from edge.upstream.client import MissingError
from edge.upstream.disk import open_disk, opened_file
from manifests.courier import COURIER_FILE, FOLDER, Courier, blob_of_file
from manifests.digests import Digest
from manifests.errors import BusyError, ConfigurationError, FormatError, UntrustedError, YuanjiaoError
from manifests.names import is_metadata_name
from origin.storage.faults import storage_faults

TEMPORARY = ".tmp"
# Kept free for the way back (reports of weeks) and for what the file system itself needs.
_MARGIN_SHARE = 20
_MARGIN_BYTES = 256 * 1024 * 1024


class Medium:
    """The folder of a courier on one medium.

    Args:
        place: where the medium is mounted.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place / FOLDER

    def check(self) -> None:
        """Refuse a place where no medium can be.

        Raises:
            ConfigurationError: caller's mistake.
        """
        if not self.place.is_dir():
            raise ConfigurationError(
                f"{self.place} is no directory",
                zh=f"{self.place} 不是目录",
                hint="mount the disk and name the directory",
                hint_zh="请先挂载递送盘，并填写挂载目录",
            )

    @contextmanager
    def locked(self, *folders: str) -> Iterator[None]:
        """Make the folder, and `folders` in it (those of an export by default), and keep others from writing it too.

        Raises:
            ConfigurationError: caller's mistake; the place is no directory.
            BusyError: environment; another export writes this medium.
            FormatError: bad data; a link lies where a folder belongs.
            StorageError: environment.
        """
        self.check()
        for name in ("", *(folders or ("blobs", "metadata"))):
            self._make_folder(self.folder / name)
        with storage_faults(f"opening {self.folder}"):
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(
                    f"{self.folder} is being written by another export", zh=f"另一个导出任务正在写入 {self.folder}"
                ) from error
            except OSError:
                pass  # a file system without locks: its owner must not start two
            yield
        finally:
            os.close(fd)

    def courier(self) -> Courier | None:
        """What an earlier export wrote about this disk; None when there is nothing that can be read."""
        try:
            return open_disk(self.place).courier
        except (ConfigurationError, UntrustedError):
            return None

    def room(self) -> tuple[int, int]:
        """Bytes that blobs may take here, what earlier exports left included; and bytes of one allocation unit."""
        with storage_faults(f"looking at {self.place}"):
            found = os.statvfs(self.place)
            unit = max(found.f_frsize, 512)
            ours = sum(-(-path.lstat().st_size // unit) * unit for path in self._files("blobs"))
        whole = found.f_bavail * found.f_frsize + ours
        return max(0, whole - min(_MARGIN_BYTES, whole // _MARGIN_SHARE)), unit

    def clear_blobs(self, keep: Collection[str]) -> int:
        """Remove blobs of earlier exports but these paths; returns how many files. A stranger's files stay."""
        with storage_faults(f"clearing {self.folder}"):
            gone = [
                path
                for path in self._files("blobs")
                if is_ours(path.name) and path.relative_to(self.folder).as_posix() not in keep
            ]
            for path in gone:
                path.unlink()
        return len(gone)

    def clear_metadata(self, keep: Collection[str]) -> None:
        """Remove role files but these names."""
        with storage_faults(f"clearing {self.folder}"):
            for path in self._files("metadata"):
                if path.name not in keep and (is_metadata_name(path.name) or path.name.endswith(TEMPORARY)):
                    path.unlink()

    def has(self, path: str, length: int) -> bool:
        """Tell whether a file of this length has this name: then it was written whole."""
        try:
            with opened_file(self.folder, path) as fd:
                return os.fstat(fd).st_size == length
        except YuanjiaoError:
            return False

    def read(self, path: str) -> Iterator[bytes]:
        """A file in portions; ends early where the medium gives nothing."""
        with suppress(MissingError, FormatError, OSError), opened_file(self.folder, path) as fd:
            while data := os.read(fd, 1 << 20):
                yield data

    def remove(self, path: str) -> None:
        """Remove a file that may be gone already."""
        with storage_faults(f"removing {path}"):
            (self.folder / path).unlink(missing_ok=True)

    def write(self, path: str, data: bytes) -> None:
        """Put a small file there, whole or not at all."""
        part = self.begin(path)
        try:
            part.write(data)
            part.finish()
        finally:
            part.close()

    def write_courier(self, data: bytes) -> None:
        """Say what this disk is."""
        self.write(COURIER_FILE, data)

    def begin(self, path: str) -> PartWriter:
        """Begin a file.

        Raises:
            FormatError: bad data; a link lies where a folder belongs.
            StorageError: environment.
        """
        target = self.folder / path
        self._make_folder(target.parent)
        return PartWriter(target)

    def _make_folder(self, path: Path) -> None:
        with storage_faults(f"making {path}"):
            with suppress(FileExistsError):
                path.mkdir()
                _sync_folder(path.parent)
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise FormatError(
                    f"{path} is a link or a file where a folder belongs; nothing was written",
                    zh=f"{path} 是链接或文件，而不是目录，已拒绝写入",
                    hint="look at what is on this disk, or format it",
                    hint_zh="请检查盘上的内容，或格式化后重试",
                )

    def _files(self, name: str) -> Iterator[Path]:
        """Files and links below one of our folders, no deeper than ours lie; links to folders are not entered."""
        top = self.folder / name
        for path in sorted(top.iterdir()) if top.is_dir() else ():
            if path.is_symlink() or not path.is_dir():
                yield path
            else:
                yield from (one for one in sorted(path.iterdir()) if one.is_symlink() or not one.is_dir())


class PartWriter:
    """One file on its way to a medium."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._passing = target.with_name(target.name + TEMPORARY)
        self._at = 0
        self._fd = -1
        with storage_faults(f"writing {target}"):
            self._passing.unlink(missing_ok=True)
            # O_EXCL: whatever was put there in the meantime is not followed.
            self._fd = os.open(self._passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)

    def write(self, data: bytes) -> None:
        """Append."""
        with storage_faults(f"writing {self._target}"):
            write_at(self._fd, data, self._at)
        self._at += len(data)

    def finish(self) -> None:
        """Sync it and give it its name."""
        with storage_faults(f"writing {self._target}"):
            os.fsync(self._fd)
            self._passing.replace(self._target)
            _sync_folder(self._target.parent)

    def close(self) -> None:
        """Give the descriptor back, and the space too when the file was not finished."""
        os.close(self._fd)
        with suppress(OSError):
            self._passing.unlink(missing_ok=True)


def is_ours(name: str) -> bool:
    """Tell whether a name below `blobs/` was given by an export."""
    return blob_of_file(name.removesuffix(TEMPORARY)) is not None


def digest_on(medium: Medium, paths: Collection[str]) -> Digest:
    """SHA-256 over files of a medium, one after the other."""
    import hashlib

    hashing = hashlib.sha256()
    for path in paths:
        for data in medium.read(path):
            hashing.update(data)
    return Digest(hashing.hexdigest())


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems of sticks do not sync folders; they write them through.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(fd)
