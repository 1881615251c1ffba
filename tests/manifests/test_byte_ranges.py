"""The Range field against a naive model that counts bytes one by one (RFC 9110 section 14)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.ranges import MAX_RANGES, ByteRange, Unsatisfiable, parse_content_range, parse_range

SIZE = 100


def outcome(value: str, size: int) -> list[tuple[int, int]] | str | None:
    try:
        ranges = parse_range(value, size)
    except Unsatisfiable:
        return "416"
    return None if ranges is None else [(one.start, one.stop) for one in ranges]


specs = st.one_of(
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda two: (min(two), max(two))),
    st.tuples(st.integers(0, 40), st.none()),
    st.tuples(st.none(), st.integers(0, 40)),
)


def wanted(spec: tuple[int | None, int | None], size: int) -> set[int]:
    first, last = spec
    every = range(size)
    if first is None:
        return set(every[-last:]) if last else set()
    return {at for at in every if at >= first and (last is None or at <= last)}


def write(spec: tuple[int | None, int | None]) -> str:
    return "-".join("" if part is None else str(part) for part in spec)


@given(st.lists(specs, min_size=1, max_size=6), st.integers(1, 30), st.sampled_from([",", ", ", " ,\t", ",,"]))
def test_ranges_hold_exactly_the_bytes_asked(asked: list[tuple[int | None, int | None]], size: int, comma: str) -> None:
    sets = [wanted(spec, size) for spec in asked]
    every = set().union(*sets)
    value = "bytes=" + comma.join(map(write, asked))
    if not every:
        assert outcome(value, size) == "416"
        return
    ranges = parse_range(value, size)
    assert ranges is not None
    covered = [at for one in ranges for at in range(one.start, one.stop)]
    assert len(covered) == len(set(covered)), "no byte twice"
    assert set(covered) == every
    if sum(bool(one) for one in sets) == 1:
        assert len(ranges) == 1
    # The order asked is kept: each range begins with the first asked part that it holds.
    places = [min(i for i, one in enumerate(sets) if one & set(range(r.start, r.stop))) for r in ranges]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-", [(0, 100)]),
        ("bytes=99-99", [(99, 100)]),
        ("bytes=90-200", [(90, 100)]),
        ("bytes=-1", [(99, 100)]),
        ("bytes=-500", [(0, 100)]),
        ("BYTES=5-6", [(5, 7)]),
        ("bytes=00-000000000000000000000000001", [(0, 2)]),
        ("bytes=0-99999999999999999999999999999999", [(0, 100)]),
        ("bytes=-99999999999999999999999999999999", [(0, 100)]),
        ("bytes= 0-1 ,\t2-3", [(0, 4)]),
        ("bytes=,,0-1,,", [(0, 2)]),
        ("bytes=50-60,0-1", [(50, 61), (0, 2)]),
        ("bytes=50-60,0-1,55-70", [(50, 71), (0, 2)]),
        ("bytes=0-1,200-,-0", [(0, 2)]),
        ("bytes=0-1,2-3,5-6", [(0, 4), (5, 7)]),
    ],
)
def test_well_formed(value: str, expected: list[tuple[int, int]]) -> None:
    assert outcome(value, SIZE) == expected


@pytest.mark.parametrize(
    "value", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=-0,100-", "bytes=99999999999999999999-"]
)
def test_unsatisfiable(value: str) -> None:
    assert outcome(value, SIZE) == "416"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes= ",
        "bytes 0-1",
        "bytes =0-1",
        "bytes:0-1",
        "items=0-1",
        "bytess=0-1",
        "bytes=a-b",
        "bytes=1-0",
        "bytes=0-1,5-4",
        "bytes=-",
        "bytes=--1",
        "bytes=0--1",
        "bytes=+0-1",
        "bytes=0 - 1",
        "bytes=0-1;2-3",
        "bytes=0-1 2-3",
        "bytes=0x0-0x1",
        "bytes=0.0-1",
        "bytes=1e1-",
        "bytes=0-1\n",
        "bytes=٠-١",
        "bytes=０-１",
        "bytes=²-",
        "bytes==0-1",
        "bytes=bytes=0-1",
        "bytes=0-1, bytes=2-3",
        "bytes=0-1,x",
        "bytes=0-0" + ",5-5" * MAX_RANGES,
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_malformed_or_too_many_is_ignored(value: str) -> None:
    assert outcome(value, SIZE) is None


def test_as_many_as_allowed() -> None:
    value = "bytes=" + ",".join(f"{2 * i}-{2 * i}" for i in range(MAX_RANGES))
    assert outcome(value, SIZE) == [(2 * i, 2 * i + 1) for i in range(MAX_RANGES)]


def test_empty_representation() -> None:
    # A suffix is satisfiable by the letter, yet no Content-Range can name an empty range.
    assert outcome("bytes=-5", 0) is None
    assert outcome("bytes=-0", 0) == "416"
    assert outcome("bytes=0-", 0) == "416"


@given(st.text(max_size=40) | st.text(alphabet="bytes=0123456789-, \t", max_size=40).map("bytes=".__add__))
def test_no_text_breaks_the_parser(value: str) -> None:
    found = outcome(value, SIZE)
    if isinstance(found, list):
        assert found
        assert all(0 <= start < stop <= SIZE for start, stop in found)


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 30), st.integers(0, 1 << 30))
def test_content_range_round_trips(start: int, length: int, more: int) -> None:
    one = ByteRange(start, start + length)
    size = one.stop + more
    assert parse_content_range(one.content_range(size)) == (one, size)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes */100",
        "bytes 0-9/*",
        "bytes 5-4/100",
        "bytes 0-100/100",
        "bytes 0-0/0",
        "bytes=0-9/100",
        "bytes  0-9/100",
        "items 0-9/100",
        "bytes 0-9/100, bytes 0-9/100",
        "bytes ٠-٩/100",
        "bytes -1-9/100",
        "bytes 0-9/99999999999999999999",
    ],
)
def test_content_range_that_says_nothing(value: str) -> None:
    assert parse_content_range(value) is None


def test_content_range_unit_ignores_case() -> None:
    assert parse_content_range(" Bytes 0-9/100 ") == (ByteRange(0, 10), 100)
