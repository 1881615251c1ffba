"""The origin put together: everything is made here, once, and handed down; nothing is global.

Who uses it: the command line, the demonstration, tests. Each opens an origin, does one thing, and closes it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from manifests.bundle import Bundle
from manifests.errors import ConfigurationError, InputError
from manifests.names import Region, parse_region
from origin.clock import Clock
from origin.drafts.admission import Limits
from origin.drafts.intake import Intake, Terms
from origin.drafts.publish_jobs import PublishJobs
from origin.opening import PASSPHRASE, Origin, open_origin
from origin.paths import Paths
from origin.publish.files import write_durably
from origin.publish.ingest import Progress
from origin.publish.piloting import Pilots, keep_pilots
from origin.publish.publish import Foresight, PublishRequest
from origin.publish.release import Released
from origin.publish.renewal import keep_renewed, keep_swept
from origin.settings import Settings
from origin.stations import registry
from origin.storage.faults import storage_faults
from origin.web.console.wiring import ConsoleParts, add_console
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

_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised here, not bound to
_LOOK_FOR_MOVE_S: Final = 1.0
_TOML: Final = """\
# 省级源站设置 / settings of this origin. README.md, Settings, lists every key with its default.
[publisher]
region = "{region}"
"""


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
        origin.sharing.refresh_for_serving if origin.sharing is not None else None,
    )
    pages = StatusPages(lambda: read_origin_status(origin), origin.metrics, origin.settings.publisher.name)
    app = new_application()
    app.add_routes(content.routes())
    app.add_routes(pages.routes())
    app.add_routes(Reports(origin.engine, origin.clock, origin.metrics, origin.settings.reports.run_days).routes())
    intake = Intake(origin.engine, origin.clock, origin.paths.uploads, _upload_terms(origin.settings))
    jobs = PublishJobs(intake, origin.publishing)
    console = ConsoleParts(origin.releases, origin.drafts, intake, jobs, origin.paths.blobs, origin.metrics)
    add_console(app, origin.settings, origin.engine, console, origin.clock)
    return app


def _upload_terms(settings: Settings) -> Terms:
    told = settings.uploads
    limits = Limits(told.file_bytes, told.account_bytes, told.account_files, told.floor_bytes)
    return Terms(limits, told.days * 86400, settings.publish.probe_deadline_s)


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
        while not stop.is_set():
            mark = await asyncio.to_thread(_text_of, Paths(root).moved)
            async with open_origin(root, env, clock) as origin:
                port = await _serve(origin, host, port, stop, mark, ready)
                ready = None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _serve(
    origin: Origin,
    host: str | None,
    port: int | None,
    stop: asyncio.Event,
    mark: str,
    ready: Callable[[str], None] | None,
) -> int:
    """Serve until `stop`, or until the origin was moved; returns the port."""
    settings = origin.settings.serve
    address = host or settings.host
    wanted = settings.port if port is None else port
    async with running(make_app(origin), address, wanted, settings, origin.metrics) as bound:
        url = f"http://{'127.0.0.1' if address in _ANY else address}:{bound}"
        log.info("serving", url=url, directory=str(origin.paths.root))
        renewing = keep_renewed(origin.releases, origin.metrics, settings.renew_minutes * 60.0)
        trying = keep_pilots(Pilots(origin.releases), origin.metrics, origin.settings.pilots.every_s)
        works = (renewing, trying, keep_swept(origin.storage), origin.drafts.releasing.run())
        chores = {asyncio.create_task(one) for one in works}
        ends = {asyncio.create_task(stop.wait()), asyncio.create_task(_moved(origin.paths.moved, mark))}
        try:
            if ready is not None:
                ready(url)
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            log.info("stopping", deadline_s=settings.shutdown_s, moved=not stop.is_set())
            for chore in chores | ends:
                chore.cancel()
            await asyncio.wait(chores | ends)
    return bound


async def _moved(path: Path, mark: str) -> None:
    """Wait until `yuanjiao origin migrate` has changed the settings that were read after `mark`."""
    while await asyncio.to_thread(_text_of, path) == mark:  # noqa: ASYNC110 - another process changes it
        await asyncio.sleep(_LOOK_FOR_MOVE_S)


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
