"""What every `BlobStorage` must do. An implementation's test file subclasses `StorageContract` and gives a factory."""

import asyncio
import os
import urllib.request
from pathlib import Path

import pytest

from manifests.digests import Digest, digest_of
from manifests.errors import NotFoundError, StorageDamagedError, StorageError
from manifests.pieces import BlobRef
from origin.publish.ingest import ingest
from origin.publish.source import bytes_source
from origin.storage.base import PORTION_BYTES, BlobStorage

ABSENT = Digest("0" * 64)


def stage(directory: Path, data: bytes) -> tuple[Path, Digest, int]:
    """Write a staged file as ingest would."""
    directory.mkdir(exist_ok=True)
    path = directory / f"staged-{os.urandom(4).hex()}"
    path.write_bytes(data)
    return path, digest_of(data), len(data)


async def collect(storage: BlobStorage, digest: Digest, start: int, stop: int) -> bytes:
    """Read a range whole."""
    return b"".join([portion async for portion in storage.read(digest, start, stop)])


async def store_bytes(storage: BlobStorage, staging: Path, data: bytes) -> BlobRef:
    """Store bytes that are in memory, with their piece table."""
    return await ingest(bytes_source(data, "bytes"), storage, staging)


class StorageContract:
    """Subclass, name it Test…, and define the fixture `storage`; `staging` is in the same file system."""

    gives_addresses = False

    @pytest.fixture
    def staging(self, tmp_path: Path) -> Path:
        path = tmp_path / "staging"
        path.mkdir()
        return path

    @pytest.fixture
    def storage(self, tmp_path: Path) -> BlobStorage:
        raise AssertionError("a contract needs an implementation")

    async def put(self, storage: BlobStorage, staging: Path, data: bytes) -> Digest:
        staged, digest, size = stage(staging, data)
        await storage.put(staged, digest, size)
        return digest

    async def test_what_was_put_is_read(self, storage, staging):
        data = os.urandom(3 * PORTION_BYTES + 17)
        digest = await self.put(storage, staging, data)
        assert await storage.size(digest) == len(data)
        assert await collect(storage, digest, 0, len(data)) == data

    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, 5), (99, 100), (10, 60), (0, 100)])
    async def test_ranges_are_half_open(self, storage, staging, start, stop):
        data = bytes(range(100))
        digest = await self.put(storage, staging, data)
        assert await collect(storage, digest, start, stop) == data[start:stop]

    async def test_the_staged_file_is_taken_over(self, storage, staging):
        staged, digest, size = stage(staging, b"lesson")
        await storage.put(staged, digest, size)
        assert not staged.exists()
        assert list(staging.iterdir()) == []

    async def test_putting_twice_is_as_once(self, storage, staging):
        first = await self.put(storage, staging, b"lesson")
        assert await self.put(storage, staging, b"lesson") == first
        assert list(staging.iterdir()) == []
        assert await collect(storage, first, 0, 6) == b"lesson"

    async def test_two_puts_at_once(self, storage, staging):
        data = os.urandom(200_000)
        digests = await asyncio.gather(*(self.put(storage, staging, data) for _ in range(4)))
        assert set(digests) == {digest_of(data)}
        assert await collect(storage, digests[0], 0, len(data)) == data
        assert list(staging.iterdir()) == []

    async def test_another_length_is_refused_and_nothing_is_stored(self, storage, staging):
        staged, digest, size = stage(staging, b"lesson")
        with pytest.raises(StorageError):
            await storage.put(staged, digest, size + 1)
        assert await storage.size(digest) is None
        assert staged.exists()

    async def test_what_was_read_from_survives_deletion_of_others(self, storage, staging):
        one = await self.put(storage, staging, b"one")
        two = await self.put(storage, staging, b"two")
        assert await storage.delete(one)
        assert await storage.size(one) is None
        assert storage.local_path(one) is None
        assert await collect(storage, two, 0, 3) == b"two"

    async def test_absent(self, storage, staging):
        assert await storage.size(ABSENT) is None
        assert not await storage.delete(ABSENT)
        assert storage.local_path(ABSENT) is None
        with pytest.raises(NotFoundError):
            await collect(storage, ABSENT, 0, 1)

    async def test_beyond_the_end_is_damage(self, storage, staging):
        digest = await self.put(storage, staging, b"lesson")
        with pytest.raises(StorageDamagedError):
            await collect(storage, digest, 0, 7)

    async def test_a_local_path_has_the_bytes(self, storage, staging):
        digest = await self.put(storage, staging, b"lesson")
        path = storage.local_path(digest)
        if path is not None:
            assert path.read_bytes() == b"lesson"

    async def test_an_address_gives_the_bytes_to_anybody(self, storage, staging):
        assert await storage.address(ABSENT) is None
        digest = await self.put(storage, staging, bytes(range(100)))
        address = await storage.address(digest)
        assert (address is None) == (not self.gives_addresses)
        if address is not None:
            asked = urllib.request.Request(address, headers={"Range": "bytes=10-19"})
            with await asyncio.to_thread(urllib.request.urlopen, asked, timeout=60) as answer:
                assert answer.status == 206
                assert answer.headers["Content-Range"] == "bytes 10-19/100"
                assert answer.read() == bytes(range(10, 20))

    async def test_a_reader_may_leave_early(self, storage, staging):
        digest = await self.put(storage, staging, os.urandom(2 * PORTION_BYTES))
        portions = storage.read(digest, 0, 2 * PORTION_BYTES)
        assert len(await anext(aiter(portions))) <= 8 * PORTION_BYTES
        await portions.aclose()
        assert await storage.delete(digest)

    async def test_what_is_there_is_listed(self, storage, staging):
        assert [digest async for digest in storage.digests()] == []
        put = {await self.put(storage, staging, bytes([n])) for n in range(5)}
        assert [digest async for digest in storage.digests()] == sorted(put)
