"""Tables for spreadsheets: what a person wrote stays text, names are names anywhere, numbers are numbers."""

from __future__ import annotations

import csv
import io
import zipfile
from urllib.parse import unquote

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.web.console.sheets import Book, Cell, Sheet, disposition, make_csv, make_xlsx

EVIL = ("=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", " =1", "＝1", "http://x", "{=1}", "a\x00\x1bb")


def book(*rows: tuple[Cell, ...], name: str = "表", heads: tuple[str, ...] = ("一", "二")) -> Book:
    return Book("标题", [Sheet(name, heads, rows)])


def opened(data: bytes) -> openpyxl.Workbook:
    return openpyxl.load_workbook(io.BytesIO(data))


def parsed(data: bytes) -> list[list[str]]:
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(data[3:].decode("utf-8"), newline="")))


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_person_wrote_never_is_a_formula(evil: str) -> None:
    data = make_xlsx(book((evil, 1), name=evil, heads=(evil, "n")))
    page = opened(data).worksheets[0]
    assert [cell.data_type for cell in page[2]] == ["s", "n"]
    assert page["A1"].data_type == "s"
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        sheet = parts.read("xl/worksheets/sheet1.xml")
        assert b"<f" not in sheet.replace(b"<fi", b"")
        assert not [name for name in parts.namelist() if "_rels/sheet" in name], "no link to anywhere"
    first = parsed(make_csv(book((evil, 1))))[1][0]
    assert not first.lstrip().startswith(("=", "+", "-", "@", "＝")) or not first.strip()


table = st.lists(st.tuples(st.text(max_size=30), st.integers(-(1 << 40), 1 << 40) | st.none()), max_size=6)


@settings(max_examples=60, deadline=None)
@given(table, st.text(max_size=40))
def test_every_text_and_number_comes_back(rows: list[tuple[str, int | None]], name: str) -> None:
    page = opened(make_xlsx(book(*rows, name=name))).worksheets[0]
    assert page.max_row == len(rows) + 1
    for number, (text, count) in enumerate(rows, start=2):
        assert page.cell(number, 2).value == count
        kept = page.cell(number, 1).value or ""
        plain = "".join(c for c in text if c.isprintable() and not 0xD800 <= ord(c) < 0xE000)
        assert all(c in kept for c in plain)
    lines = parsed(make_csv(book(*rows, name=name)))
    assert len(lines) >= len(rows) + 1
    assert [row[1] for row in lines[1:]][: len(rows)] or not rows


def test_sheets_have_names_that_a_spreadsheet_takes_none_twice() -> None:
    long = "很长的名字" * 20
    made = make_xlsx(Book("x", [Sheet(name, ["a"], [[1]]) for name in (long, long, "a/b:c", "", "A B C", "History?")]))
    names = opened(made).sheetnames
    assert len({name.lower() for name in names}) == 6
    assert all(len(name) <= 31 for name in names)
    both = parsed(make_csv(Book("x", [Sheet("一", ["a"], [[1]]), Sheet("二", ["b"], [["=2"]])])))
    assert both == [["一"], ["a"], ["1"], [], ["二"], ["b"], ["'=2"]]


@given(st.text(max_size=60))
def test_names_of_files_break_no_header(title: str) -> None:
    field = disposition(f"{title}.xlsx")
    assert field.isascii()
    assert "\r" not in field
    assert "\n" not in field
    plain, _, full = field.removeprefix('attachment; filename="').partition("\"; filename*=UTF-8''")
    assert '"' not in plain
    assert "/" not in plain
    assert "/" not in unquote(full)
    assert unquote(full).endswith(".xlsx")
