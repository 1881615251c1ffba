"""Planned answers: conditions, HEAD, single and multiple ranges (RFC 9110 sections 13 to 15)."""

import email
import email.policy
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from manifests.ranges import Answer, Representation, parse_etags, plan_answer

BODY = bytes(range(100))
TAG = '"' + "ab" * 32 + '"'
OTHER = '"' + "cd" * 32 + '"'
WHAT = Representation(100, TAG, "video/mp4", (("Cache-Control", "public"), ("Repr-Digest", "sha-256=:x:")))
EMPTY = Representation(0, TAG, "text/plain")


def ask(headers: Mapping[str, str] | list[tuple[str, str]], method: str = "GET", what: Representation = WHAT) -> Answer:
    return plan_answer(method, CIMultiDict(headers), what)


def body_of(answer: Answer) -> bytes:
    return b"".join(
        part.literal + (BODY[part.range.start : part.range.stop] if part.range else b"") for part in answer.parts
    )


def fields_of(answer: Answer) -> dict[str, str]:
    found = dict(answer.fields)
    assert len(found) == len(answer.fields), "no field twice"
    return found


def test_whole() -> None:
    answer = ask({})
    assert answer.status == 200
    assert body_of(answer) == BODY
    assert fields_of(answer) == {
        "Content-Type": "video/mp4",
        "Content-Length": "100",
        "ETag": TAG,
        "Accept-Ranges": "bytes",
        "Cache-Control": "public",
        "Repr-Digest": "sha-256=:x:",
    }


def test_single_range() -> None:
    answer = ask({"range": "bytes=10-19"})
    assert (answer.status, body_of(answer)) == (206, BODY[10:20])
    fields = fields_of(answer)
    assert fields["Content-Range"] == "bytes 10-19/100"
    assert fields["Content-Length"] == "10"
    assert fields["Content-Type"] == "video/mp4"


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=2, max_size=8))
def test_multipart_reads_back_as_the_ranges_asked(asked: list[tuple[int, int]]) -> None:
    spans = [(min(two), max(two)) for two in asked]
    answer = ask({"Range": "bytes=" + ",".join(f"{a}-{b}" for a, b in spans)})
    assert answer.status == 206
    fields = fields_of(answer)
    body = body_of(answer)
    assert fields["Content-Length"] == str(len(body))
    every = {at for a, b in spans for at in range(a, b + 1)}
    if "Content-Range" in fields:
        assert set(body) == every
        return
    head = f"Content-Type: {fields['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    got: set[int] = set()
    for part in message.iter_parts():
        first, last = part["Content-Range"].removeprefix("bytes ").removesuffix("/100").split("-")
        assert part["Content-Type"] == "video/mp4"
        got |= set(range(int(first), int(last) + 1))
    assert got == every
    for part_range in (part.range for part in answer.parts if part.range):
        assert BODY[part_range.start : part_range.stop] in body


def test_multipart_to_the_byte() -> None:
    answer = ask({"Range": "bytes=0-1,10-11"})
    mark = "yj" + "ab" * 20
    assert body_of(answer) == (
        f"--{mark}\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-1/100\r\n\r\n\x00\x01\r\n"
        f"--{mark}\r\nContent-Type: video/mp4\r\nContent-Range: bytes 10-11/100\r\n\r\n\x0a\x0b\r\n--{mark}--\r\n"
    ).encode("latin-1")
    assert fields_of(answer)["Content-Type"] == f"multipart/byteranges; boundary={mark}"


def test_unsatisfiable_range_says_the_size() -> None:
    answer = ask({"Range": "bytes=100-"})
    assert (answer.status, answer.parts) == (416, ())
    assert fields_of(answer) == {"Content-Range": "bytes */100", "Accept-Ranges": "bytes", "Content-Length": "0"}


