"""The origin put together: everything is made here, once, and handed down; nothing is global.

Who uses it: the command line, the demonstration, tests. Each opens an origin, does one thing, and closes it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.bundle import Bundle
from manifests.errors import ConfigurationError, InputError, StorageFullError
from manifests.names import Region, parse_region
from manifests.settings import load_settings
from origin.clock import Clock
from origin.database.engine import open_database, sqlite_url
from origin.metrics import Metrics
from origin.paths import Paths
from origin.publish.files import write_durably
from origin.publish.ingest import Progress
from origin.publish.keys import KeyRing
from origin.publish.publish import Foresight, Publishing, PublishRequest
from origin.publish.release import Released, Releases, Terms, Workshop
from origin.publish.renewal import keep_renewed
from origin.publish.signing import DAY_S
from origin.publish.workspace import open_workspace
from origin.settings import Settings
from origin.stations import registry
from origin.storage.ballast import Ballast
from origin.storage.base import BlobStorage
from origin.storage.faults import storage_faults
from origin.storage.local import LocalStorage
from origin.web.console.wiring import add_console
from origin.web.content import Content
from origin.web.reports import Reports
from origin.web.server import new_application, running
from origin.web.status import OriginStatus, StatusPages, read_status

__all__ = [
    "PASSPHRASE",
    "Origin",
    "check_new_root",
    "enroll",
    "init_origin",
    "make_app",
    "open_origin",
    "publish",
    "read_origin_status",
    "recall",
    "serve",
]

log = structlog.get_logger(__name__)

PASSPHRASE: Final = "YUANJIAO_KEYS_PASSPHRASE"  # noqa: S105 - the variable's name, not a passphrase
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised here, not bound to
_TOML: Final = """\
# 省级源站设置 / settings of this origin. README.md, Settings, lists every key with its default.
[publisher]
region = "{region}"
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """An open origin."""

    settings: Settings
    paths: Paths
    storage: BlobStorage
    releases: Releases
    publishing: Publishing
    engine: AsyncEngine
    clock: Clock
    metrics: Metrics

    @property
    def region(self) -> Region:
        """Whom it publishes for."""
        return Region(self.settings.publisher.region)


async def init_origin(
    root: Path,
    region: str,
    *,
    passphrase: str | None,
    clock: Clock,
    root_keys: int = 1,
    root_threshold: int = 1,
    env: Mapping[str, str] | None = None,
) -> None:
    """Make an origin: directories, keys, settings, database, and a first, empty release.

    An init that was cut off is completed by the next one.

    Raises:
        InputError: bad data; a region that is none, or a threshold beyond the number of keys.
        ConfigurationError: environment; the directory is an origin already, or holds something else.
        StorageError: environment.
    """
    code = parse_region(region)
    paths = Paths(root)
    await asyncio.to_thread(_prepare, paths, code)
    async with open_origin(root, env or {}, clock, passphrase=passphrase) as origin:
        await origin.releases.establish(root_keys, root_threshold)


def check_new_root(root: Path) -> None:
    """Refuse a directory in which no origin can be made.

    Raises:
        ConfigurationError: environment; it is an origin already, or holds something else.
        StorageError: environment.
    """
    paths = Paths(root)
    with storage_faults(f"looking at {root}"):
        if (paths.metadata / "timestamp.json").exists():
            raise ConfigurationError(
                f"{paths.root} is an origin already; its keys are not overwritten",
                zh=f"{paths.root} 已经是源站，不会覆盖其密钥",
                hint="choose another directory, or go on using this one",
                hint_zh="请另选目录，或直接使用现有源站",
            )
        if root.exists() and not paths.settings.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ConfigurationError(
                f"{paths.root} is not empty and is no origin",
                zh=f"{paths.root} 不是空目录，也不是源站",
                hint="choose an empty directory",
                hint_zh="请选择一个空目录",
            )


def _prepare(paths: Paths, region: Region) -> None:
    check_new_root(paths.root)
    with storage_faults(f"making {paths.root}"):
        paths.root.mkdir(parents=True, exist_ok=True)
    # First of all, so that an init that is cut off after this is known as one.
    write_durably(paths.settings, _TOML.format(region=region).encode())


