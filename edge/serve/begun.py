"""What a half-filled blob answers: ranges whose pieces are all proved, and which pieces those are.

Edges of one city complete from each other this way while none of them has the whole blob yet.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from aiohttp import web

from edge.serve.content import IMMUTABLE, represent
from edge.serve.entries import Entry
from edge.serve.problems import not_here, unknown
from edge.store.begun import Begun, open_begun, proved_bits
from edge.store.blobs import BlobStore
from manifests.digests import Digest, is_digest
from manifests.errors import NotFoundError
from manifests.pieces import pieces_of_range
from manifests.ranges import Representation, plan_answer

# Siblings ask about once a second each; what was found is good for all of them for so long.
BITS_KEPT_S = 0.25
_MOST_KEPT = 64


class BegunEntry(Entry):
    """The open file of a begun blob; pieces beside those that are sent may be written meanwhile."""

    __slots__ = ()

    def is_touched(self) -> bool:
        """Never: proved pieces are not written again."""
        return False


async def open_half(store: BlobStore, begun: Begun, method: str, headers: Mapping[str, str]) -> Entry:
    """What a begun blob can answer to this request; the caller retires the entry once it was begun to be sent.

    Raises:
        NotHereError: environment; a piece that the answer needs is not proved here.
        StorageError: environment.
    """
    digest = begun.ref.digest
    what = represent(digest, begun.ref.size, "application/octet-stream", IMMUTABLE)
    try:
        return await asyncio.to_thread(_open, store, begun, what, _wanted(begun, what, method, headers))
    except NotFoundError as error:
        raise not_here(f"a part of blob {digest[:16]}…") from error


class PieceBits:
    """Answers `/pieces/SHA256`; one look at the index at a time, however many ask."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._kept: dict[Digest, tuple[float, bytes]] = {}
        self._looking = asyncio.Lock()

    async def answer(self, name: str) -> web.Response:
        """One bit for each piece of the blob.

        Raises:
            NotFoundError: the caller's client asked for what is not begun here.
            StorageError: environment.
        """
        if not is_digest(name):
            raise unknown(f"blob {name[:80]!r}")
        bits = await self._bits(Digest(name))
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=bits, content_type="application/octet-stream", headers=headers)

    async def _bits(self, digest: Digest) -> bytes:
        async with self._looking:
            now_s = asyncio.get_running_loop().time()
            self._kept = {one: kept for one, kept in self._kept.items() if now_s - kept[0] < BITS_KEPT_S}
            if digest in self._kept:
                return self._kept[digest][1]
            bits = await asyncio.to_thread(proved_bits, self._store, digest)
            if bits is None:
                raise unknown(f"blob {digest[:16]}…")
            if len(self._kept) < _MOST_KEPT:
                self._kept[digest] = (now_s, bits)
            return bits


def _wanted(begun: Begun, what: Representation, method: str, headers: Mapping[str, str]) -> list[range]:
    """Numbers of the pieces without which the answer could not be given; HEAD answers for what GET would send."""
    answer = plan_answer(method, headers, what)
    size, piece_size = begun.ref.size, begun.ref.piece_size
    if answer.status == 200:
        return [pieces_of_range(0, size, piece_size)]
    ranges = [part.range for part in answer.parts if part.range is not None]
    return [pieces_of_range(one.start, one.stop, piece_size) for one in ranges]


def _open(store: BlobStore, begun: Begun, what: Representation, wanted: list[range]) -> Entry:
    file = open_begun(store, begun, wanted)
    try:
        return BegunEntry(file, store.paths.partial(begun.ref.digest), what, begun.ref.digest, "")
    except BaseException:  # whatever it was, the descriptor is ours until an entry holds it
        os.close(file)
        raise
