"""Backup and restore of an origin: snapshots in a directory, blobs beside them once for all.

    TARGET/blobs/ab/<digest>                as on any origin; each proved when it was copied
    TARGET/snapshots/<instant>/             library.jsonl, metadata/, origin.toml, keys/ when asked for, snapshot.json

A snapshot is of one moment: library and role files are read under the publish lock. It is there when its directory has
its name. A restored origin goes on with numbers far above any that edges can have seen since the backup was made.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from manifests.digests import Digest
from manifests.errors import ConfigurationError, InputError, StorageDamagedError
from manifests.instants import dump_instant, parse_instant
from manifests.settings import load_settings
from origin.clock import Clock
from origin.database.engine import open_database, reading, sqlite_url, writing
from origin.database.role_files import put_role_file
from origin.database.tables import HEAD, allotments
from origin.database.transfer import Row, load_rows, read_rows
from origin.opening import Origin, open_origin, open_storage
from origin.paths import Paths
from origin.publish.files import write_durably
from origin.publish.workspace import open_workspace
from origin.settings import Settings
from origin.storage.copying import Notes, Told, arrived, plan_copy, run_copy
from origin.storage.faults import storage_faults
from origin.storage.local import LocalStorage, fsync_directory
from tools.settings_text import with_sections

SNAPSHOT: Final = "snapshot.json"
LIBRARY: Final = "library.jsonl"
AHEAD: Final = 100_000  # role versions; hourly renewal uses up 8,760 a year, and nine digits are what names allow
_MAX_LINE: Final = 64 << 20


class Snapshot(Struct, frozen=True):
    """What snapshot.json says.

    Attributes:
        files: SHA-256 by name within the snapshot.
        blobs: how many there were; their names are in blobs.txt.
    """

    format: int
    made: str
    region: str
    schema: str
    release: int
    has_keys: bool
    blobs: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup did."""

    snapshot: str
    blobs: int
    new_blobs: int
    bytes: int
    keys: bool


async def back_up(
    origin: Origin, target: Path, *, keys: bool, told: Told | None = None, dry_run: bool = False
) -> BackedUp:
    """Make a snapshot of an open origin, which goes on serving.

    Args:
        origin: an open one.
        target: directory of the backups; made when it is not there.
        keys: private keys too, as they are (those with a passphrase stay encrypted).
        told: of blobs copied.
        dry_run: only count.

    Raises:
        InputError: bad data; the target lies within the origin.
        StorageError: environment; no snapshot appears, the next one goes on.
    """
    if target.resolve().is_relative_to(origin.paths.root.resolve()):
        raise InputError(
            f"{target} lies within the origin",
            zh=f"{target} 位于源站目录内",
            hint="name a directory on another disk",
            hint_zh="请指定其他磁盘上的目录",
        )
    if dry_run:
        count = len([digest async for digest in origin.storage.digests()])
        return BackedUp("", count, 0, 0, keys)
    made = dump_instant(origin.clock())
    name = made.replace(":", "")
    await asyncio.to_thread(_make_target, target)
    store, notes = LocalStorage(target / "blobs"), Notes(target / "copied.txt")
    with open_workspace(target / "staging") as staging:

        async def copy() -> tuple[list[Digest], int, int]:
            every = [digest async for digest in origin.storage.digests()]
            plan = plan_copy(every, await arrived(notes, store))
            return every, len(plan.missing), await run_copy(plan, origin.storage, store, staging, notes, told)

        _, count, size = await copy()  # the long part, without holding anybody up
        partial = staging / name
        async with origin.releases.held_still():
            await asyncio.to_thread(_copy_files, origin.paths, partial, keys)
            await _dump(origin, partial / LIBRARY)
            every, more, more_size = await copy()
            _, catalog = await origin.releases.current_catalog()
        to = target / "snapshots" / name
        await asyncio.to_thread(_seal, partial, to, every, made, origin.region, catalog.version)
    return BackedUp(name, len(every), count + more, size + more_size, keys)


def snapshots_of(target: Path) -> list[str]:
    """Names of the snapshots in a backup, oldest first."""
    with storage_faults(f"listing {target}"):
        found = sorted(path.name for path in (target / "snapshots").glob("*") if (path / SNAPSHOT).is_file())
    if not found:
        raise ConfigurationError(
            f"{target} holds no snapshot",
            zh=f"{target} 中没有备份",
            hint="name the backups' directory",
            hint_zh="请指定备份所在目录",
        )
    return found