@asynccontextmanager
async def open_origin(
    root: Path,
    env: Mapping[str, str],
    clock: Clock,
    *,
    passphrase: str | None = None,
    keys_dir: Path | None = None,
) -> AsyncIterator[Origin]:
    """Open an origin; everything it holds is given back at the end.

    Args:
        root: its directory.
        env: environment, whose `YUANJIAO_…` names override settings.
        clock: where now comes from.
        passphrase: of the private keys, when they have one; else the environment's.
        keys_dir: another directory with private keys, looked at first: the medium from the drawer.

    Raises:
        ConfigurationError: bad data; no origin, or a setting is wrong (all faults in one message).
        StorageError: environment.
    """
    paths = Paths(root)
    settings = await asyncio.to_thread(_load, paths, env)
    with storage_faults(f"opening {root}"):
        paths.make()
    ballast = Ballast(paths.ballast)
    async with AsyncExitStack() as stack:
        stack.callback(ballast.take)
        try:
            staging, engine = await stack.enter_async_context(_working_parts(paths, settings))
        except StorageFullError:
            if not ballast.drop():
                raise
            staging, engine = await stack.enter_async_context(_working_parts(paths, settings))
        storage = LocalStorage(paths.blobs)
        directories = [keys_dir, paths.keys] if keys_dir else [paths.keys]
        keys = KeyRing(directories, passphrase or env.get(PASSPHRASE))
        region = Region(settings.publisher.region)
        releases = Releases(_workshop(settings, paths, staging, storage, engine, keys, clock, ballast))
        yield Origin(
            settings=settings,
            paths=paths,
            storage=storage,
            releases=releases,
            publishing=Publishing(storage, staging, releases, settings.publish, region, clock),
            engine=engine,
            clock=clock,
            metrics=Metrics(),
        )


@asynccontextmanager
async def _working_parts(paths: Paths, settings: Settings) -> AsyncIterator[tuple[Path, AsyncEngine]]:
    """What needs room on the disk even to be opened: a staging directory of this process, the database's side files."""
    url = settings.database.url or sqlite_url(paths.database)
    with open_workspace(paths.staging) as staging:
        async with open_database(url) as engine:
            yield staging, engine


def _load(paths: Paths, env: Mapping[str, str]) -> Settings:
    with storage_faults(f"reading {paths.settings}"):
        try:
            text = paths.settings.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigurationError(
                f"{paths.root} is no origin: it has no {paths.settings.name}",
                zh=f"{paths.root} 不是源站：缺少 {paths.settings.name}",
                hint="name an origin's directory, or make one with `yuanjiao origin init DIR`",
                hint_zh="请指定源站目录，或用 `yuanjiao origin init DIR` 新建",
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f"{paths.settings} is not UTF-8", zh=f"{paths.settings} 不是 UTF-8 文本"
            ) from error
    return load_settings(Settings, text, env, str(paths.settings))


def _workshop(
    settings: Settings,
    paths: Paths,
    staging: Path,
    storage: BlobStorage,
    engine: AsyncEngine,
    keys: KeyRing,
    clock: Clock,
    ballast: Ballast,
) -> Workshop:
    trust = settings.trust
    return Workshop(
        engine=engine,
        storage=storage,
        staging=staging,
        metadata=paths.metadata,
        lock=paths.lock,
        keys=keys,
        clock=clock,
        publisher=Region(settings.publisher.region),
        ballast=ballast,
        terms=Terms(
            timestamp_s=trust.timestamp_hours * 3600,
            snapshot_s=trust.snapshot_days * DAY_S,
            targets_s=trust.targets_days * DAY_S,
            root_s=trust.root_days * DAY_S,
        ),
        catalog_patches=settings.catalog.patches,
        patch_max_ratio=settings.publish.patch_max_ratio,
        lock_deadline_s=settings.publish.lock_deadline_s,
    )


async def foresee(origin: Origin, request: PublishRequest) -> Foresight:
    """What a publish would do, and which courseware it would make or replace; changes nothing.

    Raises:
        InputError: bad data.
    """
    return await origin.publishing.foresee(request)


