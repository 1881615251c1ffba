"""Taking the bytes of uploads: written, hashed, made durable, and only then counted.

What the database says has come lies on the disk for good: the file is synced before its length is written down, and
whatever lies beyond that after a crash is written over. One writer at a time: a lock on the file keeps others away, in
this process and in others, and the kernel gives it back whatever happens. Who has the lock and sends nothing (a phone
that left its network, whose connection looks alive for a minute yet) makes way for who comes next.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from manifests.digests import Digest
from manifests.errors import InputError, StorageFullError
from origin.database.engine import reading, writing
from origin.drafts import uploads
from origin.drafts.intake import Intake
from origin.drafts.uploads import Upload, UploadId
from origin.publish.failpoints import reach
from origin.publish.together import outlast
from origin.storage.faults import storage_faults

if TYPE_CHECKING:
    from hashlib import _Hash

QUIET_S: Final = 5.0
_MAKE_WAY_S: Final = 10.0
_HASHES_KEPT: Final = 256


class BeingWrittenError(InputError):
    """Somebody else is sending this upload at this moment."""

    http_status = 423
    default_hint = "wait a moment, ask where the upload stands, and go on from there"
    default_hint_zh = "请稍候再继续"


class OffsetError(InputError):
    """The upload stands somewhere else."""

    http_status = 409
    default_hint = "ask where the upload stands, and go on from there"
    default_hint_zh = "请查询进度后从该处继续"


class ChecksumError(InputError):
    """The bytes are not those that the sender hashed; none of them was kept."""

    http_status = 460


@dataclass(slots=True)
class _Count:
    """SHA-256 of the first `size` bytes, as far as this process wrote all of them itself."""

    size: int = 0
    hasher: _Hash = field(default_factory=hashlib.sha256)

    def copy(self) -> _Count:
        return _Count(self.size, self.hasher.copy())


class Receiving:
    """All uploads that this process is being sent."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._writers: dict[UploadId, Writer] = {}
        self._counts: OrderedDict[UploadId, _Count] = OrderedDict()
        self._is_closing = False

    @asynccontextmanager
    async def writing_to(self, upload: Upload, offset: int, checksum: _Hash | None = None) -> AsyncIterator[Writer]:
        """Be the one who writes an upload. At the end, what was written is durable and counted.

        Args:
            upload: as it was found.
            offset: where the sender goes on.
            checksum: hashes what is sent; all of it is kept or, when the block raises, none.

        Raises:
            BeingWrittenError: bad data; somebody else is sending it.
            OffsetError: bad data; it does not stand there.
            StorageError: environment.
        """
        await self._take_over(upload.id)
        descriptor = await asyncio.to_thread(_open_alone, self._intake, upload)
        writer = None
        try:
            now = await self._look(upload)
            if now.state != "receiving" or now.received_bytes != offset:
                raise OffsetError(
                    f"the upload stands at {now.received_bytes}, not at {offset}",
                    zh=f"上传进度为 {now.received_bytes} 字节，与请求的 {offset} 不符",
                )
            counted = self._counts.pop(upload.id, None)
            count = counted if counted is not None and counted.size == offset else _Count()
            writer = self._writers[upload.id] = Writer(self._intake, now, descriptor, count, checksum)
            try:
                yield writer
            finally:
                # Cancelled or not: the sync under way keeps the descriptor.
                await outlast(asyncio.ensure_future(writer.finish()))
        finally:
            os.close(descriptor)
            if writer is not None:
                writer.is_done.set()
                if self._writers.get(upload.id) is writer:
                    del self._writers[upload.id]
                self._keep(upload.id, writer.count)

    async def _look(self, upload: Upload) -> Upload:
        async with reading(self._intake.engine) as connection:
            found = await uploads.get_upload(connection, upload.id)
        if found is None:
            raise OffsetError("the upload was removed", zh="该上传已被删除")
        return found

    async def _take_over(self, id_: UploadId) -> None:
        if self._is_closing:
            raise BeingWrittenError("the origin is going down", zh="源站正在停止")
        other = self._writers.get(id_)
        if other is not None and other.quiet_s() >= QUIET_S:
            other.make_way()
            try:
                async with asyncio.timeout(_MAKE_WAY_S):
                    await other.is_done.wait()
            except TimeoutError:
                return  # the lock on the file says no

    def _keep(self, id_: UploadId, count: _Count) -> None:
        self._counts[id_] = count
        if len(self._counts) > _HASHES_KEPT:
            self._counts.popitem(last=False)

    async def close(self) -> None:
        """Have all senders stop: what they sent so far is kept."""
        self._is_closing = True
        for writer in list(self._writers.values()):
            writer.make_way()


