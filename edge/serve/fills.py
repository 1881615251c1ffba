"""What this worker fills for its terminals: which requests, from what, and under which head.

A request comes here when the library or the newest catalog knows what it asks for and the bytes are not here.
"""

from __future__ import annotations

import asyncio
import os
import unicodedata
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from edge.fill.client import FillClient, NoFillerError
from edge.fill.messages import FillError
from edge.fill.offers import refs_of
from edge.fill.views import View
from edge.metrics import Result
from edge.serve.content import IMMUTABLE, represent, represent_file
from edge.serve.entries import Entry
from edge.serve.filling import FillEntry, FillResponse, FillSending
from edge.serve.problems import NoSourceError
from edge.serve.response import BlobResponse, Lane
from edge.serve.sending import Sending
from edge.serve.stock import Stock
from edge.store.faults import storage_error
from edge.sync.freshness import Freshness
from edge.upstream.sessions import NO_FILL
from manifests.digests import Digest, is_digest
from manifests.model import Courseware, File
from manifests.pieces import BlobRef, piece_count
from manifests.ranges import ByteRange, Representation, plan_answer

_KEPT_LESSONS = 256


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to fill, and how it is answered."""

    ref: BlobRef
    what: Representation
    courseware: str
    is_installed: bool
    is_media: bool


class Fills:
    """Of one worker.

    Args:
        client: its line to the filler.
        stock: what is here and what is offered.
        lane: where answers are counted.
    """

    def __init__(self, client: FillClient, stock: Stock, lane: Lane) -> None:
        self._client = client
        self._stock = stock
        self._lane = lane
        self._wait_s = stock.settings.fill.wait_s
        self._looked_up: OrderedDict[str, asyncio.Future[Courseware | None]] = OrderedDict()
        self._catalog = ""
        self._known: OrderedDict[str, tuple[_Wanted, int]] = OrderedDict()
        self._searches: dict[str, tuple[asyncio.Future[None], web.BaseRequest]] = {}
        self._entries: dict[tuple[int, bool, bool, Representation], Entry] = {}

    async def lesson(self, courseware: str) -> Courseware | None:
        """A lesson that is offered here and not installed; None as well while there is no filler to ask.

        Raises:
            NoSourceError: environment; the filler does not answer.
        """
        stock = self._stock
        # An expired edge takes nothing new; what is installed is still mended.
        if stock.freshness() is Freshness.EXPIRED or not (await stock.offered()).has(courseware, stock.now()):
            return None
        try:
            return await self._look_up(courseware, partial(self._client.lesson, courseware))
        except NoFillerError:
            return None
        except FillError as error:
            raise _no_source(error) from error

    async def _look_up(self, key: str, ask: Callable[[], Awaitable[Courseware | None]]) -> Courseware | None:
        """Ask the filler once per catalog, however many ask here at once; a failure is not kept."""
        catalog = self._stock.trust.digest if self._stock.trust else ""
        if catalog != self._catalog:
            self._catalog = catalog
            self._looked_up.clear()
        found = self._looked_up.get(key)
        if found is None:
            found = self._looked_up[key] = asyncio.ensure_future(ask())
            found.add_done_callback(partial(self._drop_failed, key))
            while len(self._looked_up) > _KEPT_LESSONS:
                self._looked_up.popitem(last=False)
        return await asyncio.shield(found)

    def _drop_failed(self, key: str, found: asyncio.Future[Courseware | None]) -> None:
        has_failed = found.cancelled() or found.exception() is not None or found.result() is None
        if has_failed and self._looked_up.get(key) is found:
            del self._looked_up[key]

    def tell_used(self) -> None:
        """Tell the filler what was watched since this was last called."""
        for entry in (*self._stock.entries.alive(), *self._entries.values()):
            if entry.uses >= 0:
                self._client.count_used(entry.digest, entry.uses)
                entry.uses = -1

    async def bring(self, item: Courseware, file: File) -> None:
        """Have a small file of a lesson here whole, such as the article that a page is made of.

        Raises:
            NoSourceError: environment; no source has it in time.
        """
        is_installed = item.id in self._stock.shelf.lessons
        try:
            view = await self._client.view(file.ref, item.id, is_installed=is_installed)
        except FillError as error:
            raise _no_source(error) from error
        try:
            await self._await_all(view)
        finally:
            self._client.release(view)

    async def again(self, request: web.BaseRequest, key: str) -> web.StreamResponse | None:
        """Answer from what was found under this path just now, or is being looked for; None to look for it.

        Whoever is told to look says `looked` afterwards: a class of viewers asks for one file in one second, and it is
        looked for once.

        Raises:
            NoSourceError: environment; no source has it in time.
        """
        if not key.startswith(("/media/", "/blobs/")) or request.headers.get(NO_FILL[0]) == NO_FILL[1]:
            return None
        search = self._searches.get(key)
        if search is None and key not in self._known:
            self._searches[key] = (asyncio.get_running_loop().create_future(), request)
            return None
        if search is not None:
            await asyncio.wait({search[0]}, timeout=self._wait_s)
        known = self._known.get(key)
        if known is None or known[1] != self._stock.changes or not self._client.is_filling(known[0].ref.digest):
            self._known.pop(key, None)
            return None
        return await self._answer(request, known[0])

    def looked(self, request: web.BaseRequest, key: str) -> None:
        """The search of this request is over, whatever it found."""
        search = self._searches.get(key)
        if search is not None and search[1] is request:
            del self._searches[key]
            search[0].set_result(None)

    async def answer(self, request: web.BaseRequest, key: str, parts: list[str]) -> web.StreamResponse | None:
        """Answer a request for what is known and not here; None when it is not for filling.

        Raises:
            NoSourceError: environment; no source has it in time.
            StorageError: environment.
        """
        if request.headers.get(NO_FILL[0]) == NO_FILL[1]:
            return None
        changes = self._stock.changes
        wanted = await self._find(parts)
        if wanted is None:
            return None
        self._known[key] = (wanted, changes)
        while len(self._known) > _KEPT_LESSONS:
            self._known.popitem(last=False)
        self.looked(request, key)
        return await self._answer(request, wanted)

    async def _answer(self, request: web.BaseRequest, wanted: _Wanted) -> web.StreamResponse | None:
        answer = plan_answer(request.method, request.headers, wanted.what)
        first = next((part.range for part in answer.parts if part.range is not None), None)
        if first is None:
            return self._bodyless(request, wanted)
        try:
            return await self._begin(request, wanted, first)
        except NoFillerError:
            return None
        except FillError as error:
            raise _no_source(error) from error

    async def _find(self, parts: list[str]) -> _Wanted | None:
        match parts:
            case ["media", courseware, name]:
                return await self._find_media(courseware, unicodedata.normalize("NFC", name))
            case ["blobs", name] if is_digest(name):
                return await self._find_blob(Digest(name))
        return None

    async def _find_media(self, courseware: str, name: str) -> _Wanted | None:
        file, is_installed = self._stock.shelf.file(courseware, name), True
        if file is None and courseware not in self._stock.shelf.lessons:
            item, is_installed = await self.lesson(courseware), False
            file = next((one for one in item.files if one.name == name), None) if item is not None else None
        if file is None:
            return None
        return _Wanted(file.ref, represent_file(file), courseware, is_installed, is_media=True)

    async def _find_blob(self, digest: Digest) -> _Wanted | None:
        try:
            item = await self._look_up(digest, partial(self._client.lesson_of, digest))
        except FillError:
            return None
        ref = next((one for one in refs_of(item) if one.digest == digest), None) if item is not None else None
        if item is None or ref is None:
            return None
        is_installed = item.id in self._stock.shelf.lessons
        if not is_installed and self._stock.freshness() is Freshness.EXPIRED:
            return None
        what = represent(digest, ref.size, "application/octet-stream", IMMUTABLE)
        return _Wanted(ref, what, item.id, is_installed, is_media=False)

    async def _begin(self, request: web.BaseRequest, wanted: _Wanted, first: ByteRange) -> web.StreamResponse:
        ref = wanted.ref
        view = await self._client.view(ref, wanted.courseware, is_installed=wanted.is_installed)
        reader: int | None = None
        try:
            self._check_memory(view)
            reader = view.begin(first.start // view.piece_size, (first.stop - 1) // view.piece_size + 1)
            await self._await_piece(request, view, first.start // view.piece_size)
            entry = self._entry(view, wanted)
            make = partial(FillSending, client=self._client, view=view, reader=reader)
            sending = self._lane.begin_for(entry, request, make)
        except BaseException:  # whatever it was, view and reader are ours until an answer has them
            if reader is not None:
                view.end(reader, None)
            self._client.release(view)
            raise
        assert isinstance(sending, FillSending)  # noqa: S101 - as made by `make`
        return FillResponse(self._lane, sending, request, self._wait_s)

    def _check_memory(self, view: View) -> None:
        """What is not kept is held in memory, a piece for each answer: there is room for so many."""
        most = max(1, self._stock.settings.fill.bypass_bytes // view.piece_size)
        if view.mode == "bypass" and self._lane.count_live(_passes) >= most:
            raise FillError("too many answers pass through without being kept", zh="直通终端的请求过多", retry_s=5.0)

    async def _await_piece(self, request: web.BaseRequest, view: View, n: int) -> None:
        if view.is_here(n):
            return
        connection = await self._lane.server.connection_of(request)
        try:
            async with asyncio.timeout(self._wait_s):
                await connection.until(view.wait(n))
        except TimeoutError as error:
            raise FillError("the first piece did not come in time", zh="在期限内没有取得内容") from error

    async def _await_all(self, view: View) -> None:
        count = piece_count(view.ref.size, view.piece_size)
        reader = view.begin(0, count)
        try:
            async with asyncio.timeout(self._wait_s):
                for n in range(count):
                    view.move(reader, n)
                    if not view.is_here(n):
                        await view.wait(n)
        except (FillError, TimeoutError) as error:
            raise _no_source(error if isinstance(error, FillError) else FillError("not here in time")) from error
        finally:
            view.end(reader, None)

    def _entry(self, view: View, wanted: _Wanted) -> Entry:
        """One open file per view and representation, for as long as the view lasts."""
        if view.error is not None:
            raise view.error
        key = (id(view), view.is_whole, wanted.is_media, wanted.what)
        found = self._entries.get(key)
        if found is None or found.revoked:
            if found is None:
                view.ended.append(partial(self._end, key))
            found = self._entries[key] = self._open(Entry if view.is_whole else FillEntry, view.file, wanted)
            if view.is_whole:  # like any other whole blob from now on: not sent once it is found rotten, or deleted
                self._stock.entries.watch(found)
        return found

    def _end(self, key: tuple[int, bool, bool, Representation]) -> None:
        entry = self._entries.pop(key)
        entry.revoked = True
        entry.retire()

    def _open(self, kind: type[Entry], file: int, wanted: _Wanted) -> Entry:
        path = self._stock.paths.blob(wanted.ref.digest)
        try:
            # Nothing is sent from a file where pieces pass through, or where there is no body.
            file = os.dup(file) if file >= 0 else os.memfd_create("yuanjiao-nothing")
        except OSError as error:
            raise storage_error(error, f"opening blob {wanted.ref.digest[:16]}…") from error
        try:
            # The shelf revokes what is not installed (any more); for a lesson that never was, the filler looks.
            courseware = wanted.courseware if wanted.is_installed else ""
            entry = kind(file, path, wanted.what, wanted.ref.digest, courseware)
        except BaseException:  # whatever it was, the descriptor is ours until an entry holds it
            os.close(file)
            raise
        entry.is_media = wanted.is_media
        return entry

    def _bodyless(self, request: web.BaseRequest, wanted: _Wanted) -> web.StreamResponse:
        """HEAD, 304, 412 and 416 need no byte, and so no source."""
        entry = self._open(FillEntry, -1, wanted)
        try:
            sending = self._lane.begin_for(entry, request)
        finally:
            entry.retire()  # closed by whoever sends from it last
        sending.result = Result.FILL
        return BlobResponse(self._lane, sending, request)


def _passes(sending: Sending) -> bool:
    return isinstance(sending, FillSending) and sending.is_passing


def _no_source(error: FillError) -> NoSourceError:
    return NoSourceError(
        f"not here, and no source gives it: {error.message}",
        zh=f"该课件尚未传到本站，暂时无法从上级取得（{error.zh}）",
        retry_s=error.retry_s,
    )
