"""Opening an origin: its directory, settings, database, storage and keys become one value that is handed down.

Part of the wiring: `origin.app` alone uses it, and nothing here is done twice or kept anywhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.errors import ConfigurationError, StorageFullError
from manifests.names import Region
from manifests.settings import load_settings
from origin.clock import Clock
from origin.database.engine import open_database, reading, sqlite_url, writing
from origin.database.transfer import finish, is_unfinished
from origin.drafts.desk import DraftDesk
from origin.drafts.frames import Frames
from origin.drafts.gather import Sources
from origin.drafts.releasing import Releasing
from origin.drafts.store import Drafts
from origin.metrics import Metrics
from origin.paths import Paths
from origin.publish.keys import KeyRing
from origin.publish.publish import Publishing
from origin.publish.release import Releases, Terms, Workshop
from origin.publish.sharing import Sharing
from origin.publish.signing import DAY_S
from origin.publish.workspace import open_workspace
from origin.settings import Settings, Storage
from origin.storage.ballast import Ballast
from origin.storage.base import BlobStorage
from origin.storage.faults import storage_faults
from origin.storage.local import LocalStorage
from origin.storage.s3_client import S3Options

PASSPHRASE: Final = "YUANJIAO_KEYS_PASSPHRASE"  # noqa: S105 - the variable's name, not a passphrase


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
    sharing: Sharing | None
    drafts: DraftDesk

    @property
    def region(self) -> Region:
        """Whom it publishes for."""
        return Region(self.settings.publisher.region)


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
    settings = await asyncio.to_thread(load_origin_settings, paths, env)
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
        storage = await stack.enter_async_context(open_storage(settings.storage, paths))
        directories = [keys_dir, paths.keys] if keys_dir else [paths.keys]
        keys = KeyRing(directories, passphrase or env.get(PASSPHRASE))
        region = Region(settings.publisher.region)
        await _settle_library(engine)
        sharing = None
        if engine.dialect.name != "sqlite":
            sharing = Sharing(engine, paths.metadata, paths.lock, settings.database.lease_s)
            await sharing.refresh_for_serving()
        releases = Releases(_workshop(settings, paths, staging, storage, engine, keys, clock, ballast, sharing))
        metrics = Metrics()
        publishing = Publishing(storage, staging, releases, settings.publish, region, clock)
        yield Origin(
            settings=settings,
            paths=paths,
            storage=storage,
            releases=releases,
            publishing=publishing,
            engine=engine,
            clock=clock,
            metrics=metrics,
            sharing=sharing,
            drafts=_draft_desk(paths, publishing, engine, sharing, metrics),
        )


def _draft_desk(
    paths: Paths, publishing: Publishing, engine: AsyncEngine, sharing: Sharing | None, metrics: Metrics
) -> DraftDesk:
    store = Drafts(engine, publishing.clock, publishing.region, publishing.releases.rights)
    sources = Sources(paths.uploads, Frames(paths.frames), publishing.storage)
    releasing = Releasing(store, publishing, sources, paths.drafts_lock, sharing, metrics)
    return DraftDesk(store, releasing, publishing, sources)


async def _settle_library(engine: AsyncEngine) -> None:
    """Whatever moved or restored a library is done with it as soon as the settings name it."""
    async with reading(engine) as connection:
        is_new = await is_unfinished(connection)
    if is_new:
        async with writing(engine) as connection:
            await finish(connection)


@asynccontextmanager
async def open_storage(settings: Storage, paths: Paths) -> AsyncIterator[BlobStorage]:
    """Wherever the settings keep blobs.

    Raises:
        ConfigurationError: bad data; a bucket is to be used and none is named.
    """
    if settings.kind == "local":
        yield LocalStorage(paths.blobs)
        return
    from origin.storage.s3 import open_s3

    async with open_s3(s3_options(settings, paths.root)) as storage:
        yield storage


def s3_options(settings: Storage, root: Path) -> S3Options:
    """The bucket as the settings describe it.

    Raises:
        ConfigurationError: bad data; none is named.
    """
    if not settings.bucket:
        raise ConfigurationError(
            'storage.kind is "s3" and storage.bucket names no bucket',
            zh="storage.kind 为 s3，但未设置 storage.bucket",
            hint="name the bucket in origin.toml",
            hint_zh="请在 origin.toml 中填写存储桶名称",
        )
    return S3Options(
        bucket=settings.bucket,
        prefix=settings.prefix,
        endpoint=settings.endpoint,
        region=settings.region,
        addressing=settings.addressing,
        profile=settings.profile,
        credentials=root / settings.credentials if settings.credentials else None,
        part_bytes=settings.part_bytes,
        threads=settings.threads,
        deadline_s=settings.deadline_s,
        attempts=settings.attempts,
        stale_days=settings.stale_days,
        redirect_s=settings.redirect_s,
        redirect_endpoint=settings.redirect_endpoint,
    )


@asynccontextmanager
async def _working_parts(paths: Paths, settings: Settings) -> AsyncIterator[tuple[Path, AsyncEngine]]:
    """What needs room on the disk even to be opened: a staging directory of this process, the database's side files."""
    url = settings.database.url or sqlite_url(paths.database)
    with open_workspace(paths.staging) as staging:
        async with open_database(url) as engine:
            yield staging, engine


def load_origin_settings(paths: Paths, env: Mapping[str, str]) -> Settings:
    """Read origin.toml, the environment's overrides on top. Blocking.

    Raises:
        ConfigurationError: bad data; no origin, or a setting is wrong (all faults in one message).
        StorageError: environment.
    """
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
    sharing: Sharing | None,
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
        sharing=sharing,
    )
