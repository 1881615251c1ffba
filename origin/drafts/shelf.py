"""Where the bytes of uploads lie: `uploads/ID/NAME`, in one directory that one or more processes share.

The directory has a name of its own, written into every upload's row: another machine's process that shares the
database and not the disk says so, instead of taking the bytes for lost.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from manifests.errors import StorageDamagedError, StorageError, TransferError
from manifests.names import parse_file_name
from origin.drafts.uploads import Upload
from origin.storage.faults import storage_faults
from origin.storage.local import fsync_directory

_NAME: Final = "place"


class ElsewhereError(TransferError):
    """The bytes are on another machine's disk."""

    family = "elsewhere"
    family_zh = "文件在另一台服务器上"
    default_hint = "ask again through the same address; the balancer should keep a browser on one machine"
    default_hint_zh = "请稍后重试；负载均衡应将同一浏览器固定到同一台服务器"


class Shelf:
    """The directory of uploads. All methods block.

    Args:
        folder: made when it is missing.

    Raises:
        StorageError: environment.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with storage_faults("opening the directory of uploads"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.place = self._own_name()

    def _own_name(self) -> str:
        path = self._folder / _NAME
        fresh = self._folder / f"{_NAME}.{secrets.token_hex(4)}"
        if not path.exists():
            fresh.write_text(secrets.token_hex(8))
            with suppress(FileExistsError):
                os.link(fresh, path)  # whoever comes second takes the name that is there
            fresh.unlink()
        return path.read_text().strip()

    def path_of(self, upload: Upload) -> Path:
        """The file with an upload's bytes; its name is the upload's own.

        Raises:
            ElsewhereError: environment; it lies on another machine.
        """
        if upload.place != self.place:
            raise ElsewhereError(f"upload {upload.id} lies at {upload.place}, not here")
        # Checked when it came in; a row that says otherwise must not lead out of the directory.
        return self._folder / upload.id / parse_file_name(upload.name)

    def lock_path(self, id_: str) -> Path:
        """A file to lock while something named `id_` is done with uploads, which one process at a time may do."""
        return self._folder / f"{id_}.lock"

    def make(self, upload: Upload) -> None:
        """Make an upload's file, empty.

        Raises:
            StorageError: environment.
        """
        path = self.path_of(upload)
        with storage_faults("beginning an upload"):
            path.parent.mkdir(mode=0o700)
            path.touch(mode=0o600, exist_ok=False)
            fsync_directory(path.parent)
            fsync_directory(self._folder)

    def open(self, upload: Upload) -> int:
        """A descriptor that reads and writes an upload's bytes.

        Raises:
            StorageDamagedError: environment; they are gone.
        """
        try:
            with storage_faults("opening an upload"):
                return os.open(self.path_of(upload), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise StorageDamagedError(
                    f"the bytes of upload {upload.id} are gone", zh=f"上传文件 {upload.name} 已丢失，请重新上传"
                ) from error
            raise

    def has(self, upload: Upload) -> bool:
        """Tell whether an upload's bytes are here.

        Raises:
            ElsewhereError: environment; they lie on another machine.
        """
        return self.path_of(upload).is_file()

    def remove(self, id_: str) -> None:
        """Remove an upload's bytes, whatever there is."""
        shutil.rmtree(self._folder / id_, ignore_errors=True)

    def strangers(self, known: set[str], before: float) -> list[str]:
        """Directories of uploads that nobody knows and that nothing was done to since `before`."""
        found = []
        with storage_faults("looking for uploads that nobody knows"):
            for entry in self._folder.iterdir():
                is_old = entry.is_dir() and entry.name not in known and entry.stat().st_mtime < before
                found += [entry.name] if is_old else []
        return found

    def free_bytes(self) -> int:
        """Free space of the disk."""
        with storage_faults("looking at the disk"):
            return shutil.disk_usage(self._folder).free
