"""A whole origin without its HTTP side, and an edge's TUF client that reads its directory."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from support.postgres import copy_database
from tuf.api.exceptions import DownloadHTTPError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater

from manifests.instants import Instant
from manifests.model import Catalog, File
from manifests.names import CoursewareId, Region
from origin.clock import system_clock
from origin.database.engine import open_database, sqlite_url
from origin.publish.failpoints import VARIABLE
from origin.publish.keys import KeyRing
from origin.publish.pilot_plan import PilotWish
from origin.publish.pilot_plan import Terms as PilotTerms
from origin.publish.piloting import Pilots
from origin.publish.release import Draft, Releases, RestoreWish, Workshop
from origin.publish.sharing import Sharing
from origin.storage.ballast import Ballast
from origin.storage.local import LocalStorage

PROVINCE = Region("410000")
DATABASE = "database.txt"
TERM = "lease.txt"

AddressIn = Callable[[Path], str]
"""Gives the address of a new database for an origin in some directory."""


class ManualClock:
    """A clock that a test moves."""

    def __init__(self, now: int | None = None) -> None:
        self.now = system_clock() if now is None else now

    def __call__(self) -> Instant:
        return Instant(self.now)


def address_of(root: Path) -> str:
    """The address of the origin's database: what a file beside it says, else SQLite."""
    named = root / DATABASE
    return named.read_text() if named.exists() else sqlite_url(root / "origin.sqlite")


def term_of(root: Path) -> float:
    """How long this origin's lease lasts: what a file beside it says, else longer than any stall of a busy machine."""
    named = root / TERM
    return float(named.read_text()) if named.exists() else 30.0


def on_database(root: Path, address: str) -> None:
    """Have the origin in `root` keep its library in this database."""
    root.mkdir(parents=True, exist_ok=True)
    (root / DATABASE).write_text(address)


@asynccontextmanager
async def open_releases(root: Path, **changes: Any) -> AsyncIterator[Releases]:
    """Releases over the directory `root`; `changes` replace parts of the workshop."""
    for name in ("blobs", "metadata", "staging"):
        (root / name).mkdir(parents=True, exist_ok=True)
    async with open_database(address_of(root)) as engine:
        parts: dict[str, Any] = {
            "engine": engine,
            "storage": LocalStorage(root / "blobs"),
            "staging": root / "staging",
            "metadata": root / "metadata",
            "lock": root / "publish.lock",
            "ballast": Ballast(root / "ballast"),
            "keys": KeyRing((root / "keys",)),
            "clock": system_clock,
            "publisher": PROVINCE,
            "lock_deadline_s": 30.0,
        }
        if engine.dialect.name != "sqlite":
            parts["sharing"] = Sharing(engine, root / "metadata", root / "publish.lock", term_of(root))
        yield Releases(Workshop(**(parts | changes)))


def file_of(text: str, name: str = "video.mp4") -> File:
    """A small file whose blob is the digest of `text`; releases do not ask for the blob itself."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return File(role="video", name=name, media_type="video/mp4", blob=digest, size=len(text))


def draft(key: str = "kj-1", content: str = "one", **changes: Any) -> Draft:
    """A draft that is right."""
    parts: dict[str, Any] = {
        "id": CoursewareId(key),
        "title": f"课件 {key}",
        "kind": "video",
        "columns": ("农业技术",),
        "audience": (PROVINCE,),
        "files": (file_of(content),),
    }
    return Draft(**(parts | changes))


class _Directory(FetcherInterface):
    def __init__(self, metadata: Path) -> None:
        self.metadata = metadata
        self.asked: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        self.asked.append(name)
        try:
            yield (self.metadata / name).read_bytes()
        except FileNotFoundError:
            raise DownloadHTTPError(f"404 for {name}", 404) from None


class Edge:
    """What an edge does with trust: one updater per poll, started from the root that was carried to it."""

    def __init__(self, home: Path, origin: Path, root_text: str) -> None:
        self._home = home
        self._bootstrap = root_text.encode()
        self.fetcher = _Directory(origin / "metadata")
        home.mkdir(parents=True, exist_ok=True)

    @property
    def asked(self) -> list[str]:
        """Names asked for in the last poll."""
        return self.fetcher.asked

    def poll(self) -> TargetFile:
        """Refresh and return the catalog's entry; raises what the client raises."""
        target = self._target("catalog.json")
        assert target is not None
        return target

    def poll_city(self, city: str) -> TargetFile | None:
        """The same for a city's; None when it may not publish, or never did."""
        try:
            return self._target(f"cities/{city}/catalog.json")
        except RepositoryError as error:
            if "not part of snapshot" in str(error):
                return None
            raise

    def _target(self, path: str) -> TargetFile | None:
        self.fetcher.asked = []
        updater = Updater(
            str(self._home), "http://origin.test/metadata/", fetcher=self.fetcher, bootstrap=self._bootstrap
        )
        updater.refresh()
        return updater.get_targetinfo(path)


async def offered(releases: Releases) -> dict[str, int]:
    """Id and version of everything in the present catalog."""
    _, catalog = await releases.current_catalog()
    return {item.id: item.version for item in catalog.courseware}


async def catalog_of(releases: Releases) -> Catalog:
    """The present catalog."""
    return (await releases.current_catalog())[1]


def copy_origin(source: Path, to: Path) -> Path:
    """A copy of an origin's directory; making keys and tables once is enough for many tests."""
    shutil.copytree(source, to)
    address = address_of(source)
    on_database(to, sqlite_url(to / "origin.sqlite") if address.startswith("sqlite") else copy_database(address))
    return to


def run_act(root: Path, act: str, arguments: Sequence[str] = (), point: str = "") -> int | None:
    """Run one act on an origin in a process of its own, dying at `point`; returns its exit code."""
    context = multiprocessing.get_context("forkserver")
    # The costly imports, once; by names that the server finds without the tests' own path.
    context.set_forkserver_preload(["origin.publish.release", "tuf.ngclient", "sqlalchemy.dialects.sqlite.aiosqlite"])
    process = context.Process(target=_act, args=(str(root), act, tuple(arguments), point))
    process.start()
    process.join(60)
    return process.exitcode


def _act(root: str, act: str, arguments: tuple[str, ...], point: str) -> None:
    if point:
        os.environ[VARIABLE] = point

    async def run() -> None:
        async with open_releases(Path(root)) as releases:
            match act:
                case "publish":
                    await releases.publish(draft(*arguments))
                case "recall":
                    await releases.recall(*arguments)
                case "publish-pilot":
                    first = PilotWish(((Region("410122"),),), PilotTerms())
                    await releases.publish(draft(content="two", pilot=first))
                case "pilots":
                    await Pilots(releases).step_all()
                case "restore":
                    await releases.restore(RestoreWish(int(arguments[0])))
                case "rotate":
                    await releases.rotate(*arguments)
                case "city":
                    if arguments[0] == "rotate":
                        await releases.rotate("cities-410100")
                    else:
                        city = Region("410100")
                        one = draft("410100-kj-1", arguments[1], audience=(city,), publisher=city)
                        await releases.publish(one)
                case "establish":
                    await releases.establish()

    asyncio.run(run())
