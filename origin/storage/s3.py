"""Blobs in a bucket: `<prefix>ab/<digest>`, on any store that speaks S3.

Ranges are asked for in portions, each a request of its own with one more ahead: a terminal that reads slowly holds no
connection to the store, a portion that broke off is asked for again, and memory holds two portions for each reader.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from manifests.digests import Digest, is_digest
from manifests.errors import NotFoundError, ObjectStorageError, StorageDamagedError, StorageError
from origin.storage.faults import storage_faults
from origin.storage.s3_client import Calls, S3Options, code_of, is_absent
from origin.storage.s3_upload import give_up_stale, size_of, upload

ASKED_BYTES: Final = 4 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024
_TRIES: Final = 3  # of a portion that broke off in its middle, which the client itself does not repeat


class S3Storage:
    """A `BlobStorage` in one bucket; made by `open_s3`.

    Args:
        signing: to the store as readers reach it, where that is another address: what is signed holds the host.
    """

    def __init__(self, options: S3Options, calls: Calls, signing: Calls | None = None) -> None:
        self._options = options
        self._calls = calls
        self._signing = signing or calls
        self._putting: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

    def local_path(self, _digest: Digest) -> Path | None:
        """None: nothing lies on this machine."""
        return None

    async def address(self, digest: Digest) -> str | None:
        """A presigned address, good for `redirect_s`; None without that, or when the blob is not here."""
        if not self._options.redirect_s or await self.size(digest) is None:
            return None
        # Reckoning only, mostly; but the account may have to be renewed first, which asks another server.
        work = partial(_sign, options=self._options, key=self._key(digest))
        return await self._signing.run(work, f"signing an address of blob {digest[:16]}…")

    async def size(self, digest: Digest) -> int | None:
        """Length of a blob in bytes, None when it is not here."""
        work = partial(_size, options=self._options, key=self._key(digest))
        return await self._calls.run(work, f"looking for blob {digest[:16]}…")

    async def put(self, staged: Path, digest: Digest, size: int) -> None:
        """Take over a staged file: uploaded, its length asked back, then removed here."""
        stop = threading.Event()
        work = partial(_put, options=self._options, key=self._key(digest), staged=staged, size=size, stop=stop)
        # One at a time for each blob: the second finds it there instead of sending it too.
        async with self._putting.setdefault(digest, asyncio.Lock()):
            future = await self._calls.start(work, f"storing blob {digest[:16]}…")
            try:
                await asyncio.shield(future)
            except asyncio.CancelledError:
                # The file is the caller's again as soon as we return: the thread must have ended, at its next part.
                stop.set()
                await _until_done(future)
                raise

    async def read(self, digest: Digest, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the half-open range in portions of at most 4 MiB."""
        ahead: asyncio.Task[bytes] | None = None
        try:
            for at in range(start, stop, ASKED_BYTES):
                now = ahead or self._ask(digest, at, min(at + ASKED_BYTES, stop))
                after = at + ASKED_BYTES
                ahead = None
                try:
                    data = await now
                finally:
                    now.cancel()
                if after < stop:
                    ahead = self._ask(digest, after, min(after + ASKED_BYTES, stop))
                yield data
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)

    async def delete(self, digest: Digest) -> bool:
        """Remove a blob; False when it was not here."""
        work = partial(_delete, options=self._options, key=self._key(digest))
        return await self._calls.run(work, f"deleting blob {digest[:16]}…")

    async def digests(self) -> AsyncIterator[Digest]:
        """Every blob that is here, sorted."""
        after = ""
        while True:
            work = partial(_list, options=self._options, after=after)
            keys = await self._calls.run(work, "listing the bucket")
            for key in keys:
                name = key.rpartition("/")[2]
                if is_digest(name) and key == self._key(Digest(name)):
                    yield Digest(name)
            if not keys:
                return
            after = keys[-1]

    async def sweep(self) -> int:
        """Give up uploads that nobody went on with; returns how many."""
        return await self._calls.run(partial(_give_up, options=self._options), "giving up old uploads")

    async def check(self) -> None:
        """Find out whether the bucket can be reached.

        Raises:
            ObjectStorageError: environment; it cannot, with what to do.
            ConfigurationError: environment; the account's settings are refused.
        """
        await self._calls.run(partial(_list, options=self._options, after=""), f"looking at {self._options.bucket}")

    def _key(self, digest: Digest) -> str:
        return f"{self._options.prefix}{digest[:2]}/{digest}"

    def _ask(self, digest: Digest, start: int, stop: int) -> asyncio.Task[bytes]:
        work = partial(_get, options=self._options, key=self._key(digest), digest=digest, start=start, stop=stop)
        return asyncio.ensure_future(self._calls.run(work, f"reading blob {digest[:16]}…"))


