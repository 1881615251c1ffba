"""The portal's pages: start, column, lesson. Every page is bounded, whatever the library holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web
from markupsafe import Markup

from edge.serve.content import media_url, poster_url
from edge.serve.fills import Fills
from edge.serve.pages import Pages
from edge.serve.problems import not_here, unknown
from edge.serve.query import read_number
from edge.serve.shelf import LOOSE, Shelf
from edge.serve.stock import Stock
from edge.serve.vendor import HLS_SCRIPT
from edge.serve.words import Words, show_duration, show_size
from manifests.articles import MAX_ARTICLE_BYTES
from manifests.digests import Digest
from manifests.errors import YuanjiaoError
from manifests.instants import Instant, dump_instant
from manifests.model import Courseware, File
from manifests.streams import streams_of

ROW_CARDS = 8
HOME_ROWS = 8
PAGE_CARDS = 24
NEW_DAYS = 7

_STEPS = (-100, -10, -1, 1, 10, 100)


@dataclass(frozen=True, slots=True)
class Card:
    """A lesson among others."""

    url: str
    title: str
    kind: str
    duration: str
    poster: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A column on the start page: its first lessons and the way to all of them."""

    title: str
    url: str
    count: int
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Pager:
    """Where a long list stands."""

    page: int
    pages: int

    @property
    def near(self) -> tuple[int, ...]:
        """Pages to go to: the first, the last, and those one, ten and a hundred away."""
        wanted = {1, self.page, self.pages, *(self.page + step for step in _STEPS)}
        return tuple(sorted(page for page in wanted if 1 <= page <= self.pages))


@dataclass(frozen=True, slots=True)
class Link:
    """A file of a lesson."""

    name: str
    url: str
    size: str
    role: str
    language: str = ""


async def home(stock: Stock, pages: Pages, request: web.BaseRequest) -> web.Response:
    """The start page: newest lessons, then the columns that have some."""
    words, shelf, now = pages.words(request), stock.shelf, stock.now()
    ids = [column.id for column in shelf.columns if column.id in shelf.by_column]
    ids += [LOOSE] if LOOSE in shelf.by_column else []
    pager = make_pager(request, len(ids), HOME_ROWS)
    sections = [
        Section(
            shelf.column_title(column) or words("loose"),
            f"/columns/{column}",
            len(shelf.by_column[column]),
            _cards(shelf, shelf.by_column[column][:ROW_CARDS], now),
        )
        for column in _slice(ids, pager, HOME_ROWS)
    ]
    newest = _cards(shelf, shelf.newest[: ROW_CARDS // 2], now) if pager.page == 1 and len(ids) > 1 else ()
    return pages.page(
        stock,
        request,
        "home.html",
        sections=sections,
        newest=newest,
        pager=pager,
        is_synced=stock.trust is not None,
        back="",
    )


async def column(stock: Stock, pages: Pages, request: web.BaseRequest, column: str) -> web.Response:
    """All lessons of a column, page by page.

    Raises:
        NotFoundError: no such column.
    """
    words, shelf = pages.words(request), stock.shelf
    title = words("loose") if column == LOOSE else shelf.column_title(column)
    if not title:
        raise unknown(f"column {column[:64]!r}")
    ids = shelf.by_column.get(column, ())
    pager = make_pager(request, len(ids), PAGE_CARDS)
    cards = _cards(shelf, _slice(ids, pager, PAGE_CARDS), stock.now())
    return pages.page(stock, request, "column.html", title=title, lessons=cards, pager=pager, back="/")


async def lesson(
    stock: Stock, pages: Pages, request: web.BaseRequest, courseware: str, fills: Fills | None = None
) -> web.Response:
    """One lesson with its player, article or documents; one that is offered and not here plays while it comes.

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
            raise not_here(f"lesson {courseware!r}")
        raise unknown(f"lesson {courseware[:64]!r}")
    words = pages.words(request)
    links = {role: _links(item, role) for role in ("video", "audio", "document", "subtitle")}
    parts = links["video"] or links["audio"]
    part = min(read_number(request, "part", 1), max(len(parts), 1))
    played = next((file for file in item.files if parts and file.name == parts[part - 1].name), None)
    home_column = next((one for one in item.columns if stock.shelf.column_title(one)), "")
    return pages.page(
        stock,
        request,
        "lesson.html",
        item=item,
        published=words.date(item.published),
        duration=show_duration(item.duration_s),
        size=show_size(item.size),
        parts=parts,
        part=part,
        hls=_adaptive_url(item, played) if played else "",
        hls_script=HLS_SCRIPT,
        poster=poster_url(item),
        subtitles=links["subtitle"],
        documents=links["document"],
        is_here=is_here,
        articles=[
            await _article(stock, pages, words, item, file, fills) for file in item.files if file.role == "article"
        ],
        back=f"/columns/{home_column}" if home_column else "/",
    )


def make_pager(request: web.BaseRequest, count: int, per_page: int) -> Pager:
    """Where `page=` stands in a list of `count`; beyond the end means the last page.

    Raises:
        InputError: it is not a number.
    """
    pages = max(-(-count // per_page), 1)
    return Pager(min(read_number(request, "page", 1), pages), pages)


def _slice(ids: Sequence[str], pager: Pager, per_page: int) -> Sequence[str]:
    return ids[(pager.page - 1) * per_page : pager.page * per_page]


def _cards(shelf: Shelf, ids: Sequence[str], now: Instant) -> tuple[Card, ...]:
    new_since = dump_instant(Instant(now - NEW_DAYS * 86400))
    items = [shelf.lessons[one] for one in ids]
    return tuple(
        Card(
            f"/lessons/{item.id}",
            item.title,
            item.kind,
            show_duration(item.duration_s),
            poster_url(item),
            item.published >= new_since,
        )
        for item in items
    )


def _links(item: Courseware, role: str) -> list[Link]:
    return [
        Link(file.name, media_url(item, file), show_size(file.size), file.role, file.language)
        for file in item.files
        if file.role == role
    ]


def _adaptive_url(item: Courseware, video: File) -> str:
    """Where a video's master playlist is; empty when there is but one picture, which the plain file has as well."""
    streams = streams_of(item, video)
    return media_url(item, streams.master) if streams is not None and streams.is_adaptive else ""


async def _article(
    stock: Stock, pages: Pages, words: Words, item: Courseware, file: File, fills: Fills | None
) -> Markup:
    try:
        if fills is not None and not await asyncio.to_thread(stock.store.has, Digest(file.blob)):
            await fills.bring(item, file)
        async with pages.rendering:  # one at a time: a long article takes a second of processor
            return await asyncio.to_thread(_render, stock, pages, words, item, file)
    except YuanjiaoError:
        return Markup("<p>{}</p>").format(words("article_absent"))


def _render(stock: Stock, pages: Pages, words: Words, item: Courseware, file: File) -> Markup:
    data = stock.store.read(Digest(file.blob), 0, min(file.size, MAX_ARTICLE_BYTES))
    urls = tuple((one.name, media_url(item, one)) for one in item.files)
    return pages.article(data.decode("utf-8", "replace"), urls, words.code, item.title)
