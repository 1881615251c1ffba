"""Making patches: small where there is something in common, none where there is not, memory bounded."""

import asyncio
import os
import random
import subprocess
import sys
import textwrap

import pytest
from support.small_disk import small_disk
from support.storage_contract import collect, store_bytes

from manifests.digests import digest_of
from manifests.errors import StorageFullError
from manifests.patches import apply_patch
from manifests.pieces import PIECE_SIZE, BlobRef
from origin.publish import patching
from origin.publish.patching import make_patch
from origin.storage.local import LocalStorage

MIB = 1024 * 1024


class Elsewhere(LocalStorage):
    """Without files of this machine, as object storage is."""

    def local_path(self, digest):
        return None


@pytest.fixture(params=[LocalStorage, Elsewhere], ids=["local", "elsewhere"])
def storage(request, tmp_path):
    return request.param(tmp_path / "blobs")


@pytest.fixture
def staging(tmp_path):
    path = tmp_path / "staging"
    path.mkdir()
    return path


async def apply(storage, old: BlobRef, patch, size: int) -> bytes:
    before = await collect(storage, old.digest, 0, old.size)
    delta = await collect(storage, patch.blob, 0, patch.size)
    return b"".join(
        apply_patch(lambda a, b: before[a:b], lambda a, b: delta[a:b], patch.size, old_size=old.size, new_size=size)
    )


async def test_a_trimmed_intro_is_a_small_patch(storage, staging):
    old_bytes = random.Random(1).randbytes(20 * MIB)
    new_bytes = b"new header" + old_bytes[3 * MIB + 777 :]
    old, new = await store_bytes(storage, staging, old_bytes), await store_bytes(storage, staging, new_bytes)
    patch = await make_patch(storage, staging, old, new, 0.5)
    assert patch is not None
    assert (patch.source, patch.table) == (old.digest, None)
    assert patch.size < len(new_bytes) // 1000
    assert await storage.size(patch.blob) == patch.size
    assert digest_of(await apply(storage, old, patch, new.size)) == new.digest
    assert list(staging.iterdir()) == []


async def test_a_long_patch_has_a_piece_table(storage, staging):
    rng = random.Random(2)
    old_bytes = rng.randbytes(3 * MIB)
    new_bytes = old_bytes[: 2 * MIB] + rng.randbytes(MIB)
    old, new = await store_bytes(storage, staging, old_bytes), await store_bytes(storage, staging, new_bytes)
    patch = await make_patch(storage, staging, old, new, 0.5)
    assert patch is not None
    assert patch.size > PIECE_SIZE
    assert patch.ref.table_ref is not None
    assert await storage.size(patch.ref.table_ref.digest) == patch.ref.table_ref.size
    assert await apply(storage, old, patch, new.size) == new_bytes


@pytest.mark.parametrize("size", [100, 20_000, 2 * MIB, 20 * MIB])
async def test_unrelated_blobs_have_none(storage, staging, size):
    old = await store_bytes(storage, staging, os.urandom(size))
    new = await store_bytes(storage, staging, os.urandom(size))
    assert await make_patch(storage, staging, old, new, 0.5) is None
    assert await make_patch(storage, staging, new, new, 0.5) is None
    assert list(staging.iterdir()) == []


async def test_the_ratio_decides(storage, staging):
    rng = random.Random(3)
    old_bytes = rng.randbytes(MIB)
    new_bytes = old_bytes[: MIB // 2] + rng.randbytes(MIB // 2)
    old, new = await store_bytes(storage, staging, old_bytes), await store_bytes(storage, staging, new_bytes)
    assert await make_patch(storage, staging, old, new, 0.4) is None
    assert await make_patch(storage, staging, old, new, 0.6) is not None
    assert list(staging.iterdir()) == []


async def test_cancelling_leaves_nothing(tmp_path, staging, monkeypatch):
    storage = LocalStorage(tmp_path / "blobs")
    data = random.Random(4).randbytes(40 * MIB)
    old, new = await store_bytes(storage, staging, data), await store_bytes(storage, staging, data[MIB:])
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    encode = patching.encode_segment

    def announce(*args):
        loop.call_soon_threadsafe(begun.set)
        return encode(*args)

    monkeypatch.setattr(patching, "encode_segment", announce)
    task = asyncio.create_task(make_patch(storage, staging, old, new, 0.5))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(staging.iterdir()) == []


async def test_a_full_disk(tmp_path):
    rng = random.Random(5)
    old_bytes = rng.randbytes(MIB)
    new_bytes = old_bytes + rng.randbytes(MIB // 2)
    with small_disk(tmp_path / "disk", "3m") as disk:
        staging = disk / "staging"
        staging.mkdir()
        storage = LocalStorage(disk / "blobs")
        old, new = await store_bytes(storage, staging, old_bytes), await store_bytes(storage, staging, new_bytes)
        (disk / "filler").write_bytes(bytes(200 * 1024))
        with pytest.raises(StorageFullError):
            await make_patch(storage, staging, old, new, 0.9)
        assert list(staging.iterdir()) == []


def test_memory_does_not_grow_with_the_blobs(tmp_path):
    """Two mapped blobs of 192 MiB: what this process holds of them is given back on the way."""
    script = textwrap.dedent(
        """
        import asyncio, random, sys
        from pathlib import Path
        from origin.publish.ingest import ingest
        from origin.publish.patching import make_patch
        from origin.publish.source import file_source, stamp_of
        from origin.storage.local import LocalStorage

        async def main():
            root = Path(sys.argv[1]); (root / "staging").mkdir()
            storage = LocalStorage(root / "blobs")
            block = random.Random(6).randbytes(1 << 20)
            refs = []
            for skip in (0, 5):
                path = root / f"{skip}.mp4"
                with path.open("wb") as file:
                    for n in range(skip, 192):
                        file.write(n.to_bytes(8, "big") + block[n * 4096 % (1 << 19):] + block[: n * 4096 % (1 << 19)])
                refs.append(await ingest(file_source(path, stamp_of(path)), storage, root / "staging"))
                path.unlink()
            patch = await make_patch(storage, root / "staging", *refs, 0.5)
            assert patch is not None
            peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
            print(peak, patch.size)

        asyncio.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=True)
    peak_kib, size = map(int, done.stdout.split())
    assert peak_kib < 250 * 1024
    assert size < 192 * MIB // 100