class Writer:
    """One sender's turn at one upload."""

    def __init__(self, intake: Intake, upload: Upload, descriptor: int, count: _Count, checksum: _Hash | None) -> None:
        self.upload = upload
        self.count = count
        self.is_done = asyncio.Event()
        self.must_stop = False
        self._intake = intake
        self._descriptor = descriptor
        self._checksum = checksum
        self._before = count.copy() if checksum is not None else _Count()
        self._counted = upload.received_bytes  # in the database
        self._written = upload.received_bytes
        self._heard_s = asyncio.get_running_loop().time()
        self._wait: asyncio.Timeout | None = None

    @property
    def left(self) -> int:
        """Bytes that are still missing."""
        return self.upload.size_bytes - self._written

    @property
    def offset(self) -> int:
        """What the database says has come."""
        return self._counted

    @property
    def is_whole(self) -> bool:
        """Tell whether all bytes are counted."""
        return self._counted == self.upload.size_bytes

    @property
    def uncounted(self) -> int:
        """Bytes that a crash would cost."""
        return self._written - self._counted

    def quiet_s(self) -> float:
        """For how long nothing has come."""
        return asyncio.get_running_loop().time() - self._heard_s

    def heard(self) -> None:
        """Something has come."""
        self._heard_s = asyncio.get_running_loop().time()

    def make_way(self) -> None:
        """Have the sender stop: it is noticed before the next write, and ends a wait for bytes at once."""
        self.must_stop = True
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def waiting(self, deadline_s: float) -> AsyncIterator[None]:
        """Wait for bytes, until the deadline or until it must make way.

        Raises:
            TimeoutError: environment.
        """
        async with asyncio.timeout(0 if self.must_stop else deadline_s) as self._wait:
            try:
                yield
            finally:
                self._wait = None

    async def write(self, data: bytes) -> None:
        """Write what has come, and hash it on the way.

        Raises:
            StorageError: environment.
        """
        self.heard()
        await outlast(asyncio.ensure_future(asyncio.to_thread(self._write, data)))

    def _write(self, data: bytes) -> None:
        with storage_faults(f"writing upload {self.upload.id}"):
            view, at = memoryview(data), self._written
            while view:
                # A full disk may take a part and report no error; only the next write says so.
                done = os.pwrite(self._descriptor, view, at)
                view, at = view[done:], at + done
        if self.count.size == self._written:
            self.count.hasher.update(data)
            self.count.size = at
        if self._checksum is not None:
            self._checksum.update(data)
        self._written = at

    async def commit(self) -> None:
        """Make what was written durable, then count it. Nothing is counted while a checksum is owed.

        Raises:
            StorageError: environment.
            StorageFullError: environment; the disk is needed for other things.
            OffsetError: bad data; it was removed meanwhile.
        """
        if self._checksum is None and self.uncounted:
            await self._count()
            if await asyncio.to_thread(self._intake.shelf.free_bytes) < self._intake.terms.limits.floor_bytes:
                raise StorageFullError("the disk has no room for the rest of the upload", zh="源站磁盘空间不足")

    async def confirm(self, expected: bytes) -> None:
        """Count what was written if it has this checksum.

        Raises:
            ChecksumError: bad data; nothing of it was counted.
        """
        found = self._checksum.digest() if self._checksum is not None else b""
        if found != expected:
            raise ChecksumError("the checksum does not match", zh="校验和不符，请重新发送")
        self._checksum = None
        await self._count()

    async def finish(self) -> None:
        """Count what can be counted; what cannot is written over by who comes next."""
        if self._checksum is None and self.uncounted:
            await self._count()
        if self.uncounted:
            self.count = self._before  # the other has hashed what does not count

    async def _count(self) -> None:
        reach("upload:written")
        with storage_faults(f"syncing upload {self.upload.id}"):
            await asyncio.to_thread(os.fdatasync, self._descriptor)
        reach("upload:synced")
        is_whole = self._written == self.upload.size_bytes
        digest = Digest(self.count.hasher.hexdigest()) if is_whole and self.count.size == self._written else None
        async with writing(self._intake.engine) as connection:
            now = self._intake.clock()
            stood = await uploads.advance(connection, self.upload.id, self._counted, self._written, now, digest)
        if not stood:
            self._counted = self._written  # there is nothing left to count
            raise OffsetError("the upload was removed meanwhile", zh="该上传已被删除")
        self._counted = self._written
        reach("upload:counted")


def _open_alone(intake: Intake, upload: Upload) -> int:
    descriptor = intake.shelf.open(upload)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise BeingWrittenError("somebody is sending this upload", zh="该文件正在由另一处上传") from error
    return descriptor
