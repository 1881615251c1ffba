"""The filler: one process beside the workers that fetches what terminals ask for and is not here.

One for all workers, so that there is one flight per piece; a process of its own, so that hashing and writing do not
disturb serving. Whatever becomes of it, workers go on with what is here.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import structlog

from edge.fill.blob_fill import BlobFill, Seat, trouble_of
from edge.fill.link import is_own
from edge.fill.messages import Ended, FillError
from edge.fill.offers import Offers
from edge.fill.opener import Opener
from edge.fill.parts import FillParts
from edge.fill.service import Service
from edge.fill.workshop import Workshop
from edge.metrics import Cell, Counters
from edge.store.blobs import BlobStore
from manifests.digests import Digest
from manifests.errors import StorageDamagedError, YuanjiaoError

# Recalls are looked for so often.
LOOK_S = 0.25
# A blob nobody looks at is closed after a while, and the store when no blob is open.
LINGER_S = 3.0
_NOTE_S = 1.0

_log = structlog.get_logger(__name__)


class Filler:
    """Serves workers until cancelled.

    Args:
        parts: what it works with.
        counters: its own row of the shared figures.
    """

    def __init__(self, parts: FillParts, counters: Counters) -> None:
        self._parts = parts
        self._counters = counters
        self._workshop = Workshop(parts, counters)
        self._offers = Offers(parts.newest, self._store, parts.region)
        self._opener = Opener(parts, self._workshop, self._offers)
        self._used: Counter[str] = Counter()
        self._lines: set[Service] = set()
        self._judged = ""
        self._idle_since_s = 0.0

    async def run(self, listener: socket.socket) -> None:
        """Serve; the socket is closed at the end."""
        self._counters.set(Cell.FILLERS, 1)
        server = await asyncio.start_unix_server(self._accept, sock=listener)
        chores = {asyncio.create_task(self._watch()), asyncio.create_task(self._note())}
        try:
            done, _ = await asyncio.wait(chores, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # neither ends by itself: this is a bug, and the supervisor starts us anew
        finally:
            server.close()
            for task in chores:
                task.cancel()
            await asyncio.wait(chores)
            for line in tuple(self._lines):
                await line.end()
            await self._opener.close()
            await self._workshop.close()

    async def _store(self) -> BlobStore:
        return (await self._workshop.open()).store

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_own(writer.get_extra_info("socket")):
            _log.warning("stranger_at_filler")
            writer.transport.abort()
            return
        line = Service(reader, writer, self._opener, self._offers, self._used, self._parts.settings.fill.bypass_bytes)
        self._lines.add(line)
        try:
            await line.run()
        finally:
            self._lines.discard(line)

    async def _watch(self) -> None:
        """Break off what was recalled, close what nobody needs, and have a damaged index rebuilt."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._judge()
                await self._tidy()
            except YuanjiaoError as error:
                _log.warning("fill_not_watched", reason=error.message)

    async def _judge(self) -> None:
        """Look again at every open view when there is a newer catalog."""
        seats = [seat for line in self._lines for seat in line.seats.values()]
        if not seats:
            return
        digest = await self._offers.digest()
        if digest == self._judged or not await self._offers.is_readable():
            return
        for courseware, blob in {(seat.courseware, seat.digest) for seat in seats}:
            if not await self._opener.is_allowed(courseware, Digest(blob)):
                _log.info("fill_recalled", courseware=courseware, blob=blob)
                _revoke([seat for seat in seats if (seat.courseware, seat.digest) == (courseware, blob)])
        self._judged = digest

    async def _tidy(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._parts.paths.index_suspect.exists():
            damaged = StorageDamagedError("the index is damaged and will be rebuilt", zh="本地索引已损坏，正在重建")
            await self._opener.close(damaged)
            await self._workshop.close()
        for fill in self._opener.fills():
            if not fill.is_busy and (fill.fault is not None or fill.is_whole or now_s - fill.idle_since_s > LINGER_S):
                await self._opener.drop(fill)
        if self._opener.is_busy or any(line.seats or line.is_asking for line in self._lines):
            self._idle_since_s = now_s
        elif now_s - self._idle_since_s > LINGER_S:
            await self._workshop.close()

    async def _note(self) -> None:
        """Record what was served, so that what is watched stays."""
        while True:
            await asyncio.sleep(_NOTE_S)
            if self._used:
                counts = {Digest(name): count for name, count in self._used.items()}
                self._used.clear()
                await asyncio.to_thread(self._opener.note_used, counts)


def _revoke(seats: list[Seat]) -> None:
    gone = FillError("the lesson was recalled or changed meanwhile", zh="该课件已被撤回或更新", retry_s=1.0)
    for seat in seats:
        seat.line.send(Ended(seat.view, trouble_of(gone, 1.0)))
        fill: BlobFill | None = seat.fill
        if fill is not None:
            fill.leave(seat)
            seat.fill = None
