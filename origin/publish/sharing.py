"""What several origin processes over one database share: the right to publish, and the signed role files.

With a database of its own (SQLite), an origin is one machine: a lock on a file keeps its processes apart, and its
metadata directory is the truth. With a server, the lease and the files in the database are, and the directory is this
machine's copy. A file is shared before it is written here, `timestamp.json` last: what any of the processes serves can
be had from all of them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from manifests.errors import BusyError, StorageDamagedError, StorageError, YuanjiaoError
from manifests.names import is_metadata_name
from origin.database import role_files
from origin.database.engine import reading, writing
from origin.database.leases import Holder, Lease, check_lease, give_back_lease, holder_of, renew_lease, take_lease
from origin.publish.files import write_durably
from origin.publish.lock import publish_lock
from origin.storage.faults import storage_faults

PUBLISH: Final = "publish"
_LOOK_AGAIN_S: Final = 0.25
# An edge waits for a poll no longer than some seconds; what this machine has is better than nothing.
_SERVING_S: Final = 2.0
_LEFT_ALONE_S: Final = 5.0
_WRITE_S: Final = 120.0

_log: Final = structlog.get_logger(__name__)


class Sharing:
    """One process's part in what is shared."""

    def __init__(self, engine: AsyncEngine, directory: Path, lock: Path, term_s: float) -> None:
        self._engine = engine
        self._directory = directory
        self._file = lock
        self._term_s = term_s
        self._held: tuple[Lease, asyncio.AbstractEventLoop] | None = None
        self._lock = asyncio.Lock()
        self._begun = self._done = 0
        self._seen = -1
        self._left_alone_until = 0.0

    @asynccontextmanager
    async def lease(self, deadline_s: float, name: str = PUBLISH) -> AsyncIterator[Lease]:
        """Have the right to publish, or another; renewed until given back, so that it ends with us if we die.

        Raises:
            BusyError: environment; another process had it for `deadline_s`.
            StorageError: environment.
        """
        until = asyncio.get_running_loop().time() + deadline_s
        # Apart from the publish lock, which others of this machine need in order to follow while we wait.
        asking = self._file.with_name(f"{name}.lease")
        async with publish_lock(asking, deadline_s):
            lease = await self._take(name, _holder(asking), until, deadline_s)
            beat = asyncio.create_task(self._keep(lease))
            try:
                yield lease
            finally:
                beat.cancel()
                await asyncio.wait({beat})
                await self._give_back(lease)

    @asynccontextmanager
    async def holding(self, lease: Lease) -> AsyncIterator[None]:
        """Work under the lease, with the newest files at hand. The caller holds this directory's file lock too.

        Raises:
            StorageDamagedError: environment; the database is older than what was served from here.
            StorageError: environment.
        """
        async with self._lock:
            await self._look()
        self._held = lease, asyncio.get_running_loop()
        try:
            yield
        finally:
            self._held = None

    async def check(self, connection: AsyncConnection) -> None:
        """Refuse a transaction of an act whose lease was lost.

        Raises:
            BusyError: environment; another process has the right now.
        """
        if self._held is not None:
            await check_lease(connection, self._held[0])

    async def refresh(self) -> None:
        """Bring the directory to what the database has now; a look that began after this call serves it too.

        While a process of this machine publishes, the directory is kept by that one.

        Raises:
            StorageDamagedError: environment; the database is older than what was served from here.
            StorageError: environment.
        """
        wanted = self._begun + 1
        async with self._lock:
            if self._done >= wanted:
                return
            self._begun += 1
            number = self._begun
            try:
                async with publish_lock(self._file, 0):
                    await self._look()
            except BusyError:
                return
            self._done = number

    async def refresh_for_serving(self) -> None:
        """The same in the time that an edge waits; when the database does not answer, what is here is served."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._left_alone_until:
            return
        try:
            async with asyncio.timeout(_SERVING_S):
                await self.refresh()
        except (YuanjiaoError, TimeoutError) as error:
            self._left_alone_until = loop.time() + _LEFT_ALONE_S
            _log.warning("serving_own_copy", reason=str(error) or "the database does not answer")

    def put(self, name: str, data: bytes) -> None:
        """Share a file that was just signed. Blocking; for the thread that signs, under `holding`.

        Raises:
            BusyError: environment; the right is no longer ours, or the database did not answer in time.
            StorageError: environment.
        """
        self._write(lambda connection: role_files.put_role_file(connection, name, data.decode()))

    def drop(self, names: Collection[str]) -> None:
        """Take back files that no edge asks for any more; like `put`."""
        self._write(lambda connection: role_files.drop_role_files(connection, names))

    def _write(self, work: Callable[[AsyncConnection], Awaitable[None]]) -> None:
        if self._held is None:
            raise StorageError(
                "role files are shared only by who holds the lease", zh="未持有发布租约，不能写入签名元数据"
            )
        lease, loop = self._held

        async def write() -> None:
            async with writing(self._engine) as connection:
                await check_lease(connection, lease)
                await work(connection)

        running = asyncio.run_coroutine_threadsafe(write(), loop)
        try:
            running.result(_WRITE_S)
        except TimeoutError as error:
            running.cancel()
            raise BusyError(
                "the database did not take a role file in time", zh="数据库未能在时限内写入签名元数据"
            ) from error

    async def _give_back(self, lease: Lease) -> None:
        try:
            async with writing(self._engine) as connection:
                await give_back_lease(connection, lease)
        except YuanjiaoError as error:
            _log.warning("lease_not_given_back", reason=error.message, ends_in_s=self._term_s)

    async def _take(self, name: str, holder: Holder, until: float, deadline_s: float) -> Lease:
        loop = asyncio.get_running_loop()
        while True:
            async with writing(self._engine) as connection:
                lease = await take_lease(connection, name, holder, self._term_s)
                other = await holder_of(connection, name) if lease is None else ""
            if lease is not None:
                return lease
            if loop.time() >= until:
                raise BusyError(
                    f"{other} has had the right to {name} for {deadline_s:g} s",
                    zh=f"{other} 的发布、召回或换钥任务仍在进行（已等待 {deadline_s:g} 秒）",
                )
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _keep(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self._term_s / 3)
            try:
                # Not in turn: a long transaction, of ours or another's, must not cost the right.
                async with writing(self._engine, in_turn=False) as connection:
                    if not await renew_lease(connection, lease, self._term_s):
                        _log.error("lease_lost", fence=lease.fence)
                        return  # whatever is still written is refused by its number
            except YuanjiaoError as error:
                _log.warning("lease_not_renewed", reason=error.message)

    async def _look(self) -> None:
        async with reading(self._engine) as connection:
            newest = await role_files.newest_revision(connection)
            if newest == self._seen:
                return
            names = await role_files.role_file_names(connection)
            changed = dict(await role_files.role_files_since(connection, max(self._seen, 0)))
        await asyncio.to_thread(_copy, self._directory, names, changed)
        self._seen = newest


def _holder(asking: Path) -> Holder:
    """This process; its place is the file that we have locked, on this machine since it was started."""
    with storage_faults(f"looking at {asking.name}"):
        found = asking.stat()
        boot = Path("/proc/sys/kernel/random/boot_id")
        booted = boot.read_text().strip() if boot.exists() else secrets.token_hex(16)
    host = socket.gethostname()
    return Holder(f"{host} pid {os.getpid()}", f"{host} {booted} {found.st_dev} {found.st_ino}")


def _copy(directory: Path, names: Collection[str], changed: dict[str, str]) -> None:
    """Write what is new, `timestamp.json` last, and remove what the database no longer has."""
    if not names:
        return
    timestamp = changed.pop("timestamp.json", None)
    if timestamp is not None:
        _check_not_older(directory, timestamp)
    for name, text in changed.items():
        _write_changed(directory / name, text)
    if timestamp is not None:
        _write_changed(directory / "timestamp.json", timestamp)
    with storage_faults("clearing old metadata"):
        for path in list(directory.iterdir()):
            if path.name not in names and path.name[0].isdigit() and is_metadata_name(path.name):
                path.unlink(missing_ok=True)


def _write_changed(path: Path, text: str) -> None:
    with storage_faults(f"reading {path.name}"):
        is_same = path.exists() and path.read_bytes() == text.encode()
    if not is_same:
        write_durably(path, text.encode())


def _check_not_older(directory: Path, text: str) -> None:
    from tuf.api.metadata import Metadata, Timestamp

    def version_of(data: bytes) -> int:
        metadata: Metadata[Timestamp] = Metadata.from_bytes(data)
        return metadata.signed.version

    with storage_faults("reading timestamp.json"):
        path = directory / "timestamp.json"
        here = version_of(path.read_bytes()) if path.exists() else 0
    there = version_of(text.encode())
    if there < here:
        raise StorageDamagedError(
            f"metadata here shows timestamp version {here}, the database {there}",
            zh="数据库中的签名元数据比本机已对外提供的更旧",
            hint="restore the newest backup with `yuanjiao origin restore`, which goes on with higher numbers",
            hint_zh="请用 `yuanjiao origin restore` 恢复最新备份，版本号会继续增大",
        )
