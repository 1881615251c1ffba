"""Replacing keys: every edge follows by itself, at every instant of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.releases import Edge, copy_origin, draft, offered, open_releases, run_act
from tuf.api.exceptions import RepositoryError

from manifests.catalog import parse_target
from manifests.errors import ConfigurationError, InputError
from origin.publish.failpoints import ROTATE_POINTS
from origin.publish.keys import ROLES, KeyRing


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("founded") / "origin"

    async def found() -> None:
        async with open_releases(root) as releases:
            await releases.establish(root_keys=3, threshold=2)
            await releases.publish(draft())

    asyncio.run(found())
    return root


@pytest.fixture
def origin(founded: Path, tmp_path: Path) -> Path:
    return copy_origin(founded, tmp_path / "origin")


async def test_an_edge_follows_the_rotation_of_every_role(origin: Path) -> None:
    async with open_releases(origin) as releases:
        first_root = await releases.root_text()
        near = Edge(origin.parent / "near", origin, first_root)
        near.poll()
        for n, role in enumerate(("timestamp", "snapshot", "targets", "root", "root")):
            done = await releases.rotate(role)
            assert (done.role, done.root_version) == (role, n + 2)
            assert not set(done.keys) & set(done.retired)
            assert len(done.keys) == (3 if role == "root" else 1)
            near.poll()
            await releases.publish(draft(content=f"after {role} {n}"))
            assert parse_target(near.poll().custom).version == n + 3
        # One that slept through all of it starts from the root in its drawer.
        far = Edge(origin.parent / "far", origin, first_root)
        assert far.poll().hashes == near.poll().hashes
        newest = Edge(origin.parent / "newest", origin, await releases.root_text())
        assert newest.poll().hashes == near.poll().hashes
        assert (origin / "metadata" / "timestamp.json").stat().st_size < 600
    files = sorted(path.name for path in (origin / "keys").glob("*.pem"))
    assert files == ["root-2.pem", "root-3.pem", "root.pem", "snapshot.pem", "targets.pem", "timestamp.pem"]
    assert len(list((origin / "keys" / "retired").iterdir())) == 9


async def test_a_revoked_key_signs_for_nobody(origin: Path) -> None:
    async with open_releases(origin) as releases:
        edge = Edge(origin.parent / "edge", origin, await releases.root_text())
        edge.poll()
        stolen = copy_origin(origin, origin.parent / "stolen")
        await releases.rotate("timestamp")
        edge.poll()
    async with open_releases(stolen) as thief:
        await thief.publish(draft("kj-evil"))
        for _ in range(3):
            await thief.publish(draft("kj-evil", str(_)))
    for path in (stolen / "metadata").iterdir():
        if path.name != "1.root.json":
            path.replace(origin / "metadata" / path.name)
    with pytest.raises(RepositoryError, match="timestamp"):
        edge.poll()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("point", ROTATE_POINTS)
async def test_killed_anywhere_edges_are_served_and_the_rotation_can_be_repeated(
    origin: Path, role: str, point: str
) -> None:
    async with open_releases(origin) as releases:
        edge = Edge(origin.parent / "edge", origin, await releases.root_text())
        edge.poll()
        expected = None if (role, point) == ("root", "rotate:signed") else -9
        code = run_act(origin, "rotate", [role], point)
        assert code == (0 if expected is None else expected)
        assert parse_target(edge.poll().custom).version == 2
        await releases.repair()
        edge.poll()
        assert not list((origin / "keys").glob("*.next.pem"))
        await releases.rotate(role)
        await releases.publish(draft("kj-2"))
        assert parse_target(edge.poll().custom).version == 3
        assert await offered(releases) == {"kj-1": 1, "kj-2": 1}
        assert await releases.repair() == ()


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
async def test_a_lost_key_is_replaced_by_the_root_keys(origin: Path, role: str) -> None:
    (origin / "keys" / f"{role}.pem").unlink()
    async with open_releases(origin) as releases:
        edge = Edge(origin.parent / "edge", origin, await releases.root_text())
        with pytest.raises(ConfigurationError, match=rf"missing {role}\.pem"):
            await releases.publish(draft("kj-2"))
        await releases.rotate(role)
        await releases.publish(draft("kj-2"))
        assert parse_target(edge.poll().custom).version == 3


async def test_a_lost_key_whose_rotation_was_killed_is_repaired(origin: Path) -> None:
    (origin / "keys" / "targets.pem").unlink()
    assert run_act(origin, "rotate", ["targets"], "rotate:root-written") == -9
    async with open_releases(origin) as releases:
        edge = Edge(origin.parent / "edge", origin, await releases.root_text())
        assert any("signed anew" in line for line in await releases.repair())
        assert parse_target(edge.poll().custom).version == 2


async def test_root_keys_are_needed_to_the_threshold_and_nothing_is_changed_without(origin: Path) -> None:
    stick = origin.parent / "stick"
    stick.mkdir()
    for path in sorted((origin / "keys").glob("root*.pem")):
        path.rename(stick / path.name)
    (stick / "root-3.pem").unlink()
    before = sorted(path.name for path in origin.rglob("*") if "sqlite" not in path.name)
    async with open_releases(origin) as releases:
        for role in ROLES:
            with pytest.raises(ConfigurationError, match=r"root needs 2 key"):
                await releases.rotate(role)
        with pytest.raises(InputError, match="no role"):
            await releases.rotate("nobody")
        assert sorted(path.name for path in origin.rglob("*") if "sqlite" not in path.name) == before
        await releases.publish(draft("kj-2"))
        edge = Edge(origin.parent / "edge", origin, await releases.root_text())
        edge.poll()
    async with open_releases(origin, keys=KeyRing((origin / "keys", stick))) as releases:
        await releases.rotate("root")
        await releases.rotate("targets")
        edge.poll()
    assert sorted(path.name for path in stick.glob("*.pem")) == ["root-2.pem", "root-3.pem", "root.pem"]
