"""Blobs that are being filled, as one worker sees them: one view per blob, shared by all its viewers.

A view knows which pieces are proved, has the begun file open, and adds up what its viewers need. Proved pieces are
never written again, so they are sent from the open file while others arrive; the file's new name changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from edge.fill.messages import Failed, FillError, Mode, Piece, Proved, Wish, error_of
from edge.fill.readahead import Readers, Wishes
from edge.metrics import Cell, Counters
from manifests.digests import Digest
from manifests.pieces import BlobRef, parse_bits, piece_count

Say = Callable[[Wish], None]


@dataclass(slots=True)
class _Held:
    data: bytes
    users: int = 0


class View:
    """One blob being filled; for one event loop.

    Args:
        ref: the blob.
        courseware: the lesson that it is asked for with.
        is_installed: its lesson is shown here.
        counters: of this worker.
        ahead_bytes: longest read-ahead.
        say: tells the filler what is wished for.

    Attributes:
        number: by which the filler knows it; another one after the filler was started anew.
        mode: see `Opened`; None until it is open.
        file: descriptor of the begun or whole file; -1 for none.
        error: why it can be used no more.
        is_attached: the filler knows of it.
        piece_size: bytes per piece.
        users: answers that use it.
        idle_since_s: when the last one ended.
    """

    def __init__(
        self, ref: BlobRef, courseware: str, is_installed: bool, counters: Counters, ahead_bytes: int, say: Say
    ) -> None:
        self.ref = ref
        self.courseware = courseware
        self.is_installed = is_installed
        self.number = 0
        self.mode: Mode | None = None
        self.file = -1
        self.error: FillError | None = None
        self.is_attached = False
        self.users = 0
        self.idle_since_s = 0.0
        self.opening = asyncio.Lock()
        self.ended: list[Callable[[], None]] = []
        self._counters = counters
        self._say = say
        self._loop = asyncio.get_running_loop()
        # A blob without a table (a table itself, a small file) is its own only piece.
        self.piece_size = ref.piece_size if ref.table is not None else max(ref.piece_size, ref.size)
        self._count = piece_count(ref.size, self.piece_size)
        self._have = bytearray(self._count)
        self._readers = Readers(self._count, max(1, ahead_bytes // self.piece_size))
        self._waiters: dict[int, set[asyncio.Future[None]]] = {}
        self._held: dict[int, _Held] = {}
        self._said: Wishes | None = None
        self._is_saying = False

    @property
    def digest(self) -> Digest:
        """The blob's name."""
        return self.ref.digest

    @property
    def is_whole(self) -> bool:
        """Whether all of it is proved."""
        return self.mode == "whole"

    # What is here

    def proved_stop(self, at: int, stop: int) -> int:
        """How far bytes from `at` on may be sent, `stop` at most; `at` itself when the next piece is not here."""
        if self.is_whole:
            return stop
        size, n = self.piece_size, at // self.piece_size
        while n * size < stop and self._have[n]:
            n += 1
            if self.mode == "bypass":
                break  # one piece at a time: it is in memory
        return max(at, min(n * size, stop))

    def is_here(self, n: int) -> bool:
        """Whether a piece may be sent."""
        return self.is_whole or bool(self._have[n])

    def data(self, n: int) -> bytes:
        """A piece that only passes through; held by `hold`."""
        return self._held[n].data

    def hold(self, n: int) -> None:
        """Keep a piece that only passes through, until `let_go`."""
        self._held[n].users += 1

    def let_go(self, n: int) -> None:
        """Forget a piece when nobody else sends it."""
        held = self._held[n]
        held.users -= 1
        if held.users <= 0:
            del self._held[n]
            self._have[n] = 0

    # Viewers

    def begin(self, first: int, stop: int) -> int:
        """A viewer begins with piece `first`, and means to go on to before `stop`; returns its number."""
        number = self._readers.begin(self._loop.time(), first, stop)
        self._changed()
        return number

    def move(self, number: int, at: int) -> None:
        """A viewer has come to piece `at`."""
        if self._readers.move(number, at):
            self._changed()

    def end(self, number: int, at: int | None) -> None:
        """A viewer is done; `at`: the piece that would follow, when all was sent."""
        self._readers.end(number, self._loop.time(), at=at)
        self._changed()

    def wait(self, n: int) -> asyncio.Future[None]:
        """A future that ends when piece `n` is here, or with a FillError; for one waiter."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self.error is not None:
            future.set_exception(self.error)
            return future
        waiting = self._waiters.setdefault(n, set())
        if waiting:
            self._counters.add(Cell.FILL_JOINED)
        waiting.add(future)
        future.add_done_callback(lambda done: self._forget(n, done))
        self._changed()
        return future

    # The filler

    def opened(self, mode: Mode, bits: bytes, file: int) -> None:
        """It is open; after a filler's death it is opened anew, and what was proved before stays."""
        self.mode, self.is_attached, self._said = mode, True, None
        if file >= 0:
            self.file = file
        if mode == "file":
            self._arrived(parse_bits(bits, self._count))
        elif mode == "whole":
            self.whole()
        self._changed()

    def proved(self, message: Proved) -> None:
        """Pieces are in the file."""
        self._arrived(frozenset(message.pieces))

    def piece(self, message: Piece) -> None:
        """A piece passes through; nobody waits for it any more when its viewers left meanwhile."""
        self._said = None  # the filler holds this wish for fulfilled: wished for again, it must be said again
        waiting = [one for one in self._waiters.get(message.piece, ()) if not one.done()]
        if waiting and message.piece not in self._held:
            self._held[message.piece] = _Held(message.data)
            self._have[message.piece] = 1
            self._wake(message.piece)

    def whole(self) -> None:
        """All of it is proved."""
        self.mode = "whole"
        for n in tuple(self._waiters):
            self._wake(n)

    def failed(self, message: Failed) -> None:
        """Pieces did not come; whoever waits is told, and may wish for them again."""
        self._said = None
        for n in message.pieces:
            self._fail(n, error_of(message.trouble))

    def detach(self, error: FillError) -> None:
        """The filler is gone: whoever waits is told, and may attach again."""
        self.is_attached = False
        for n in tuple(self._waiters):
            self._fail(n, error)

    def close(self, error: FillError) -> None:
        """It can be used no more; answers that are under way break off."""
        if self.error is None:
            self.error = error
            self.is_attached = False
            for n in tuple(self._waiters):
                self._fail(n, error)
            for tell in self.ended:
                tell()
            self.ended.clear()
            if self.file >= 0:
                os.close(self.file)
                self.file = -1

    def _arrived(self, numbers: frozenset[int]) -> None:
        for n in numbers:
            if n < len(self._have):
                self._have[n] = 1
                self._wake(n)

    def _wake(self, n: int) -> None:
        for future in tuple(self._waiters.get(n, ())):
            if not future.done():
                future.set_result(None)

    def _fail(self, n: int, error: FillError) -> None:
        for future in tuple(self._waiters.get(n, ())):
            if not future.done():
                future.set_exception(error)
                future.exception()  # its waiter may have left

    def _forget(self, n: int, future: asyncio.Future[None]) -> None:
        waiting = self._waiters.get(n)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._waiters[n]

    def _changed(self) -> None:
        """Say what is wished for once the loop comes round: hundreds of viewers move together."""
        if not self._is_saying and self.is_attached and not self.is_whole:
            self._is_saying = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._is_saying = False
        if not self.is_attached or self.is_whole:
            return
        wishes = self._readers.wishes(self._have)
        if wishes != self._said:
            self._said = wishes
            self._say(Wish(self.number, wishes.urgent, wishes.ahead))
