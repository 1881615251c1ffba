"""A courier disk as an upstream: the same questions as over HTTP, answered from files that anybody may have written.

The medium is hostile until its bytes prove. No link is followed at any depth, nothing but regular files is read, every
read has a ceiling and a deadline, and no name is used that was not checked. Reading happens in threads.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edge.upstream.body import Arrived, Body, Traffic
from edge.upstream.client import MissingError
from edge.upstream.gate import Gate
from manifests.courier import COURIER_FILE, FOLDER, MAX_COURIER_BYTES, Courier, PartFile, decode_courier, part_files
from manifests.digests import Digest, is_digest
from manifests.errors import ConfigurationError, DigestError, FormatError, StalledError, TransferError, YuanjiaoError
from manifests.names import is_metadata_name

T = TypeVar("T")

_PORTION_BYTES = 1024 * 1024
# A stick that takes longer than this for a megabyte is about to die, or was pulled out.
_DEADLINE_S = 60.0
_TIMESTAMP_BYTES = 64 * 1024
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER_FLAGS = _FILE_FLAGS | os.O_DIRECTORY
_GONE = frozenset({errno.ENOENT})
_TANGLED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK, errno.ENXIO})


class Disk:
    """One opened courier disk.

    Args:
        folder: `yuanjiao-courier` on the medium.
        courier: what the disk says of itself.

    Attributes:
        last_read: the role file that was read last, for messages.
    """

    def __init__(self, folder: Path, courier: Courier) -> None:
        self.courier = courier
        self.url = f"courier:{folder}"
        self.traffic = Traffic()
        self.last_read = ""
        self._folder = folder

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._folder

    def where(self, digest: str) -> str:
        """The file of a blob, for messages."""
        return f"{self._folder}/blobs/{digest[:2]}/{digest}"

    async def get_bytes(self, path: str, limit: int, expected_size: int | None = None) -> bytes:
        """Read a role file; blobs are read by `fill`, since their length is known.

        Raises:
            MissingError: environment; it is not there.
            TransferError: environment; too long, or the medium cannot be read.
            FormatError: bad data; a link, or no file.
        """
        name = path.removeprefix("/metadata/")
        if name == path or not is_metadata_name(name):
            raise MissingError(f"{self.url}{path}: no such resource", zh=f"递送盘上没有 {path}")
        self.traffic.requests += 1
        data: bytes = await self._run(read_file, self._folder, f"metadata/{name}", limit)
        self.last_read = f"metadata/{name}"
        self.traffic.receive(len(data))
        if expected_size is not None and len(data) != expected_size:
            raise TransferError(f"{self._folder}{path}: {len(data)} bytes where {expected_size} were expected")
        return data

    async def get_range(self, path: str, start: int, stop: int, total: int) -> bytes:
        """Read a byte range; see `fill`."""
        body = Body(start, stop, total)
        await self.fill(path, body)
        return bytes(body.buffer)

    async def fill(self, path: str, body: Body, arrived: Arrived | None = None, gate: Gate | None = None) -> None:
        """Read a byte range of a blob into `body`, from where it stands to its end.

        Raises:
            MissingError: environment; the disk does not have it.
            TransferError: environment; the medium cannot be read.
            DigestError: bad data; a file has another length than the blob's.
            FormatError: bad data; a link, or no file.
        """
        digest = path.removeprefix("/blobs/")
        if not is_digest(digest):
            raise MissingError(f"{self.url}{path}: no such resource", zh=f"递送盘上没有 {path}")
        self.traffic.requests += 1
        view = memoryview(body.buffer)
        while body.filled < len(view):
            at = body.start + body.filled
            stop = min(body.stop, at + _PORTION_BYTES)
            part = next(one for one in self._parts(Digest(digest), body.total) if one.start <= at < one.stop)
            stop = min(stop, part.stop)
            length = part.stop - part.start
            data: bytes = await self._run(
                _read_part, self._folder, part.path, at - part.start, stop - part.start, length
            )
            view[body.filled : body.filled + len(data)] = data
            body.filled += len(data)
            self.traffic.receive(len(data))
            if gate is not None and gate.charge(len(data)):
                await gate.wait()
            if arrived is not None:
                await arrived(body)

    def carried(self) -> frozenset[Digest]:
        """Blobs that this disk says it has; of a disk that was not finished, those that are there. Blocking."""
        blobs = self.courier.blobs
        if self.courier.complete:
            return frozenset(map(Digest, blobs))
        return frozenset(Digest(one) for one, size in blobs.items() if self._is_there(Digest(one), size))

    def said_version(self) -> int:
        """The version that its timestamp claims, unproved; 0 when it has none that can be read. Blocking."""
        try:
            data = read_file(self._folder, "metadata/timestamp.json", _TIMESTAMP_BYTES)
            version = msgspec.json.decode(data)["signed"]["version"]
        except (YuanjiaoError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
            return 0  # the refresh meets the same file and says what is wrong with it
        return version if isinstance(version, int) else 0

    def _parts(self, digest: Digest, size: int) -> tuple[PartFile, ...]:
        return part_files(digest, size, self.courier.part_bytes)

    def _is_there(self, digest: Digest, size: int) -> bool:
        try:
            for part in self._parts(digest, size):
                _read_part(self._folder, part.path, 0, 0, part.stop - part.start)
        except YuanjiaoError:
            return False
        return True

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        # The thread opens and closes its own descriptor and writes to nobody's memory, so it may outlive this wait.
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await asyncio.to_thread(work, *args)
        except TimeoutError as error:
            raise StalledError(
                f"{self._folder}: the medium gives nothing", zh=f"递送盘 {self._folder} 长时间没有响应"
            ) from error


def open_disk(place: Path) -> Disk:
    """Open the courier disk on a medium. Blocking.

    Args:
        place: where the medium is mounted, or the folder on it.

    Raises:
        ConfigurationError: caller's mistake; there is no courier disk.
        FormatError: bad data; what is there cannot be read.
        TransferError: environment; the medium cannot be read.
    """
    folder = place if place.name == FOLDER else place / FOLDER
    try:
        data = read_file(folder, COURIER_FILE, MAX_COURIER_BYTES)
    except MissingError as error:
        raise ConfigurationError(
            f"{place} is no courier disk: it has no {FOLDER}/{COURIER_FILE}",
            zh=f"{place} 不是递送盘：没有 {FOLDER}/{COURIER_FILE}",
            hint="name the folder in which the disk is mounted",
            hint_zh="请填写递送盘的挂载目录",
        ) from error
    return Disk(folder, decode_courier(data))


@contextmanager
def opened_file(folder: Path, path: str) -> Iterator[int]:
    """A descriptor of a regular file below `folder`, reached without following any link. Blocking.

    Raises:
        MissingError: environment; it is not there.
        FormatError: bad data; a link on the way, or no regular file.
        TransferError: environment; the medium cannot be read.
    """
    # Without O_NONBLOCK a named pipe would hold this thread for ever.
    with _opened(folder, path, os.O_NONBLOCK) as fd:
        with _faults(folder, path):
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.ENXIO, "no regular file")
        yield fd


@contextmanager
def _opened(folder: Path, path: str, flags: int) -> Iterator[int]:
    with _faults(folder, path):
        fd = os.open(folder, _FOLDER_FLAGS)
    try:
        with _faults(folder, path):
            *above, name = path.split("/")
            for step, how in (*((one, _FOLDER_FLAGS) for one in above), (name, _FILE_FLAGS | flags)):
                inner = os.open(step, how, dir_fd=fd)
                os.close(fd)
                fd = inner
        yield fd
    finally:
        os.close(fd)


def list_folder(folder: Path, path: str, most: int) -> list[str]:
    """Names in a folder below `folder`, in no order, without following links; names beyond `most` are left out.

    Raises:
        MissingError: environment; it is not there.
        FormatError: bad data; a link, or no folder.
        TransferError: environment; the medium cannot be read.
    """
    names: list[str] = []
    with _opened(folder, path, os.O_DIRECTORY) as fd, _faults(folder, path), os.scandir(fd) as entries:
        for entry in entries:
            if len(names) >= most:
                break
            names.append(entry.name)
    return names


def read_file(folder: Path, path: str, limit: int) -> bytes:
    """A whole small file below `folder`; the same manners as `opened_file`. Blocking.

    Raises:
        MissingError: environment; it is not there.
        FormatError: bad data; a link on the way, or no regular file.
        TransferError: environment; longer than `limit`, or the medium cannot be read.
    """
    with opened_file(folder, path) as fd, _faults(folder, path):
        size = os.fstat(fd).st_size
        if size > limit:
            raise TransferError(
                f"{folder}/{path}: {size} bytes where at most {limit} were expected",
                zh=f"递送盘上的 {path} 过大（{size} 字节）",
            )
        return _read(fd, 0, size)


def _read_part(folder: Path, path: str, start: int, stop: int, length: int) -> bytes:
    with opened_file(folder, path) as fd, _faults(folder, path):
        size = os.fstat(fd).st_size
        if size != length:
            raise DigestError(
                f"{folder}/{path}: {size} bytes where {length} were promised",
                zh=f"递送盘上的 {path} 为 {size} 字节，应为 {length} 字节",
            )
        return _read(fd, start, stop)


def _read(fd: int, start: int, stop: int) -> bytes:
    parts = []
    while start < stop:
        part = os.pread(fd, stop - start, start)
        if not part:
            raise OSError(errno.EIO, "the file ends early")
        parts.append(part)
        start += len(part)
    return b"".join(parts)


@contextmanager
def _faults(folder: Path, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where, reason = f"{folder}/{path}", error.strerror or str(error)
        if error.errno in _GONE:
            raise MissingError(f"{where}: not there", zh=f"递送盘上没有 {path}") from error
        if error.errno in _TANGLED:
            raise FormatError(
                f"{where}: a link, or no plain file or folder; it is not followed",
                zh=f"递送盘上的 {path} 是链接或不是普通文件，拒绝读取",
            ) from error
        raise TransferError(
            f"{where}: {reason}",
            zh=f"无法读取递送盘上的 {path}：{reason}",
            hint="plug the disk in again and repeat, what was proved is kept; if it fails again, ask for another",
            hint_zh="请重新插拔递送盘后重试，已验证的内容不会丢失；若再次失败请更换递送盘",
        ) from error
