"""A worker's line to the filler: called when first needed, called again when it was lost, never waited for long."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from edge.fill.link import call
from edge.fill.messages import (
    DOWN,
    Close,
    Down,
    Ended,
    Failed,
    FillError,
    Found,
    Lookup,
    Open,
    Opened,
    Piece,
    Proved,
    Served,
    Up,
    Whole,
    error_of,
    frame,
    read_frame,
)
from edge.fill.views import View
from edge.metrics import Counters
from edge.paths import Paths
from edge.settings_fill import Fill
from manifests.digests import Digest
from manifests.model import Courseware
from manifests.pieces import BlobRef

T = TypeVar("T")

# A view nobody uses is kept for so long: a player asks range by range.
LINGER_S = 15.0
TELL_S = 1.0
_READ_AHEAD_BYTES = 1 << 20
# A filler that reads nothing for so long is stuck; messages are small.
_MOST_UNREAD_BYTES = 16 << 20
_MOST_COUNTED = 10_000

_ITEM = msgspec.json.Decoder(Courseware)

_log = structlog.get_logger(__name__)


class NoFillerError(FillError):
    """There is no filler to ask."""


class FillClient:
    """For one worker and its event loop; `run` belongs to a task of its owner.

    Args:
        paths: of this edge.
        settings: of filling.
        counters: of this worker.
    """

    def __init__(self, paths: Paths, settings: Fill, counters: Counters) -> None:
        self._paths = paths
        self._settings = settings
        self._counters = counters
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._calling = asyncio.Lock()
        self._numbers = count(1)
        self._views: dict[str, View] = {}
        self._by_number: dict[int, View] = {}
        self._opened: dict[int, asyncio.Future[Opened]] = {}
        self._found: dict[int, asyncio.Future[bytes]] = {}
        self._used: Counter[str] = Counter()
        self.passing = 0

    async def lesson(self, courseware: str) -> Courseware | None:
        """The lesson that the newest catalog offers here under an id.

        Raises:
            FillError: environment; the filler cannot be asked.
        """
        return await self._look(courseware, "")

    async def lesson_of(self, digest: Digest) -> Courseware | None:
        """A lesson that is offered here and brings this blob.

        Raises:
            FillError: environment; the filler cannot be asked.
        """
        return await self._look("", digest)

    async def view(self, ref: BlobRef, courseware: str, *, is_installed: bool) -> View:
        """A view of a blob, opened if need be; the caller gives it back by `release`.

        Raises:
            FillError: environment; it cannot be opened, with the reason.
        """
        view = self._views.get(ref.digest)
        if view is not None and view.is_whole and not self._is_current(view):
            del self._views[ref.digest]  # whoever sends from it goes on; it is closed when they are done
            view = None
        if view is None or view.error is not None:
            ahead = self._settings.ahead_bytes
            view = View(ref, courseware, is_installed, self._counters, ahead, self._send)
            self._views[ref.digest] = view
        view.users += 1
        try:
            await self.attach(view)
        except BaseException:  # cancelled or failed: it is not the caller's then
            self.release(view)
            raise
        return view

    def is_filling(self, digest: str) -> bool:
        """Whether a blob has a view and is not whole."""
        view = self._views.get(digest)
        return view is not None and view.error is None and not view.is_whole

    async def attach(self, view: View) -> None:
        """Have the filler know of a view, again after it was started anew.

        Raises:
            FillError: environment; it cannot be opened, with the reason.
        """
        async with view.opening:
            if view.error is not None:
                raise view.error
            if not view.is_attached:
                await self._attach(view)

    def release(self, view: View) -> None:
        """Give a view back."""
        view.users -= 1
        view.idle_since_s = asyncio.get_running_loop().time()
        if view.users <= 0 and self._views.get(view.digest) is not view:
            self._drop(view, FillError("the view is closed", zh="已关闭"))

    def count_used(self, digest: str, times: int) -> None:
        """Count how often a blob was begun to be watched, and that it is watched now: what is watched stays."""
        if len(self._used) < _MOST_COUNTED:
            self._used[digest] += times

    async def run(self) -> None:
        """Tell what was served and close idle views, until cancelled."""
        try:
            while True:
                await asyncio.sleep(TELL_S)
                self._tidy()
                await self._tell_used()
        finally:
            self._lose(NoFillerError("this worker stops", zh="工作进程正在停止"))
            for view in tuple(self._views.values()):
                view.close(NoFillerError("this worker stops", zh="工作进程正在停止"))
            self._views.clear()

    def _tidy(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for digest, view in list(self._views.items()):
            if view.users <= 0 and (view.error is not None or now_s - view.idle_since_s > LINGER_S):
                del self._views[digest]
                self._drop(view, FillError("the view is closed", zh="已关闭"))

    def _drop(self, view: View, error: FillError) -> None:
        if self._by_number.pop(view.number, None) is not None and view.is_attached:
            self._send(Close(view.number))
        view.close(error)

    async def _tell_used(self) -> None:
        if not self._used:
            return
        with suppress(FillError):  # counted on until a filler is there
            await self._connect()
            counts, self._used = dict(self._used), Counter()
            self._send(Served(counts))

    def _is_current(self, view: View) -> bool:
        """Whether a whole blob still lies where it was: its name is looked up in memory, not on the disk."""
        try:
            return view.file < 0 or _identity(os.fstat(view.file)) == _identity(self._paths.blob(view.digest).stat())
        except OSError:
            return False

    async def _look(self, courseware: str, digest: str) -> Courseware | None:
        number = next(self._numbers)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        await self._connect()
        self._found[number] = future
        try:
            self._send(Lookup(number, courseware, digest))
            async with asyncio.timeout(self._settings.wait_s):
                doc = await future
        except TimeoutError as error:
            raise FillError("the filler does not answer", zh="填充进程没有应答") from error
        finally:
            self._found.pop(number, None)
        return _ITEM.decode(doc) if doc else None

    async def _attach(self, view: View) -> None:
        await self._connect()
        self._by_number.pop(view.number, None)
        number = view.number = next(self._numbers)
        ref = view.ref
        future: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
        self._by_number[number] = view
        self._opened[number] = future
        try:
            self._send(
                Open(number, ref.digest, ref.size, ref.table, ref.piece_size, view.courseware, view.is_installed)
            )
            async with asyncio.timeout(self._settings.wait_s):
                await future
        except TimeoutError as error:
            self._send(Close(number))
            self._by_number.pop(number, None)
            raise FillError(f"blob {ref.digest[:16]}: no source in time", zh="在期限内没有取得该课件") from error
        finally:
            self._opened.pop(number, None)
        if view.error is not None:
            raise view.error

    async def _connect(self) -> None:
        async with self._calling:
            if self._writer is not None:
                return
            try:
                reader, writer = await call(self._paths.root, _READ_AHEAD_BYTES)
            except OSError as error:
                raise NoFillerError(f"no filler: {error}", zh="填充进程未运行", retry_s=1.0) from error
            self._writer = writer
            self._reading = asyncio.create_task(self._read(reader, writer))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (data := await read_frame(reader)) is not None:
                self._take(DOWN.decode(data))
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("filler_lost", reason=str(error))
        except Exception as error:  # noqa: BLE001 - a bug in one message must not leave viewers hanging
            _log.exception("bug", error=str(error))
        finally:
            if self._writer is writer:
                self._lose(FillError("the filler is starting anew", zh="填充进程正在重启", retry_s=1.0))

    def _lose(self, error: FillError) -> None:
        writer, self._writer = self._writer, None
        reading, self._reading = self._reading, None
        if writer is not None:
            writer.transport.abort()
        if reading is not None and reading is not asyncio.current_task():
            reading.cancel()
        for view in self._by_number.values():
            view.detach(error)
        self._by_number.clear()
        for opened in self._opened.values():
            _reject(opened, error)
        for found in self._found.values():
            _reject(found, error)

    def _send(self, message: Up) -> None:
        writer = self._writer
        if writer is None:
            return
        if writer.transport.get_write_buffer_size() > _MOST_UNREAD_BYTES:
            _log.error("filler_reads_nothing")
            writer.transport.abort()
        else:
            writer.write(frame(message))

    def _take(self, message: Down) -> None:
        if isinstance(message, Found):
            _resolve(self._found.get(message.number), message.doc)
            return
        view = self._by_number.get(message.view)
        if view is None:
            return
        match message:
            case Opened():
                self._take_opened(view, message)
            case Proved():
                view.proved(message)
            case Piece():
                view.piece(message)
            case Failed():
                view.failed(message)
            case Whole():
                view.whole()
            case Ended():
                self._end(view, error_of(message.trouble))

    def _take_opened(self, view: View, message: Opened) -> None:
        """Here and now, before the next message: what is proved next must fall into the file that is opened here."""
        try:
            file = -1 if message.mode == "bypass" else self._open_file(view, message)
        except (OSError, FillError) as error:
            _log.info("fill_file_not_opened", blob=view.digest, reason=str(error))
            self._send(Close(message.view))
            gone = FillError(f"blob {view.digest[:16]} is being replaced", zh="该课件正在更新", retry_s=1.0)
            self._end(view, gone)
            return
        if view.mode is not None and view.mode != message.mode and "bypass" in {view.mode, message.mode}:
            self._send(Close(message.view))
            self._end(view, FillError("kept no more", zh="存储空间变化，请重试", retry_s=1.0))
            return
        view.opened(message.mode, message.bits, file)
        _resolve(self._opened.get(message.view), message)

    def _open_file(self, view: View, message: Opened) -> int:
        """A descriptor of the very file that the filler means; -1 when it is open already.

        It was written to or looked at by the filler just now, so opening it does not wait for the disk.
        """
        paths, wanted = [self._paths.blob(view.digest)], None
        if message.mode == "file":
            paths, wanted = [self._paths.partial(view.digest), *paths], (message.device, message.inode)
        if view.file >= 0:
            _check_file(view.file, view.ref.size, wanted or _identity(paths[0].stat()))
            return -1
        for path in paths:
            with suppress(FileNotFoundError, FillError):
                return _open_checked(path, view.ref.size, wanted)
        raise FillError("its file is not there")

    def _end(self, view: View, error: FillError) -> None:
        self._by_number.pop(view.number, None)
        if self._views.get(view.digest) is view:
            del self._views[view.digest]
        view.close(error)
        _reject(self._opened.get(view.number), error)


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _open_checked(path: Path, size: int, wanted: tuple[int, int] | None) -> int:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check_file(file, size, wanted)
    except FillError:
        os.close(file)
        raise
    return file


def _check_file(file: int, size: int, wanted: tuple[int, int] | None) -> None:
    stat = os.fstat(file)
    if stat.st_size != size or wanted not in {None, _identity(stat)}:
        raise FillError("its file is another one")


def _resolve(future: asyncio.Future[T] | None, value: T) -> None:
    if future is not None and not future.done():
        future.set_result(value)


def _reject(future: asyncio.Future[Any] | None, error: FillError) -> None:
    if future is not None and not future.done():
        future.set_exception(error)
        future.exception()  # its waiter may have left
