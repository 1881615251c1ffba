"""Blobs in a bucket: the contract, uploads that go on, and what a store may do wrong."""

import asyncio
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from support.object_store import bucket_of
from support.storage_contract import StorageContract, collect, stage

from manifests.digests import Digest, digest_of
from manifests.errors import ConfigurationError, ObjectStorageError, StorageDamagedError
from origin.storage.s3 import ASKED_BYTES, S3Storage, open_s3
from origin.storage.s3_client import LEAST_PART_BYTES, Calls, S3Options, connect
from origin.storage.s3_upload import give_up_stale, part_size

_PART = LEAST_PART_BYTES


class BucketContract(StorageContract):
    """The contract, and what only a bucket does; the fixture `storage` gives one."""

    gives_addresses = True

    async def test_two_puts_of_many_parts_at_once(self, storage, staging):
        data = os.urandom(_PART + 17)
        digests = await asyncio.gather(*(self.put(storage, staging, data) for _ in range(3)))
        assert await collect(storage, digests[0], 0, len(data)) == data
        assert list(staging.iterdir()) == []


class TestS3Storage(BucketContract):
    @pytest.fixture
    async def storage(self, bucket: S3Options) -> AsyncIterator[S3Storage]:
        async with open_s3(dataclasses.replace(bucket, redirect_s=600)) as storage:
            yield storage


@pytest.mark.timeout(400)
async def test_the_contract_on_a_store_that_is_used_in_earnest(gateway: S3Options, tmp_path: Path) -> None:
    contract, options = BucketContract(), bucket_of(gateway)
    for number, act in enumerate(
        (
            contract.test_what_was_put_is_read,
            contract.test_the_staged_file_is_taken_over,
            contract.test_putting_twice_is_as_once,
            contract.test_two_puts_at_once,
            contract.test_another_length_is_refused_and_nothing_is_stored,
            contract.test_what_was_read_from_survives_deletion_of_others,
            contract.test_absent,
            contract.test_beyond_the_end_is_damage,
            contract.test_a_reader_may_leave_early,
            contract.test_an_address_gives_the_bytes_to_anybody,
            contract.test_two_puts_of_many_parts_at_once,
            contract.test_what_is_there_is_listed,
            partial(contract.test_ranges_are_half_open, start=0, stop=1),
            partial(contract.test_ranges_are_half_open, start=5, stop=5),
            partial(contract.test_ranges_are_half_open, start=99, stop=100),
        )
    ):
        staging = tmp_path / f"s{number}"
        staging.mkdir()
        async with open_s3(dataclasses.replace(options, prefix=f"test-{number}/", redirect_s=600)) as storage:
            await act(storage, staging)
    await _check_going_on(options, tmp_path / "going-on")
    client = connect(options)
    client.create_multipart_upload(Bucket=options.bucket, Key="henan/ab/x")
    assert give_up_stale(client, options) == 0
    later = datetime.now(UTC) + timedelta(days=options.stale_days, minutes=1)
    assert give_up_stale(client, options, later) == 1


_KILLED = """
import asyncio, dataclasses, os, signal, sys
from pathlib import Path
from manifests.digests import Digest
from origin.storage.s3 import S3Storage
from origin.storage.s3_client import Calls, S3Options, connect

endpoint, bucket, credentials, staged, digest, size, part = sys.argv[1:]
options = S3Options(bucket, "henan/", endpoint, addressing="path", credentials=Path(credentials), part_bytes=int(part))

def make(options):
    client = connect(options)
    def kill(params, **_):
        if params.get("query_string", {}).get("partNumber") == "3" or "partNumber=3" in params.get("url", ""):
            os.kill(os.getpid(), signal.SIGKILL)
    client.meta.events.register("before-call.s3.UploadPart", kill)
    return client

async def main():
    await S3Storage(options, Calls(options, make)).put(Path(staged), Digest(digest), int(size))

asyncio.run(main())
"""


async def test_an_upload_goes_on_after_a_kill(bucket: S3Options, tmp_path: Path) -> None:
    await _check_going_on(bucket, tmp_path / "s")


async def _check_going_on(bucket: S3Options, staging: Path) -> None:
    data = os.urandom(2 * _PART + 4321)
    staged, digest, size = stage(staging, data)
    arguments = [bucket.endpoint, bucket.bucket, str(bucket.credentials), str(staged), digest, str(size), str(_PART)]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], capture_output=True, timeout=120, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    sent: list[int] = []

    def watched(options: S3Options):
        client = connect(options)
        client.meta.events.register("provide-client-params.s3.UploadPart", _note(sent))
        return client

    calls = Calls(bucket, watched)
    storage = S3Storage(bucket, calls)
    assert await storage.size(digest) is None
    await storage.put(staged, digest, size)
    assert sent == [3]
    assert digest_of(await collect(storage, digest, 0, size)) == digest
    assert not staged.exists()
    await calls.aclose()


def _note(sent: list[int]):
    def note(params, **_):
        sent.append(params["PartNumber"])

    return note


async def test_parts_of_other_bytes_are_sent_again(bucket: S3Options, tmp_path: Path) -> None:
    data = os.urandom(_PART + 10)
    staged, digest, size = stage(tmp_path / "s", data)
    client = connect(bucket)
    key = f"henan/{digest[:2]}/{digest}"
    begun = client.create_multipart_upload(Bucket=bucket.bucket, Key=key)["UploadId"]
    client.upload_part(Bucket=bucket.bucket, Key=key, UploadId=begun, PartNumber=1, Body=os.urandom(_PART))
    async with open_s3(bucket) as storage:
        await storage.put(staged, digest, size)
        assert await collect(storage, digest, 0, size) == data