@asynccontextmanager
async def open_s3(options: S3Options) -> AsyncIterator[S3Storage]:
    """A storage in a bucket; nothing is asked of the store before the first blob is."""
    async with AsyncExitStack() as stack:
        calls, signing = Calls(options), None
        stack.push_async_callback(calls.aclose)
        if options.redirect_s and options.redirect_endpoint:
            signing = Calls(dataclasses.replace(options, endpoint=options.redirect_endpoint))
            stack.push_async_callback(signing.aclose)
        yield S3Storage(options, calls, signing)


async def _until_done(future: asyncio.Future[None]) -> None:
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            continue


def _size(client: Any, *, options: S3Options, key: str) -> int | None:
    return size_of(client, options, key)


def _sign(client: Any, *, options: S3Options, key: str) -> str:
    wanted = {"Bucket": options.bucket, "Key": key}
    return str(client.generate_presigned_url("get_object", Params=wanted, ExpiresIn=options.redirect_s))


def _put(client: Any, *, options: S3Options, key: str, staged: Path, size: int, stop: threading.Event) -> None:
    with storage_faults("reading a staged file"):
        fd = os.open(staged, os.O_RDONLY | os.O_CLOEXEC)
    try:
        got = os.fstat(fd).st_size
        if got != size:
            raise StorageError(f"storing {key}: the staged file has {got} bytes instead of {size}")
        upload(client, options, key, fd, size, stop)
    finally:
        os.close(fd)
    with storage_faults("removing a staged file"):
        staged.unlink(missing_ok=True)


def _get(client: Any, *, options: S3Options, key: str, digest: Digest, start: int, stop: int) -> bytes:
    from botocore.exceptions import BotoCoreError

    for last in (False,) * (_TRIES - 1) + (True,):
        answer = _ask_range(client, options, key, digest, start, stop)
        try:
            data = b"".join(_body(answer, stop - start, time.monotonic() + options.deadline_s, key))
        except BotoCoreError:
            if last:
                raise
            continue
        finally:
            answer["Body"].close()
        if len(data) == stop - start:
            return data
    raise ObjectStorageError(
        f"the object store breaks off {key} at every try", zh=f"读取 {key} 时对象存储每次都提前断开"
    )


def _ask_range(client: Any, options: S3Options, key: str, digest: Digest, start: int, stop: int) -> dict[str, Any]:
    from botocore.exceptions import ClientError

    try:
        answer: dict[str, Any] = client.get_object(Bucket=options.bucket, Key=key, Range=f"bytes={start}-{stop - 1}")
    except ClientError as error:
        if is_absent(error):
            raise NotFoundError(f"blob {digest[:16]}… is not here", zh=f"没有数据块文件 {digest[:16]}…") from error
        if code_of(error) in {"InvalidRange", "416"}:
            raise _short(digest, stop - start) from error
        raise
    got = str(answer.get("ContentRange", ""))
    if got.startswith(f"bytes {start}-{stop - 1}/"):
        return answer
    answer["Body"].close()
    if got.startswith(f"bytes {start}-"):
        raise _short(digest, stop - start - int(answer["ContentLength"]))
    raise ObjectStorageError(
        f"the object store answers {key} with other bytes than were asked for ({got or 'no range'})",
        zh=f"对象存储未按请求的区间返回 {key}",
    )


def _body(answer: dict[str, Any], count: int, until: float, key: str) -> Iterator[bytes]:
    left = count
    while left > 0:
        if time.monotonic() > until:
            raise ObjectStorageError(f"the object store is too slow with {key}", zh=f"对象存储返回 {key} 过慢")
        data = answer["Body"].read(min(_READ_BYTES, left))
        if not data:
            return
        left -= len(data)
        yield data


def _short(digest: Digest, lacking: int) -> StorageDamagedError:
    return StorageDamagedError(
        f"blob {digest[:16]}… ends {lacking} bytes early",
        zh=f"数据块文件 {digest[:16]}… 缺少 {lacking} 字节",
        hint="restore this blob from a backup or publish its file again",
        hint_zh="请从备份恢复该文件或重新发布",
    )


def _delete(client: Any, *, options: S3Options, key: str) -> bool:
    if size_of(client, options, key) is None:
        return False
    client.delete_object(Bucket=options.bucket, Key=key)
    return True


def _list(client: Any, *, options: S3Options, after: str) -> list[str]:
    page = client.list_objects_v2(Bucket=options.bucket, Prefix=options.prefix, StartAfter=after, MaxKeys=1000)
    return [str(one["Key"]) for one in page.get("Contents", ())]


def _give_up(client: Any, *, options: S3Options) -> int:
    return give_up_stale(client, options)
