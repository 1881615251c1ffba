"""Tables as files for spreadsheets: XLSX, and CSV with a byte order mark. What a person wrote never becomes a formula.

Numbers are numbers, instants are texts in the province's time, everything else is text. In XLSX a text is written as a
string whatever it begins with; in CSV, which knows no kinds, one that a spreadsheet would take for a formula gets an
apostrophe in front.
"""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from aiohttp import web

Kind = Literal["xlsx", "csv"]
Cell = str | int | float | None

_TYPES: Final = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv; charset=utf-8",
}
# A spreadsheet's own limits.
_MOST_TEXT: Final = 16_000  # it counts in units of UTF-16
_MOST_NAME: Final = 31
_MOST_ROWS: Final = 1_000_000
_NOT_IN_NAMES: Final = re.compile(r"[\[\]:*?/\\]|[\U00010000-\U0010ffff]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_FORMULA: Final = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r]")
_WIDEST: Final = 60


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table: a name, the names of its columns, its rows."""

    name: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Book:
    """Tables that belong together; `title` names the file."""

    title: str
    sheets: Sequence[Sheet]


async def download(book: Book, kind: Kind) -> web.Response:
    """The book as a file to keep; made in a thread, for a year of figures takes a moment."""
    body = await asyncio.to_thread(make_xlsx if kind == "xlsx" else make_csv, book)
    headers = {"Content-Type": _TYPES[kind], "Content-Disposition": disposition(f"{book.title}.{kind}")}
    return web.Response(body=body, headers=headers)


def disposition(name: str) -> str:
    """The header field that names a file, in any language (RFC 6266, RFC 5987)."""
    clean = "".join(char for char in name if char.isprintable() and char not in '/\\"').strip() or "table"
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", clean.encode("ascii", "replace").decode())
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(clean, safe='')}"


def make_xlsx(book: Book) -> bytes:
    """The book for Excel and WPS."""
    from xlsxwriter import Workbook

    out = io.BytesIO()
    options = {"constant_memory": True, "in_memory": False, "strings_to_formulas": False, "strings_to_urls": False}
    with Workbook(out, options) as workbook:
        head = workbook.add_format({"bold": True, "bg_color": "#E8EDF3", "bottom": 1})
        for name, sheet in zip(_names(book.sheets), book.sheets, strict=True):
            page = workbook.add_worksheet(name)
            page.freeze_panes(1, 0)
            page.set_landscape()
            page.set_paper(9)  # A4
            page.fit_to_pages(1, 0)
            page.repeat_rows(0)
            for column, width in enumerate(_widths(sheet)):
                page.set_column(column, column, width)
            for column, text in enumerate(sheet.heads):
                page.write_string(0, column, _clean(text), head)
            for number, row in enumerate(sheet.rows[:_MOST_ROWS], start=1):
                for column, cell in enumerate(row):
                    if isinstance(cell, str):
                        page.write_string(number, column, _clean(cell))
                    elif cell is not None:
                        page.write_number(number, column, cell)
    return out.getvalue()


def make_csv(book: Book) -> bytes:
    """The book as plain text; several tables stand under each other, each under its name."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for number, sheet in enumerate(book.sheets):
        if len(book.sheets) > 1:
            if number:
                writer.writerow([])
            writer.writerow([_plain(sheet.name)])
        writer.writerow([_plain(text) for text in sheet.heads])
        writer.writerows([_plain(cell) if isinstance(cell, str) else cell for cell in row] for row in sheet.rows)
    # Without the mark Excel takes it for the code page of the machine.
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8")


def _plain(text: str) -> str:
    clean = _clean(text)
    return f"'{clean}" if _FORMULA.match(clean) else clean


def _clean(text: str) -> str:
    return _CONTROL.sub("", text)[:_MOST_TEXT]


def _names(sheets: Sequence[Sheet]) -> list[str]:
    """Names that a spreadsheet takes, none twice."""
    found: list[str] = []
    for sheet in sheets:
        base = _NOT_IN_NAMES.sub(" ", _clean(sheet.name)).strip(" '")[:_MOST_NAME] or "Sheet"
        name, number = base, 2
        while name.lower() in {one.lower() for one in found}:
            name = f"{base[: _MOST_NAME - 4]} {number}"
            number += 1
        found.append(name)
    return found


def _widths(sheet: Sheet) -> list[int]:
    """Wide enough for the first rows; a Chinese character takes the room of two."""
    widths = []
    for column, head in enumerate(sheet.heads):
        texts = [head, *(str(row[column]) for row in sheet.rows[:50] if row[column] is not None)]
        most = max(sum(1 if char.isascii() else 2 for char in text[:_WIDEST]) for text in texts)
        widths.append(min(_WIDEST, most + 2))
    return widths