def test_only_old_uploads_are_given_up(bucket: S3Options) -> None:
    client = connect(bucket)
    for key in ("henan/ab/x", "henan/cd/y", "other/z"):
        client.create_multipart_upload(Bucket=bucket.bucket, Key=key)
    # The test server dates every upload to 2010.
    assert give_up_stale(client, dataclasses.replace(bucket, stale_days=36500)) == 0
    later = datetime.now(UTC) + timedelta(days=bucket.stale_days, minutes=1)
    assert give_up_stale(client, bucket, later) == 2
    left = client.list_multipart_uploads(Bucket=bucket.bucket).get("Uploads", [])
    assert [one["Key"] for one in left] == ["other/z"]


async def test_a_cancelled_put_leaves_the_file_to_the_caller(bucket: S3Options, tmp_path: Path) -> None:
    staged, digest, size = stage(tmp_path / "s", os.urandom(3 * _PART))
    async with open_s3(bucket) as storage:
        await storage.size(digest)  # the client is made
        putting = asyncio.create_task(storage.put(staged, digest, size))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        if staged.exists():  # else it was through before it heard of it
            await storage.put(staged, digest, size)
        assert await storage.size(digest) == size


@pytest.mark.parametrize(
    ("size", "wanted", "part"),
    [(1, 1, _PART), (10**9, 16 << 20, 16 << 20), (10**12, 16 << 20, 10**8), (10**12 + 1, _PART, 10**8 + 1)],
)
def test_parts_are_few_enough(size: int, wanted: int, part: int) -> None:
    assert part_size(size, wanted) == part
    assert -(-size // part) <= 10_000


async def test_a_store_that_is_not_there_or_refuses_is_told_in_chinese(bucket: S3Options) -> None:
    for changes, said in (
        ({"endpoint": "http://127.0.0.1:9", "attempts": 1}, "不可用"),
        ({"bucket": "no-such-bucket-here"}, "存储桶不存在"),
    ):
        async with open_s3(dataclasses.replace(bucket, **changes)) as storage:
            with pytest.raises(ObjectStorageError) as caught:
                await storage.check()
            assert said in caught.value.zh
            assert caught.value.exit_code == 5
            assert caught.value.retryable


async def test_credentials_that_others_may_read_are_refused_and_never_repeated(bucket: S3Options, tmp_path) -> None:
    path = tmp_path / "s3.toml"
    path.write_text('access_key = "AKIDTEST"\nsecret_key = "very-secret"\n')
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others") as caught:
        connect(dataclasses.replace(bucket, credentials=path))
    assert "权限" in caught.value.zh
    path.chmod(0o600)
    path.write_text('secret_key = "very-secret')
    with pytest.raises(ConfigurationError) as caught:
        connect(dataclasses.replace(bucket, credentials=path))
    assert "very-secret" not in f"{caught.value.message}{caught.value.zh}{caught.value.hint}"
    with pytest.raises(ConfigurationError, match="no-such-profile"):
        connect(dataclasses.replace(bucket, credentials=None, profile="no-such-profile"))


class _Misbehaving:
    """A store that answers GET as it is told to, portion by portion."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.breaks = 0
        self.ignores_ranges = False
        self.asked: list[tuple[int, int]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        assert found is not None
        start, stop = int(found[1]), int(found[2]) + 1
        self.asked.append((start, stop))
        if self.ignores_ranges:
            return web.Response(body=self.data)
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(self.data)}", "Content-Length": str(stop - start)}
        response = web.StreamResponse(status=206, headers=headers)
        await response.prepare(request)
        if self.breaks:
            self.breaks -= 1
            await response.write(self.data[start : start + 5])
            request.transport.abort()
            return response
        await response.write(self.data[start:stop])
        return response


@pytest.fixture
async def misbehaving(bucket: S3Options, aiohttp_server) -> AsyncIterator[tuple[_Misbehaving, S3Storage]]:
    store = _Misbehaving(os.urandom(2 * ASKED_BYTES + 100))
    app = web.Application()
    app.router.add_get("/{name:.*}", store.answer)
    server = await aiohttp_server(app)
    async with open_s3(dataclasses.replace(bucket, endpoint=f"http://127.0.0.1:{server.port}")) as storage:
        yield store, storage


async def test_a_portion_that_breaks_off_is_asked_for_again(misbehaving) -> None:
    store, storage = misbehaving
    store.breaks = 2
    assert await collect(storage, Digest("a" * 64), 0, len(store.data)) == store.data
    assert store.asked.count((0, ASKED_BYTES)) == 3
    store.breaks = 100
    with pytest.raises(ObjectStorageError):
        await collect(storage, Digest("a" * 64), 0, 10)


async def test_a_store_that_ignores_ranges_is_not_believed(misbehaving) -> None:
    store, storage = misbehaving
    store.ignores_ranges = True
    with pytest.raises(ObjectStorageError, match="other bytes"):
        await collect(storage, Digest("a" * 64), 1, 10)


async def test_a_reader_holds_one_portion_and_one_ahead(misbehaving) -> None:
    store, storage = misbehaving
    portions = storage.read(Digest("a" * 64), 0, len(store.data))
    assert len(await anext(portions)) == ASKED_BYTES
    await portions.aclose()
    assert store.asked[0] == (0, ASKED_BYTES)
    assert len(store.asked) <= 2


async def test_a_shorter_object_is_damage(bucket: S3Options, tmp_path: Path) -> None:
    data = b"lesson"
    staged, digest, size = stage(tmp_path / "s", data)
    async with open_s3(bucket) as storage:
        await storage.put(staged, digest, size)
        for start, stop in ((0, 7), (6, 9), (100, 200)):
            with pytest.raises(StorageDamagedError):
                await collect(storage, digest, start, stop)
