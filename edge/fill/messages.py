"""What workers and the filler say to each other over a socket of this machine, and how it is put into bytes.

A worker opens a *view* of a blob, says what its viewers need, and is told what is proved. Each message is preceded by
its length. Both ends are this program at this version; nothing of it is kept or leaves the machine.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec
from msgspec import Struct

from manifests.digests import Digest
from manifests.errors import TransferError
from manifests.pieces import MAX_PIECE_SIZE, BlobRef

Run = tuple[int, int]
Mode = Literal["file", "whole", "bypass"]

_LENGTH_BYTES = 4
# One piece, the bits of the largest blob (1 TiB in pieces of 64 KiB), or a lesson of 200 files.
_MOST_BYTES = MAX_PIECE_SIZE + (1 << 20)


class Lookup(Struct, frozen=True, tag=True, array_like=True):
    """Ask what the newest catalog offers under an id, or which blob of it has this name; one of them is empty."""

    number: int
    courseware: str
    digest: str


class Open(Struct, frozen=True, tag=True, array_like=True):
    """Have a blob filled; `is_installed` says that its lesson is shown here and its bytes should be."""

    view: int
    digest: str
    size: int
    table: str | None
    piece_size: int
    courseware: str
    is_installed: bool

    @property
    def ref(self) -> BlobRef:
        """The blob."""
        return BlobRef(Digest(self.digest), self.size, Digest(self.table) if self.table else None, self.piece_size)


class Wish(Struct, frozen=True, tag=True, array_like=True):
    """All that the viewers of a view need now and next; takes the place of what was wished before."""

    view: int
    urgent: tuple[Run, ...]
    ahead: tuple[Run, ...]


class Close(Struct, frozen=True, tag=True, array_like=True):
    """Nobody reads through this view any more."""

    view: int


class Served(Struct, frozen=True, tag=True, array_like=True):
    """How often blobs were begun to be sent since the last time."""

    counts: dict[str, int]


class Found(Struct, frozen=True, tag=True, array_like=True):
    """The answer to `Lookup`: the lesson as it stands in the catalog, empty for none."""

    number: int
    doc: bytes


class Opened(Struct, frozen=True, tag=True, array_like=True):
    """A view is open.

    Attributes:
        mode: pieces are in the begun file, or all of the blob is here, or nothing is kept and pieces come as messages.
        bits: pieces that are proved, as `manifests.pieces.dump_bits` has them.
        device, inode: of the begun file, for whoever opens it by name.
    """

    view: int
    mode: Mode
    bits: bytes
    device: int
    inode: int


class Proved(Struct, frozen=True, tag=True, array_like=True):
    """Pieces that are proved and stand in the begun file."""

    view: int
    pieces: tuple[int, ...]


class Piece(Struct, frozen=True, tag=True, array_like=True):
    """A proved piece that is not kept."""

    view: int
    piece: int
    data: bytes


class Trouble(Struct, frozen=True, array_like=True):
    """Why something did not come; `retry_s` says when it is worth asking again."""

    message: str
    zh: str
    hint: str
    hint_zh: str
    retry_s: float


class Failed(Struct, frozen=True, tag=True, array_like=True):
    """Pieces that were waited for and did not come; the wish for them is forgotten."""

    view: int
    pieces: tuple[int, ...]
    trouble: Trouble


class Whole(Struct, frozen=True, tag=True, array_like=True):
    """All of the blob is proved and has its name."""

    view: int


class Ended(Struct, frozen=True, tag=True, array_like=True):
    """The view is closed by the filler: the lesson was recalled, the file was dropped, or it could not be opened."""

    view: int
    trouble: Trouble


Up = Lookup | Open | Wish | Close | Served
Down = Found | Opened | Proved | Piece | Failed | Whole | Ended

_ENCODER = msgspec.msgpack.Encoder()
UP = msgspec.msgpack.Decoder(Up)
DOWN = msgspec.msgpack.Decoder(Down)


class FillError(TransferError):
    """What was asked for cannot be fetched now.

    Attributes:
        retry_s: when it is worth asking again.
    """

    default_hint = "the line to above is down or its sources fail; try again later"
    default_hint_zh = "上级线路或来源暂时不可用，请稍后再试"

    def __init__(self, message: str, *, zh: str = "", hint: str = "", hint_zh: str = "", retry_s: float = 5.0) -> None:
        super().__init__(message, zh=zh, hint=hint, hint_zh=hint_zh)
        self.retry_s = retry_s


def error_of(trouble: Trouble) -> FillError:
    """As an error of this process."""
    return FillError(
        trouble.message, zh=trouble.zh, hint=trouble.hint, hint_zh=trouble.hint_zh, retry_s=trouble.retry_s
    )


def frame(message: Up | Down) -> bytes:
    """A message with its length before it."""
    data = _ENCODER.encode(message)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next message's bytes; None at the end.

    Raises:
        ConnectionError: environment; broken off within a message, or a length that no message has.
    """
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        if length > _MOST_BYTES:
            raise ConnectionError(f"message of {length} bytes")
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionError("broken off within a message") from error
        return None
