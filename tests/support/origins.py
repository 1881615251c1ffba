"""A whole origin in a directory, made once per test module and copied."""

import asyncio
import multiprocessing
import os
import shutil
import tomllib
from pathlib import Path

from support.postgres import copy_database
from support.releases import ManualClock

from manifests.pieces import BlobRef
from origin import app
from origin.clock import system_clock
from origin.publish.failpoints import VARIABLE
from origin.publish.publish import PublishRequest


def found_origin(root: Path, address: str = "") -> Path:
    """Make an origin with nothing in it, its library in the database at `address` or, empty, in the usual file."""
    is_server = bool(address) and not address.startswith("sqlite")
    env = {"YUANJIAO_DATABASE_URL": address} if is_server else {}
    asyncio.run(app.init_origin(root, "410000", passphrase=None, clock=system_clock, env=env))
    if is_server:
        _name_database(root, address)
    return root


def copy_origin(source: Path, to: Path) -> Path:
    """A copy of an origin, its database's too."""
    shutil.copytree(source, to)
    address = tomllib.loads((source / "origin.toml").read_text()).get("database", {}).get("url", "")
    if address:
        (to / "origin.toml").write_text((to / "origin.toml").read_text().replace(address, copy_database(address)))
    return to


def _name_database(root: Path, address: str) -> None:
    with (root / "origin.toml").open("a") as file:
        file.write(f'\n[database]\nurl = "{address}"\n')


def request(*files: Path, title: str = "小麦田间管理", **more) -> PublishRequest:
    """A request that is right."""
    return PublishRequest(files=files, title=title, **more)


def publish_at_once(root: Path, *files: Path, point: str = "", **more):
    """Start a publish in a process of its own, which dies at `point`; join it yourself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_publish, args=(str(root), tuple(map(str, files)), point, more))
    process.start()
    return process


def _publish(root: str, files: tuple[str, ...], point: str, more: dict) -> None:
    if point:
        os.environ[VARIABLE] = point

    async def run() -> None:
        async with app.open_origin(Path(root), {}, system_clock) as origin:
            await app.publish(origin, request(*map(Path, files), **more))

    asyncio.run(run())


def blob_names(root: Path) -> set[str]:
    """Names of all blobs on the disk."""
    return {path.name for path in (root / "blobs").rglob("*") if path.is_file()}


def staged(root: Path) -> list[Path]:
    """What lies in staging, locks aside."""
    return [path for path in (root / "staging").rglob("*") if path.is_file() and path.name != ".lock"]


def blob_of(root: Path, ref: BlobRef) -> bytes:
    """A stored blob's bytes."""
    return (root / "blobs" / ref.digest[:2] / ref.digest).read_bytes()


__all__ = [
    "ManualClock",
    "blob_names",
    "blob_of",
    "copy_origin",
    "found_origin",
    "publish_at_once",
    "request",
    "staged",
]
