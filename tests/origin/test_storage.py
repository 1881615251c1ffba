"""Local storage: the contract, and the faults of a real disk."""

import os
import subprocess
from pathlib import Path

import pytest
from support.storage_contract import StorageContract, stage

from manifests.errors import StorageError, StorageFullError
from origin.storage.faults import storage_error
from origin.storage.local import LocalStorage


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> LocalStorage:
        return LocalStorage(tmp_path / "blobs")


async def test_layout_is_what_sha256sum_prints(tmp_path):
    storage = LocalStorage(tmp_path / "blobs")
    staged, digest, size = stage(tmp_path / "s", b"lesson")
    await storage.put(staged, digest, size)
    path = tmp_path / "blobs" / digest[:2] / digest
    assert path.read_bytes() == b"lesson"
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout
    assert printed.split()[0] == digest


async def test_a_truncated_blob_is_replaced_by_a_whole_one(tmp_path):
    storage = LocalStorage(tmp_path / "blobs")
    staged, digest, size = stage(tmp_path / "s", b"lesson")
    path = tmp_path / "blobs" / digest[:2] / digest
    path.parent.mkdir(parents=True)
    path.write_bytes(b"les")
    await storage.put(staged, digest, size)
    assert path.read_bytes() == b"lesson"


async def test_a_rotten_blob_is_healed_by_publishing_its_file_again(tmp_path):
    storage = LocalStorage(tmp_path / "blobs")
    for _ in range(2):
        staged, digest, size = stage(tmp_path / "s", b"lesson")
        path = tmp_path / "blobs" / digest[:2] / digest
        if path.exists():
            path.write_bytes(b"1esson")
        await storage.put(staged, digest, size)
    assert path.read_bytes() == b"lesson"


async def test_a_directory_in_the_way_is_a_storage_error(tmp_path):
    (tmp_path / "blobs").write_bytes(b"a file where the directory should be")
    staged, digest, size = stage(tmp_path / "s", b"lesson")
    with pytest.raises(StorageError):
        await LocalStorage(tmp_path / "blobs").put(staged, digest, size)
    assert staged.exists()


def test_full_and_broken_disks_are_told_apart():
    assert isinstance(storage_error(OSError(28, "No space left on device"), "x"), StorageFullError)
    assert isinstance(storage_error(OSError(122, "Disk quota exceeded"), "x"), StorageFullError)
    for number in (5, 13, 30):
        error = storage_error(OSError(number, os.strerror(number)), "storing x")
        assert type(error) is StorageError
        assert "storing x" in error.message
        assert "storing x" in error.zh
