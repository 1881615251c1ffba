"""Pieces and piece tables. A piece proves itself, whoever sent it.

This file knows sizes, offsets and digests. It does not know where pieces come from or where they are stored.
A piece table is the SHA-256 of each fixed-size piece, 32 bytes each, end to end; it is itself a blob.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from manifests.digests import DIGEST_BYTES, Digest
from manifests.errors import DigestError, FormatError

PIECE_SIZE = 256 * 1024
MIN_PIECE_SIZE = 64 * 1024
MAX_PIECE_SIZE = 16 * 1024 * 1024
MAX_BLOB_SIZE = 1 << 40
# 1 TiB at 256 KiB a piece would be 128 MiB of table; 16 MiB covers 128 GiB, far above any lesson.
MAX_TABLE_BYTES = 16 * 1024 * 1024


def check_piece_size(piece_size: int) -> int:
    """Refuse a piece size that is not a power of two within the limits.

    Raises:
        FormatError: bad data.
    """
    if not MIN_PIECE_SIZE <= piece_size <= MAX_PIECE_SIZE or piece_size & (piece_size - 1):
        raise FormatError(
            f"piece size {piece_size} is not a power of two from {MIN_PIECE_SIZE} to {MAX_PIECE_SIZE} bytes"
        )
    return piece_size


def piece_count(size: int, piece_size: int) -> int:
    """How many pieces a blob of `size` bytes has (0 for an empty one)."""
    return -(-size // piece_size)


def table_bytes(size: int, piece_size: int) -> int:
    """How long the piece table of such a blob is, in bytes."""
    return piece_count(size, piece_size) * DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class BlobRef:
    """All that is needed to fetch and prove one blob.

    Attributes:
        digest: the blob's name.
        size: its length in bytes.
        table: name of its piece table; None when the blob is at most one piece, or is itself a piece table.
        piece_size: bytes per piece (the last one may be shorter).
    """

    digest: Digest
    size: int
    table: Digest | None = None
    piece_size: int = PIECE_SIZE

    @property
    def table_ref(self) -> BlobRef | None:
        """The piece table as a blob of its own; it has no table and is proved whole."""
        if self.table is None:
            return None
        return BlobRef(self.table, table_bytes(self.size, self.piece_size), None, self.piece_size)

    @property
    def piece_count(self) -> int:
        """Number of pieces."""
        return piece_count(self.size, self.piece_size)


@dataclass(frozen=True, slots=True)
class PieceTable:
    """A proved piece table: what each piece of one blob must hash to."""

    size: int
    piece_size: int
    digests: bytes

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.digests) // DIGEST_BYTES

    def bounds(self, n: int) -> tuple[int, int]:
        """Half-open byte range of piece `n` within the blob."""
        start = n * self.piece_size
        return start, min(start + self.piece_size, self.size)

    def is_piece(self, n: int, data: bytes | bytearray | memoryview) -> bool:
        """Tell whether `data` is piece `n`, to the byte."""
        start, stop = self.bounds(n)
        at = n * DIGEST_BYTES
        return len(data) == stop - start and hashlib.sha256(data).digest() == self.digests[at : at + DIGEST_BYTES]

    def check_piece(self, n: int, data: bytes | bytearray | memoryview) -> None:
        """Prove piece `n`.

        Raises:
            DigestError: bad data.
        """
        if not self.is_piece(n, data):
            raise DigestError(f"piece {n} of {len(self)} ({len(data)} bytes) does not prove")


def parse_table(data: bytes, size: int, piece_size: int) -> PieceTable:
    """Read a piece table whose own digest was already proved.

    Raises:
        FormatError: bad data; its length does not fit the blob's size.
    """
    check_piece_size(piece_size)
    if len(data) != table_bytes(size, piece_size) or len(data) > MAX_TABLE_BYTES:
        raise FormatError(f"piece table of {len(data)} bytes does not fit a blob of {size} in pieces of {piece_size}")
    return PieceTable(size, piece_size, data)


class TableBuilder:
    """Makes a piece table from bytes that arrive in any portions.

    Not safe for two threads; one thread feeds it while another hashes the whole blob.
    """

    def __init__(self, piece_size: int = PIECE_SIZE) -> None:
        self._piece_size = check_piece_size(piece_size)
        self._done = bytearray()
        self._open = hashlib.sha256()
        self._filled = 0

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the blob."""
        view = memoryview(data)
        while view:
            part = view[: self._piece_size - self._filled]
            self._open.update(part)
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == self._piece_size:
                self._close_piece()

    def finish(self) -> bytes:
        """Return the table; call once, after the last byte."""
        if self._filled:
            self._close_piece()
        return bytes(self._done)

    def _close_piece(self) -> None:
        self._done += self._open.digest()
        self._open = hashlib.sha256()
        self._filled = 0


def pieces_of_range(start: int, stop: int, piece_size: int) -> range:
    """Numbers of the pieces that the half-open byte range touches."""
    if start >= stop:
        return range(0)
    return range(start // piece_size, (stop - 1) // piece_size + 1)


@dataclass(frozen=True, slots=True)
class Span:
    """Adjacent pieces `first` to `last` inclusive, fetched by one range request."""

    first: int
    last: int

    def numbers(self) -> range:
        """The piece numbers of this span."""
        return range(self.first, self.last + 1)

    def bounds(self, table: PieceTable) -> tuple[int, int]:
        """Half-open byte range within the blob."""
        return table.bounds(self.first)[0], table.bounds(self.last)[1]


def plan_spans(missing: Iterable[int], max_pieces: int) -> Iterator[Span]:
    """Join adjacent missing pieces into spans of at most `max_pieces`, in order.

    Args:
        missing: piece numbers, ascending, without repeats.
        max_pieces: upper bound per span, at least 1.
    """
    first = last = -1
    for n in missing:
        if first >= 0 and n == last + 1 and n - first < max_pieces:
            last = n
            continue
        if first >= 0:
            yield Span(first, last)
        first = last = n
    if first >= 0:
        yield Span(first, last)


def dump_bits(numbers: Iterable[int], count: int) -> bytes:
    """One bit for each of `count` pieces, set for `numbers`; piece 0 is the highest bit of the first byte."""
    bits = bytearray((count + 7) // 8)
    for n in numbers:
        bits[n >> 3] |= 0x80 >> (n & 7)
    return bytes(bits)


def parse_bits(data: bytes, count: int) -> frozenset[int]:
    """The numbers that `dump_bits` was given.

    Raises:
        FormatError: bad data; of another length, or bits beyond the last piece are set.
    """
    if len(data) != (count + 7) // 8 or (count % 8 and data[-1] & (0xFF >> count % 8)):
        raise FormatError(f"{len(data)} bytes do not tell of {count} pieces")
    return frozenset(n for n in range(count) if data[n >> 3] & (0x80 >> (n & 7)))