@pytest.mark.parametrize("range_field", [None, "bytes=0-1", "bytes=500-", "bytes=0-1,5-6"])
def test_head_ignores_range_and_has_no_body(range_field: str | None) -> None:
    answer = ask({"Range": range_field} if range_field else {}, "HEAD")
    assert (answer.status, answer.parts) == (200, ())
    assert answer.fields == ask({}).fields


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        (TAG, 206),
        (f" {TAG} ", 206),
        (f"W/{TAG}", 200),
        (OTHER, 200),
        (TAG.strip('"'), 200),
        ("*", 200),
        (f"{TAG}, {OTHER}", 200),
        ("Tue, 24 Nov 2026 02:56:09 GMT", 200),
        ("", 200),
    ],
)
def test_if_range(if_range: str, status: int) -> None:
    assert ask({"Range": "bytes=0-1", "If-Range": if_range}).status == status
    assert ask({"Range": "bytes=500-", "If-Range": if_range}).status == (416 if status == 206 else 200)
    assert ask({"If-Range": if_range}).status == 200


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (TAG, 304),
        (f"W/{TAG}", 304),
        ("*", 304),
        (" * ", 304),
        (f"{OTHER}, {TAG}", 304),
        (f"{OTHER},,{TAG},", 304),
        (f'W/"", {TAG}', 304),
        (OTHER, 200),
        (f"w/{TAG}", 200),
        (TAG.strip('"'), 200),
        (f"{TAG} {OTHER}", 200),
        (f"{TAG}, *", 200),
        ("", 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_if_none_match(value: str, status: int, method: str) -> None:
    answer = ask({"If-None-Match": value, "Range": "bytes=0-1"}, method)
    assert answer.status == (206 if status == 200 and method == "GET" else status)
    if status == 304:
        assert answer.parts == ()
        assert fields_of(answer) == {"ETag": TAG, "Cache-Control": "public"}


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (TAG, 200),
        ("*", 200),
        (f"{OTHER}, {TAG}", 200),
        (f"W/{TAG}", 412),
        (OTHER, 412),
        ("junk", 412),
        ("", 412),
    ],
)
def test_if_match(value: str, status: int) -> None:
    assert ask({"If-Match": value}).status == status
    # RFC 9110 section 13.2.2: If-Match is judged first, so 412 wins over 304 and 416.
    both = ask({"If-Match": value, "If-None-Match": TAG, "Range": "bytes=500-"})
    assert both.status == (304 if status == 200 else 412)


def test_repeated_fields_are_joined() -> None:
    assert ask([("If-None-Match", OTHER), ("If-None-Match", TAG)]).status == 304
    assert ask([("If-Match", OTHER), ("If-Match", TAG)]).status == 200
    assert ask([("Range", "bytes=0-1"), ("Range", "bytes=2-3")]).status == 200
    assert ask([("Range", "bytes=0-1"), ("If-Range", TAG), ("If-Range", OTHER)]).status == 200


def test_dates_are_no_conditions() -> None:
    dates = {
        "If-Modified-Since": "Tue, 24 Nov 2099 02:56:09 GMT",
        "If-Unmodified-Since": "Tue, 24 Nov 1999 02:56:09 GMT",
    }
    assert ask(dates).status == 200


def test_empty_representation() -> None:
    assert ask({}, what=EMPTY).parts == ()
    assert fields_of(ask({}, what=EMPTY))["Content-Length"] == "0"
    assert ask({"Range": "bytes=-5"}, what=EMPTY).status == 200
    assert ask({"Range": "bytes=0-"}, what=EMPTY).status == 416


def test_plain_mapping_serves_too() -> None:
    assert plan_answer("GET", {"Range": "bytes=0-1"}, WHAT).status == 206


@pytest.mark.parametrize("bad", ["", ",", "abc", '"a', 'a"', '"a" "b"', '"a"b', '"a b"', 'W/ "a"', '"a\x7f"', '*, "a"'])
def test_entity_tags_that_are_malformed(bad: str) -> None:
    assert parse_etags(bad) is None


@given(st.text(max_size=30) | st.text(alphabet='W/"*, ab', max_size=30))
def test_no_text_breaks_the_conditions(value: str) -> None:
    for name in ("If-Match", "If-None-Match", "If-Range", "Range"):
        assert ask({name: value}).status in {200, 206, 304, 412, 416}
