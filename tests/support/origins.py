"""A whole origin in a directory, made once per test module and copied."""

import asyncio
import multiprocessing
import os
from pathlib import Path

from support.releases import ManualClock

from manifests.pieces import BlobRef
from origin import app
from origin.clock import system_clock
from origin.publish.failpoints import VARIABLE
from origin.publish.publish import PublishRequest


def found_origin(root: Path) -> Path:
    """Make an origin with nothing in it."""
    asyncio.run(app.init_origin(root, "410000", passphrase=None, clock=system_clock))
    return root


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


__all__ = ["ManualClock", "blob_names", "blob_of", "found_origin", "publish_at_once", "request", "staged"]
