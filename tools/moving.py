"""Moving an origin that outgrew its machine: blobs into a bucket, the library to a server, while it serves.

Blobs first, for hours if need be and without any lock. Then, under the publish lock: what came meanwhile, the library
in one transaction that closes the old one, and the settings. A server that runs takes up the new settings by itself.
Whatever is cut off is gone on with by the next run; until the settings are written, the origin is the old one.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from manifests.errors import ConfigurationError, StorageDamagedError
from manifests.settings import load_settings
from origin.database.engine import open_database, reading, sqlite_url, writing
from origin.database.role_files import put_role_file
from origin.database.transfer import close_library, load_rows, read_rows, reopen_library, tally
from origin.opening import load_origin_settings, open_storage
from origin.paths import Paths
from origin.publish.failpoints import reach
from origin.publish.files import write_durably
from origin.publish.lock import publish_lock
from origin.publish.workspace import open_workspace
from origin.settings import Settings, Storage
from origin.storage.base import BlobStorage
from origin.storage.copying import CopyPlan, Notes, Told, arrived, plan_copy, run_copy
from origin.storage.faults import storage_faults
from tools.settings_text import with_sections

LOCK_S = 600.0


@dataclass(frozen=True, slots=True)
class Moved:
    """What was done.

    Attributes:
        rows: of the library, by table; empty when the library stayed.
    """

    blobs: int
    bytes: int
    rows: Mapping[str, int]
    storage: str
    dry_run: bool = False


async def move(
    root: Path, env: Mapping[str, str], storage: Mapping[str, Any], database: str, *, dry_run: bool, told: Told | None
) -> Moved:
    """Move what is named and switch over.

    Args:
        root: the origin's directory.
        env: environment.
        storage: new values of the section; empty to leave blobs where they are.
        database: new address; empty to leave the library where it is.
        dry_run: only find out whether both could be reached and how many blobs lack.
        told: of blobs copied.

    Raises:
        ConfigurationError: bad data; nothing to move, the new place is refused, or the library is no file to move.
        StorageError: environment; run it again, it goes on.
    """
    paths = Paths(root)
    old = await asyncio.to_thread(load_origin_settings, paths, env)
    text = await asyncio.to_thread(_new_text, paths, env, storage, database)
    new = load_settings(Settings, text, env, paths.settings.name)
    library_moves = new.database.url != old.database.url
    if library_moves and old.database.url:
        raise ConfigurationError(
            "the library is on a server already; only one that is a file can be moved",
            zh="课件库已在数据库服务器上，只能迁移文件形式的课件库",
        )
    async with AsyncExitStack() as stack:
        source = await stack.enter_async_context(open_storage(old.storage, paths))
        target = await stack.enter_async_context(open_storage(new.storage, paths))
        staging = stack.enter_context(open_workspace(paths.staging))
        blobs = _Blobs(source, target, staging, Notes(_notes(paths, new.storage)), new.storage != old.storage)
        if dry_run:
            if library_moves:
                async with open_database(new.database.url):
                    pass
            return Moved(await blobs.missing(), 0, {}, new.storage.kind, dry_run=True)
        count, size = await blobs.copy(told)
        reach("move:blobs-copied")
        async with publish_lock(paths.lock, LOCK_S):
            more, more_size = await blobs.copy(None)
            rows = dict[str, int]()
            if library_moves:
                rows = await _move_library(paths, new.database.url)
            await asyncio.to_thread(_switch, paths, text)
    return Moved(count + more, size + more_size, rows, new.storage.kind)


@dataclass(frozen=True, slots=True)
class _Blobs:
    source: BlobStorage
    target: BlobStorage
    staging: Path
    notes: Notes
    move: bool

    async def missing(self) -> int:
        if not self.move:
            return 0
        return len((await self._plan()).missing)

    async def copy(self, told: Told | None) -> tuple[int, int]:
        if not self.move:
            return 0, 0
        plan = await self._plan()
        return len(plan.missing), await run_copy(plan, self.source, self.target, self.staging, self.notes, told)

    async def _plan(self) -> CopyPlan:
        every = [digest async for digest in self.source.digests()]
        return plan_copy(every, await arrived(self.notes, self.target))


async def _move_library(paths: Paths, url: str) -> dict[str, int]:
    async with _library(paths) as old, open_database(url) as new:
        async with writing(old) as source:
            await reopen_library(source)  # an earlier move may have been cut off after it had closed it
            async with writing(new) as target:
                given = await load_rows(target, read_rows(source))
                for name, text in (await asyncio.to_thread(_role_files, paths)).items():
                    await put_role_file(target, name, text)
            reach("move:library-copied")
            await close_library(source)
        reach("move:closed")
        async with reading(new) as target:
            got = await tally(target)
    got.counts.pop("allotments", None), given.counts.pop("allotments", None)
    if got.counts != given.counts:
        raise StorageDamagedError(
            f"the new database holds {got.counts} rows instead of {given.counts}", zh="新数据库中的记录数与原库不符"
        )
    return given.counts


@asynccontextmanager
async def _library(paths: Paths) -> AsyncIterator[Any]:
    async with open_database(sqlite_url(paths.database)) as engine:
        yield engine


def _role_files(paths: Paths) -> dict[str, str]:
    with storage_faults("reading the signed release"):
        found = {path.name: path.read_text(encoding="utf-8") for path in sorted(paths.metadata.glob("*.json"))}
    last = found.pop("timestamp.json", None)
    return found | ({"timestamp.json": last} if last is not None else {})


def _new_text(paths: Paths, env: Mapping[str, str], storage: Mapping[str, Any], database: str) -> str:
    with storage_faults(f"reading {paths.settings}"):
        text = paths.settings.read_text(encoding="utf-8")
    sections: dict[str, Mapping[str, Any]] = {}
    if storage:
        sections["storage"] = storage
    if database:
        sections["database"] = {"url": database}
    if not sections:
        raise ConfigurationError(
            "nothing is to be moved",
            zh="没有要迁移的内容",
            hint="give --storage or --database",
            hint_zh="请指定 --storage 或 --database",
        )
    changed = with_sections(text, sections)
    settings = msgspec.to_builtins(load_settings(Settings, changed, env, paths.settings.name))
    for section, values in sections.items():
        for key, value in values.items():
            if settings[section][key] != value:
                raise ConfigurationError(
                    f"{section}.{key} stays as it is whatever origin.toml says",
                    zh=f"{section}.{key} 被环境变量覆盖，写入 origin.toml 不会生效",
                    hint=f"take YUANJIAO_{section}_{key} out of the environment first".upper(),
                    hint_zh="请先取消相应的环境变量",
                )
    return changed


def _switch(paths: Paths, text: str) -> None:
    # An address may hold a password.
    write_durably(paths.settings, text.encode(), mode=0o600)
    reach("move:switched")
    write_durably(paths.moved, secrets.token_hex(8).encode())
    with storage_faults("clearing notes"):
        for path in paths.root.glob("copied-*.txt"):
            path.unlink(missing_ok=True)


def _notes(paths: Paths, storage: Storage) -> Path:
    place = f"{storage.kind} {storage.endpoint} {storage.bucket} {storage.prefix}"
    return paths.root / f"copied-{hashlib.sha256(place.encode()).hexdigest()[:12]}.txt"