def _make_target(target: Path) -> None:
    with storage_faults(f"making {target}"):
        for path in (target, target / "blobs", target / "snapshots"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _copy_files(paths: Paths, to: Path, keys: bool) -> None:
    with storage_faults("copying the signed release"):
        to.mkdir(mode=0o700)
        shutil.copytree(paths.metadata, to / "metadata", ignore=shutil.ignore_patterns("*.tmp"))
        shutil.copyfile(paths.settings, to / paths.settings.name)
        if keys:
            shutil.copytree(paths.keys, to / "keys")


async def _dump(origin: Origin, path: Path) -> None:
    with storage_faults(f"writing {path.name}"):
        file = path.open("xb")
    try:
        async with reading(origin.engine) as connection:
            batch: list[bytes] = []
            async for row in read_rows(connection):
                batch.append(msgspec.json.encode(row))
                if len(batch) == 1000:
                    await asyncio.to_thread(_write_lines, file, batch)
                    batch = []
        await asyncio.to_thread(_write_lines, file, batch)
    finally:
        file.close()


def _write_lines(file: Any, lines: list[bytes]) -> None:
    with storage_faults("writing the library"):
        file.write(b"".join(line + b"\n" for line in lines))


def _seal(partial: Path, to: Path, blobs: list[Digest], made: str, region: str, release: int) -> None:
    with storage_faults("finishing the snapshot"):
        (partial / "blobs.txt").write_text("".join(f"{one}\n" for one in blobs), encoding="ascii")
        files = {str(path.relative_to(partial)): _digest(path) for path in sorted(partial.rglob("*")) if path.is_file()}
        has_keys = (partial / "keys").is_dir()
        snapshot = Snapshot(1, made, region, HEAD, release, has_keys, len(blobs), files)
        write_durably(partial / SNAPSHOT, msgspec.json.format(msgspec.json.encode(snapshot)))
        for path in partial.rglob("*"):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        partial.rename(to)
        fsync_directory(to.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did.

    Attributes:
        made: when the snapshot was made.
        released: whether the first release after it was signed; else the next publish or recall does it.
    """

    snapshot: str
    made: str
    blobs: int
    rows: Mapping[str, int]
    catalog_version: int
    released: bool


async def restore(
    target: Path,
    root: Path,
    env: Mapping[str, str],
    clock: Clock,
    *,
    name: str | None = None,
    storage: Mapping[str, Any] | None = None,
    database: str | None = None,
    keys_dir: Path | None = None,
    passphrase: str | None = None,
    release: bool = True,
    told: Told | None = None,
) -> Restored:
    """Make an origin of a snapshot; one that was cut off is gone on with.

    Args:
        target: the directory that backups were made in.
        root: where the origin is to be; new, or what an earlier restore of this snapshot left.
        env: environment.
        clock: where now comes from.
        name: of the snapshot; None for the newest.
        storage: values of the section, when blobs go elsewhere than they were.
        database: address of an empty database; None for the one in the settings, empty for a file.
        keys_dir: where private keys are that are not in the snapshot.
        passphrase: of the keys.
        release: sign a release at the end, so that edges follow at once.
        told: of blobs copied.

    Raises:
        ConfigurationError: bad data; no such snapshot, or the directory or the database is in use.
        StorageDamagedError: bad data; the snapshot is not what was written.
        StorageError: environment; run it again, it goes on.
    """
    chosen, snapshot = await asyncio.to_thread(choose, target, name)
    home, paths = target / "snapshots" / chosen, Paths(root)
    if release and not (snapshot.has_keys or keys_dir):
        raise ConfigurationError(
            "the snapshot holds no keys, and a release must be signed at the end",
            zh="备份中没有密钥，恢复后无法签名发布",
            hint="name their directory with --keys, or leave it to the next publish with --no-release",
            hint_zh="请用 --keys 指定密钥目录，或用 --no-release 留待下次发布",
        )
    settings = await asyncio.to_thread(_begin, home, paths, chosen, env, storage or {}, database)
    async with AsyncExitStack() as stack:
        staging = stack.enter_context(open_workspace(paths.staging))
        blobs = await stack.enter_async_context(open_storage(settings.storage, paths))
        wanted = [Digest(line) for line in (home / "blobs.txt").read_text(encoding="ascii").split()]
        notes = Notes(paths.root / "restored.txt")
        plan = plan_copy(wanted, await arrived(notes, blobs))
        source = LocalStorage(target / "blobs")
        lost = [digest for digest in plan.missing if source.local_path(digest) is None]
        if lost:
            raise StorageDamagedError(f"the backup lacks {len(lost)} blobs", zh=f"备份缺少 {len(lost)} 个数据块文件")
        await run_copy(plan, source, blobs, staging, notes, told)
        rows = await _load(home, settings.database.url or sqlite_url(paths.database))
    await asyncio.to_thread(_finish, home, paths)
    version, released = 0, False
    async with open_origin(root, env, clock, passphrase=passphrase, keys_dir=keys_dir) as origin:
        if release:
            version = await origin.releases.release_anew(f"restored from the backup of {snapshot.made}")
            released = True
    return Restored(chosen, snapshot.made, len(wanted), rows, version, released)


def choose(target: Path, name: str | None) -> tuple[str, Snapshot]:
    """A snapshot by its name, or the newest; proved against its own list. Blocking.

    Raises:
        ConfigurationError: bad data; there is none, or it is of a newer program.
        StorageDamagedError: bad data; it is not what was written.
    """
    names = snapshots_of(target)
    chosen = name or names[-1]
    if chosen not in names:
        raise ConfigurationError(f"there is no snapshot {chosen[:60]!r}", zh=f"没有备份 {chosen[:60]!r}")
    return chosen, _check(target / "snapshots" / chosen)


def _check(home: Path) -> Snapshot:
    with storage_faults(f"reading {home}"):
        try:
            snapshot = msgspec.json.decode((home / SNAPSHOT).read_bytes(), type=Snapshot)
            parse_instant(snapshot.made)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _damaged(SNAPSHOT) from error
        if snapshot.format != 1 or snapshot.schema > HEAD:
            raise ConfigurationError(
                f"the snapshot is of a newer program (format {snapshot.format}, schema {snapshot.schema})",
                zh="该备份由更新版本的程序制作",
            )
        found = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()} - {SNAPSHOT}
        if found != set(snapshot.files):
            raise _damaged(", ".join(sorted(found ^ set(snapshot.files))[:3]))
        for name, digest in snapshot.files.items():
            if _digest(home / name) != digest:
                raise _damaged(name)
    return snapshot


def _damaged(name: str) -> StorageDamagedError:
    return StorageDamagedError(
        f"the snapshot is damaged: {name}",
        zh=f"备份已损坏：{name}",
        hint="choose another with --snapshot",
        hint_zh="请用 --snapshot 选择其他备份",
    )


def _begin(
    home: Path, paths: Paths, chosen: str, env: Mapping[str, str], storage: Mapping[str, Any], database: str | None
) -> Settings:
    mark = paths.root / "restoring"
    with storage_faults(f"making {paths.root}"):
        is_ours = mark.exists() and mark.read_text() == chosen
        if paths.root.exists() and any(paths.root.iterdir()) and not is_ours:
            raise ConfigurationError(
                f"{paths.root} is not empty",
                zh=f"{paths.root} 不是空目录",
                hint="choose an empty directory",
                hint_zh="请选择一个空目录",
            )
        paths.root.mkdir(parents=True, exist_ok=True)
        write_durably(mark, chosen.encode())
        paths.make()
        text = (home / paths.settings.name).read_text(encoding="utf-8")
    sections: dict[str, Mapping[str, Any]] = {"storage": storage} if storage else {}
    if database is not None:
        sections["database"] = {"url": database}
    return load_settings(Settings, _write_settings(paths, with_sections(text, sections)), env, paths.settings.name)


def _write_settings(paths: Paths, text: str) -> str:
    # Beside its name: the directory is an origin only when all is there.
    write_durably(paths.root / "origin.toml.restored", text.encode(), mode=0o600)
    return text


async def _load(home: Path, url: str) -> Mapping[str, int]:
    async with open_database(url) as engine, writing(engine) as connection:
        given = await load_rows(connection, _rows(home / LIBRARY))
        await connection.execute(allotments.update().values(highest=allotments.c.highest + AHEAD))
        if connection.dialect.name != "sqlite":
            for path in sorted((home / "metadata").glob("*.json"), key=lambda one: one.name == "timestamp.json"):
                await put_role_file(connection, path.name, path.read_text(encoding="utf-8"))
    return given.counts


async def _rows(path: Path) -> AsyncIterator[Row]:
    decoder = msgspec.json.Decoder(tuple[str, dict[str, Any]])
    with path.open("rb") as file:
        while line := await asyncio.to_thread(file.readline, _MAX_LINE):
            yield decoder.decode(line)


def _finish(home: Path, paths: Paths) -> None:
    with storage_faults(f"finishing {paths.root}"):
        for part in ("metadata", "keys"):
            if (home / part).is_dir():
                shutil.copytree(home / part, paths.root / part, dirs_exist_ok=True)
        for path in paths.keys.glob("*"):
            path.chmod(0o600)
        (paths.root / "origin.toml.restored").replace(paths.settings)
        (paths.root / "restoring").unlink()
        (paths.root / "restored.txt").unlink(missing_ok=True)
        fsync_directory(paths.root)
