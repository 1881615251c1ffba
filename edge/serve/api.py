"""The small API for players and other programs: what is installed, as JSON."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from edge.serve.answers import answer_document
from edge.serve.content import media_url, poster_url
from edge.serve.fills import Fills
from edge.serve.problems import not_here, unknown
from edge.serve.query import read_number
from edge.serve.stock import Stock
from manifests.model import Courseware, File
from manifests.streams import streams_of

DEFAULT_LIMIT = 100
MAX_LIMIT = 500

_JSON = "application/json"


async def courseware_list(stock: Stock, request: web.BaseRequest) -> web.Response:
    """A JSON list, latest published first; `column=`, `limit=` and `offset=` choose a part of it.

    The whole count is in `X-Total-Count`; `Link` names the next part (RFC 8288).

    Raises:
        InputError: the client's `limit` or `offset` is not a number in its bounds.
    """
    shelf = stock.shelf
    column = request.query.get("column")
    ids = shelf.newest if column is None else shelf.by_column.get(column, ())
    limit = read_number(request, "limit", DEFAULT_LIMIT, high=MAX_LIMIT)
    offset = read_number(request, "offset", 0, low=0)
    items = [shelf.lessons[one] for one in ids[offset : offset + limit]]
    data = await asyncio.to_thread(_dump_list, items)
    fields = {"X_Total_Count": str(len(ids))}
    if offset + limit < len(ids):
        following = request.rel_url.update_query(offset=str(offset + limit), limit=str(limit))
        fields["Link"] = f'<{following}>; rel="next"'
    return answer_document(request, data, _JSON, **fields)


async def courseware_one(
    stock: Stock, request: web.BaseRequest, courseware: str, fills: Fills | None = None
) -> web.Response:
    """One courseware as a JSON object; `here` says whether it is installed, or comes while it plays.

    Raises:
        NotFoundError: unknown or recalled.
        NotHereError: offered, but not installed here, and nobody fills.
    """
    item = stock.shelf.lessons.get(courseware)
    is_here = item is not None
    if item is None and fills is not None:
        item = await fills.lesson(courseware)
    if item is None:
        if (await stock.offered()).has(courseware, stock.now()):
            raise not_here(f"courseware {courseware!r}")
        raise unknown(f"courseware {courseware[:64]!r}")
    return answer_document(request, msgspec.json.encode({**describe(item), "here": is_here}), _JSON)


def describe(item: Courseware) -> dict[str, Any]:
    """A courseware as the API shows it."""
    return {
        "id": item.id,
        "version": item.version,
        "title": item.title,
        "summary": item.summary,
        "kind": item.kind,
        "columns": item.columns,
        "duration_s": item.duration_s,
        "published": item.published,
        "tags": item.tags,
        "credit": item.credit,
        "poster": poster_url(item) or None,
        "size": item.size,
        "files": [
            {
                "name": file.name,
                "role": file.role,
                "media_type": file.media_type,
                "size": file.size,
                "sha256": file.blob,
                "url": media_url(item, file),
                **_hls_of(item, file),
            }
            for file in item.files
        ],
    }


def _hls_of(item: Courseware, file: File) -> dict[str, str]:
    """Of a video that plays as HLS, the playlist to open."""
    streams = streams_of(item, file) if file.role == "video" else None
    return {"hls": media_url(item, streams.master)} if streams is not None else {}


def _dump_list(items: list[Courseware]) -> bytes:
    return msgspec.json.encode([describe(item) for item in items])
