"""Header blocks built once say what `manifests.ranges` planned, for whatever is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.serve.heads import Heads, Tails, dump_block
from manifests.instants import Instant
from manifests.ranges import Representation, plan_answer

SIZES = st.integers(0, 10_000)
RANGES = st.one_of(
    st.none(),
    st.builds("bytes={}-{}".format, st.integers(0, 12_000), st.integers(0, 12_000)),
    st.builds("bytes={}-".format, st.integers(0, 12_000)),
    st.builds("bytes=-{}".format, st.integers(0, 12_000)),
    st.builds("bytes=0-{},{}-".format, st.integers(0, 50), st.integers(60, 9_000)),
    st.text(max_size=20),
)


@given(
    size=SIZES, asked=RANGES, method=st.sampled_from(["GET", "HEAD"]), none_match=st.sampled_from([None, '"e"', "*"])
)
def test_blocks_are_the_planned_fields(size: int, asked: str | None, method: str, none_match: str | None) -> None:
    what = Representation(size, '"e"', "video/mp4", (("Cache-Control", "no-cache"), ("X", "100%d %s")))
    headers = {"Range": asked, "If-None-Match": none_match}
    answer = plan_answer(method, {name: value for name, value in headers.items() if value is not None}, what)
    block = Heads(what).block(answer)
    assert block.endswith(b"\r\n")
    first, *lines = block[:-2].decode("latin-1").split("\r\n")
    assert first.startswith(f"HTTP/1.1 {answer.status} ")
    assert sorted(lines) == sorted(f"{name}: {value}" for name, value in answer.fields)


def test_a_field_cannot_break_out_of_its_line() -> None:
    for bad in ("a\r\nSet-Cookie: x", "a\n", "a\0"):
        with pytest.raises(ValueError, match="line break"):
            dump_block(200, [("X", bad)])


def test_tails_follow_the_clock_and_the_connection() -> None:
    tails = Tails()
    at = Instant(1_795_492_800)
    assert tails.tail(at, keep_alive=True, is_old=False) == b"Date: Tue, 24 Nov 2026 04:00:00 GMT\r\n\r\n"
    assert b"Connection: keep-alive" in tails.tail(at, keep_alive=True, is_old=True)
    assert b"Connection: close" in tails.tail(at, keep_alive=False, is_old=True)
    assert b"04:00:01" in tails.tail(Instant(at + 1), keep_alive=True, is_old=False)
    assert b"04:00:00" in tails.tail(at, keep_alive=True, is_old=False)  # a clock set back
