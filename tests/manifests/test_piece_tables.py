"""Pieces and tables against a naive model that slices."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.digests import digest_of
from manifests.errors import DigestError, FormatError
from manifests.pieces import (
    MAX_PIECE_SIZE,
    MIN_PIECE_SIZE,
    PIECE_SIZE,
    BlobRef,
    PieceTable,
    Span,
    TableBuilder,
    check_piece_size,
    dump_bits,
    parse_bits,
    parse_table,
    piece_count,
    pieces_of_range,
    plan_spans,
    table_bytes,
)

SMALL = MIN_PIECE_SIZE


def naive_table(data: bytes, piece_size: int) -> bytes:
    return b"".join(hashlib.sha256(data[at : at + piece_size]).digest() for at in range(0, len(data), piece_size))


def blob_of(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


sizes = st.integers(0, 5 * SMALL) | st.sampled_from([0, 1, SMALL - 1, SMALL, SMALL + 1, 2 * SMALL])


@given(sizes, st.lists(st.integers(0, 3 * SMALL), max_size=12))
def test_builder_takes_any_portions(size: int, cuts: list[int]) -> None:
    data = blob_of(size)
    builder = TableBuilder(SMALL)
    edges = sorted({0, size, *(cut for cut in cuts if cut < size)})
    for start, stop in pairwise(edges):
        builder.update(memoryview(data)[start:stop])
    builder.update(b"")
    made = builder.finish()
    assert made == naive_table(data, SMALL)
    assert len(made) == table_bytes(size, SMALL) == 32 * piece_count(size, SMALL)


@given(sizes, st.data())
def test_a_piece_proves_itself_and_nothing_else(size: int, data: st.DataObject) -> None:
    blob = blob_of(size)
    table = parse_table(naive_table(blob, SMALL), size, SMALL)
    assert len(table) == piece_count(size, SMALL)
    for n in range(len(table)):
        start, stop = table.bounds(n)
        table.check_piece(n, blob[start:stop])
        assert not table.is_piece(n, blob[start:stop] + b"0")
        assert not table.is_piece(n, blob[start : stop - 1])
        flipped = bytearray(blob[start:stop])
        flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1
        with pytest.raises(DigestError):
            table.check_piece(n, flipped)
    for outside in (-1, len(table), len(table) + 1):
        assert not table.is_piece(outside, b"")
        assert not table.is_piece(outside, blob[:SMALL])


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_pieces_of_a_range(a: int, b: int) -> None:
    piece = 64
    naive = sorted({at // piece for at in range(a, b)})
    assert list(pieces_of_range(a, b, piece)) == naive


@given(st.sets(st.integers(0, 200)), st.integers(1, 9))
def test_spans_cover_exactly_what_is_missing(missing: set[int], most: int) -> None:
    spans = list(plan_spans(sorted(missing), most))
    assert [n for span in spans for n in span.numbers()] == sorted(missing)
    assert all(1 <= len(span.numbers()) <= most for span in spans)
    for before, after in pairwise(spans):
        assert after.first > before.last + 1 or len(before.numbers()) == most


def test_span_bounds_stop_at_the_end_of_the_blob() -> None:
    table = PieceTable(2 * SMALL + 10, SMALL, b"\0" * 96)
    assert Span(1, 2).bounds(table) == (SMALL, 2 * SMALL + 10)


@pytest.mark.parametrize("bad", [0, -1, 1, SMALL - 1, SMALL + 1, 3 * SMALL, SMALL // 2, MAX_PIECE_SIZE * 2, 1 << 40])
def test_piece_sizes_that_are_refused(bad: int) -> None:
    with pytest.raises(FormatError):
        check_piece_size(bad)
    with pytest.raises(FormatError):
        TableBuilder(bad)


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_table_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(FormatError):
        parse_table(b"\0" * length, SMALL, SMALL)


def test_table_over_the_limit_is_refused() -> None:
    size = (16 * 1024 * 1024 // 32 + 1) * SMALL
    with pytest.raises(FormatError):
        parse_table(bytes(table_bytes(size, SMALL)), size, SMALL)


@settings(max_examples=20)
@given(st.integers(0, 1 << 40))
def test_table_is_a_blob_of_its_own(size: int) -> None:
    name = digest_of(b"")
    assert BlobRef(name, size).table_ref is None
    ref = BlobRef(name, size, name)
    assert ref.table_ref == BlobRef(name, 32 * -(-size // PIECE_SIZE))
    assert ref.piece_count == -(-size // PIECE_SIZE)


@given(st.data(), st.integers(0, 70))
def test_bits_come_back_as_they_went(data: st.DataObject, count: int) -> None:
    numbers = data.draw(st.sets(st.integers(0, count - 1))) if count else set()
    bits = dump_bits(numbers, count)
    assert len(bits) == -(-count // 8)
    assert parse_bits(bits, count) == numbers
    with pytest.raises(FormatError):
        parse_bits(bits + b"\0", count)
    if count % 8:
        with pytest.raises(FormatError):
            parse_bits(bits[:-1] + bytes([bits[-1] | 1]), count)


def test_bits_of_the_format_text() -> None:
    assert dump_bits((0, 2, 9), 10).hex() == "a040"
