"""Taking a lesson back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.releases import (
    AddressIn,
    Edge,
    catalog_of,
    copy_origin,
    draft,
    offered,
    on_database,
    open_releases,
    run_act,
)

from manifests.catalog import diff_catalogs, parse_target
from manifests.errors import InputError, NotFoundError


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory, address_in: AddressIn) -> Path:
    root = tmp_path_factory.mktemp("founded") / "origin"
    on_database(root, address_in(root))

    async def found() -> None:
        async with open_releases(root) as releases:
            await releases.establish()
            await releases.publish_many([draft("kj-1"), draft("kj-2")])

    asyncio.run(found())
    return root


@pytest.fixture
def origin(founded: Path, tmp_path: Path) -> Path:
    return copy_origin(founded, tmp_path / "origin")


async def test_a_recalled_lesson_is_out_of_the_catalog_and_named_in_it(origin: Path) -> None:
    async with open_releases(origin) as releases:
        edge = Edge(origin.parent / "edge", origin, await releases.root_text())
        edge.poll()
        before = await catalog_of(releases)
        done = await releases.recall("kj-1", "画面有误")
        assert (done.id, done.version, done.catalog_version, done.files) == ("kj-1", 1, 3, ())
        after = await catalog_of(releases)
        diff = diff_catalogs(before, after)
        assert [item.id for item in diff.removed] == ["kj-1"]
        assert [(one.id, one.version, one.reason) for one in diff.recalled] == [("kj-1", 1, "画面有误")]
        assert parse_target(edge.poll().custom).version == 3


async def test_recalling_again_changes_nothing_and_publishing_again_rises(origin: Path) -> None:
    async with open_releases(origin) as releases:
        await releases.recall("kj-1", "错误")
        again = await releases.recall("kj-1", "还是错误")
        assert (again.version, again.catalog_version, again.changed) == (1, 3, False)
        back = await releases.publish(draft("kj-1"))
        assert (back.version, back.changed) == (2, True)
        catalog = await catalog_of(releases)
        assert [(one.id, one.version) for one in catalog.recalls] == [("kj-1", 1)]
        await releases.recall("kj-1", "又有错误")
        assert [(one.id, one.version) for one in (await catalog_of(releases)).recalls] == [("kj-1", 2)]
        assert await offered(releases) == {"kj-2": 1}


@pytest.mark.parametrize(
    ("key", "reason", "error"),
    [
        ("kj-9", "错误", NotFoundError),
        ("../x", "错误", InputError),
        ("kj-1", "", InputError),
        ("kj-1", "a\nb", InputError),
    ],
)
async def test_what_cannot_be_recalled_is_told(origin: Path, key: str, reason: str, error: type[InputError]) -> None:
    async with open_releases(origin) as releases:
        with pytest.raises(error) as caught:
            await releases.recall(key, reason)
        assert caught.value.exit_code == 2
        assert (await catalog_of(releases)).version == 2


async def test_a_lesson_that_never_landed_cannot_be_recalled(origin: Path) -> None:
    assert run_act(origin, "publish", ["kj-3"], "publish:begun") == -9
    async with open_releases(origin) as releases:
        with pytest.raises(NotFoundError):
            await releases.recall("kj-3", "错误")


@pytest.mark.parametrize("point", ["publish:begun", "publish:snapshot-written", "publish:timestamp-renamed"])
async def test_a_recall_that_was_killed_is_repeated(origin: Path, point: str) -> None:
    assert run_act(origin, "recall", ["kj-1", "错误"], point) == -9
    async with open_releases(origin) as releases:
        done = await releases.recall("kj-1", "错误")
        assert done.changed is (point != "publish:timestamp-renamed")
        catalog = await catalog_of(releases)
        assert [item.id for item in catalog.courseware] == ["kj-2"]
        assert [(one.id, one.version) for one in catalog.recalls] == [("kj-1", 1)]
        assert await releases.repair() == ()