async def publish(origin: Origin, request: PublishRequest, progress: Progress | None = None) -> Released:
    """Publish one courseware, or a new version of it.

    Raises:
        InputError: bad data; nothing was changed.
        ConfigurationError: environment; a key is absent. Nothing was changed.
        BusyError: environment; another publish did not end in time.
        StorageError: environment; the old release is whole.
    """
    return await origin.publishing.publish(request, progress)


async def recall(origin: Origin, courseware_id: str, reason: str) -> Released:
    """Take a courseware back from every screen.

    Raises:
        NotFoundError: bad data; no such courseware was ever offered.
        InputError: bad data; the reason is refused.
    """
    return await origin.releases.recall(courseware_id, reason)


async def enroll(origin: Origin, county: str, upstreams: tuple[str, ...] = (), with_key: bool = True) -> Bundle:
    """Enrol an edge and make the file to carry to it.

    Args:
        origin: where it is enrolled.
        county: its region code, or its Chinese name.
        upstreams: base addresses, most preferred first; empty for those of the settings.
        with_key: give it a key pair; without, the edge makes its own.

    Raises:
        InputError: bad data; the county is unknown, or no upstream is known.
    """
    addresses = upstreams or origin.settings.publisher.upstreams
    if not addresses:
        raise InputError(
            "no upstream address is known for the edge",
            zh="没有可写入开通文件的上游地址",
            hint="name one with --upstream, or set publisher.upstreams in origin.toml",
            hint_zh="请用 --upstream 指定，或在 origin.toml 中设置 publisher.upstreams",
        )
    root_json = await origin.releases.root_text()
    return await registry.enroll(
        origin.engine, county, "", addresses, root_json, origin.clock, with_key, publisher=origin.region
    )


async def read_origin_status(origin: Origin) -> OriginStatus:
    """How the origin is, as /healthz tells it.

    Raises:
        StorageError: environment.
    """
    return await read_status(origin.engine, origin.releases, origin.paths.blobs, origin.region, origin.clock)


def make_app(origin: Origin) -> web.Application:
    """The HTTP side of an open origin."""
    content = Content(
        origin.storage,
        origin.paths.metadata,
        origin.releases.signed_catalog,
        origin.metrics,
        origin.settings.serve.stall_s,
    )
    pages = StatusPages(lambda: read_origin_status(origin), origin.metrics, origin.settings.publisher.name)
    app = new_application()
    app.add_routes(content.routes())
    app.add_routes(pages.routes())
    app.add_routes(Reports(origin.engine, origin.clock, origin.metrics, origin.settings.reports.run_days).routes())
    add_console(app, origin.settings, origin.engine, origin.releases, origin.paths.blobs, origin.clock)
    return app


async def serve(
    root: Path,
    host: str | None,
    port: int | None,
    env: Mapping[str, str],
    clock: Clock,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve an origin until SIGTERM or SIGINT, and keep its signatures alive.

    Args:
        root: its directory.
        host: address to listen on; None for the setting.
        port: TCP port; None for the setting, 0 for any that is free.
        env: environment.
        clock: where now comes from.
        ready: told the address, once requests are answered.

    Raises:
        ConfigurationError: bad data; no origin, a wrong setting, or an address that cannot be listened on.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with open_origin(root, env, clock) as origin:
            settings = origin.settings.serve
            address = host or settings.host
            wanted = settings.port if port is None else port
            async with running(make_app(origin), address, wanted, settings, origin.metrics) as bound:
                url = f"http://{'127.0.0.1' if address in _ANY else address}:{bound}"
                log.info("serving", url=url, directory=str(root))
                renewal = asyncio.create_task(
                    keep_renewed(origin.releases, origin.metrics, settings.renew_minutes * 60.0)
                )
                try:
                    if ready is not None:
                        ready(url)
                    await stop.wait()
                finally:
                    log.info("stopping", deadline_s=settings.shutdown_s)
                    renewal.cancel()
                    await asyncio.wait({renewal})
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
