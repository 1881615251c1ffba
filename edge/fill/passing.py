"""Pieces that are passed on to terminals and not kept, because the disk has no room: proved like all others.

The last few stay in memory, so that viewers who are close to each other share them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from manifests.pieces import BlobRef, PieceTable


class Passing:
    """Takes pieces as a partial blob does; usable from any thread.

    Args:
        ref: the blob.
        table: its proved piece table.
        most_bytes: of pieces in memory; one piece is always kept.
    """

    def __init__(self, ref: BlobRef, table: PieceTable, most_bytes: int) -> None:
        self.ref = ref
        self.table = table
        self._most = max(1, most_bytes // table.piece_size)
        self._lock = threading.Lock()
        self._pieces: OrderedDict[int, bytes] = OrderedDict()

    def write_pieces(self, first: int, data: bytes | memoryview) -> list[int]:
        """Prove pieces and keep the good ones for a while; returns the numbers of the bad ones."""
        view, size = memoryview(data), self.table.piece_size
        bad: list[int] = []
        for i, start in enumerate(range(0, len(view), size)):
            piece = bytes(view[start : start + size])
            if self.table.is_piece(first + i, piece):
                self._keep(first + i, piece)
            else:
                bad.append(first + i)
        return bad

    def piece(self, n: int) -> bytes | None:
        """A proved piece, while it is in memory."""
        with self._lock:
            found = self._pieces.get(n)
            if found is not None:
                self._pieces.move_to_end(n)
            return found

    def has(self, n: int) -> bool:
        """Whether a piece is in memory."""
        with self._lock:
            return n in self._pieces

    def _keep(self, n: int, piece: bytes) -> None:
        with self._lock:
            self._pieces[n] = piece
            self._pieces.move_to_end(n)
            while len(self._pieces) > self._most:
                self._pieces.popitem(last=False)
