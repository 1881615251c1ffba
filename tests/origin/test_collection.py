"""What old releases leave behind goes, and nothing that anybody still needs goes with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.origins import blob_names
from support.releases import Edge, copy_origin, draft, open_releases, run_act

from manifests.catalog import parse_target
from manifests.digests import digest_of
from manifests.errors import StorageError
from manifests.model import File
from origin.publish import collection
from origin.publish.metadata import MetadataDir
from origin.publish.release import Releases

KEPT = 3
MANY = [draft(f"kj-{n:04}", summary="内容" * 60 + str(n)) for n in range(700)]


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An origin whose catalog is longer than a piece, so that tables and patches come with it."""
    root = tmp_path_factory.mktemp("founded") / "origin"

    async def found() -> None:
        async with open_releases(root) as releases:
            await releases.establish()
            await releases.publish_many(MANY)

    asyncio.run(found())
    return root


@pytest.fixture
def origin(founded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(collection, "KEPT_VERSIONS", KEPT)
    return copy_origin(founded, tmp_path / "origin")


def _named(root: Path) -> set[str]:
    """All blobs that the targets files on the disk name."""
    names = [path.name for path in (root / "metadata").glob("*.targets.json")]
    return set[str]().union(*map(MetadataDir(root / "metadata").catalog_blobs, names))


async def _revise(releases: Releases, *, times: int, name: str = "new") -> None:
    for n in range(times):
        await releases.publish(draft("kj-0001", f"{name} {n}"))


async def test_blobs_of_catalogs_go_with_the_last_targets_file_that_names_them(origin: Path) -> None:
    async with open_releases(origin, catalog_patches=2) as releases:
        edge = Edge(origin.parent / "edge", origin, await releases.root_text())
        await _revise(releases, times=2)
        some = blob_names(origin)
        await _revise(releases, times=6, name="newer")
        assert len(list((origin / "metadata").glob("*.targets.json"))) == KEPT
        assert blob_names(origin) == _named(origin)
        assert len(blob_names(origin)) >= KEPT * 3  # each catalog, its table, at least one patch
        assert not some & blob_names(origin)
        ref, _ = await releases.current_catalog()
        target = edge.poll()
        assert target.hashes["sha256"] == ref.digest
        for patch in parse_target(target.custom).patches:
            assert digest_of((origin / "blobs" / patch.blob[:2] / patch.blob).read_bytes()) == patch.blob


async def test_a_catalog_that_somebody_published_as_a_lesson_stays(origin: Path) -> None:
    async with open_releases(origin) as releases:
        ref, _ = await releases.current_catalog()
        lesson = File(
            role="document", name="a.pdf", media_type="application/pdf", blob=ref.digest, size=ref.size, table=ref.table
        )
        await releases.publish(draft("kj-odd", files=(lesson,)))
        await _revise(releases, times=KEPT + 1)
        assert {ref.digest, ref.table} <= blob_names(origin)


@pytest.mark.parametrize("point", ["publish:catalog-stored", "publish:patches-stored", "publish:snapshot-written"])
async def test_what_a_killed_release_stored_goes_at_the_repair(origin: Path, point: str) -> None:
    before = blob_names(origin)
    assert run_act(origin, "publish", ["kj-0001", "lost"], point) == -9
    left = blob_names(origin) - before
    async with open_releases(origin) as releases:
        await releases.repair()
        assert before <= blob_names(origin)
        # Of a release that was never signed nobody wrote down the patches: some hundred bytes each.
        still = blob_names(origin) - before
        assert all((origin / "blobs" / name[:2] / name).stat().st_size < 10_000 for name in still)
        assert len(left) > len(still)
        if point == "publish:snapshot-written":
            assert not still
        await _revise(releases, times=1)


async def test_collecting_that_fails_does_not_undo_the_release(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_releases(origin) as releases:
        await _revise(releases, times=KEPT)
        kept = blob_names(origin)

        async def broken(_digest: str) -> bool:
            raise StorageError("the disk says no")

        monkeypatch.setattr(releases._shop.storage, "delete", broken)
        await _revise(releases, times=2, name="newer")
        assert kept < blob_names(origin)
        monkeypatch.undo()
        monkeypatch.setattr(collection, "KEPT_VERSIONS", KEPT)
        await _revise(releases, times=1, name="newest")
        assert blob_names(origin) == _named(origin)
