"""Lines of the access log: readable by every tool, and nothing that a client sends can break out of one."""

from __future__ import annotations

import json
import re
from datetime import timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.serve.accessline import (
    Visit,
    day_of,
    dump_combined,
    dump_json,
    escape,
    mask_secrets,
    moment_of,
    stamp_of,
)

CHINA = timezone(timedelta(hours=8))
AT = 1_795_795_201  # 2026-11-27T16:00:01Z
COMBINED = re.compile(
    r'(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "((?:[^"\\]|\\x[0-9A-F]{2})*)" (\d{3}) (\d+) '
    r'"((?:[^"\\]|\\x[0-9A-F]{2})*)" "((?:[^"\\]|\\x[0-9A-F]{2})*)"\n'
)
# As aiohttp hands over what came: any text, bytes that are no UTF-8 as lone surrogates.
TEXTS = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.text(alphabet='"\\\r\n\t\0\x1b\x9b\u2028\u202e ?&=@', max_size=20),
)


def visit(**changes: object) -> Visit:
    base = Visit("10.0.0.7", "GET", "/media/kj-1/a.mp4", "HTTP/1.1", 206, 65536, 0.00125, "http://edge/", "Box/1")
    return base._replace(**changes)  # type: ignore[arg-type]


def test_known_lines() -> None:
    assert dump_combined(visit(), stamp_of(AT, CHINA)) == (
        '10.0.0.7 - - [28/Nov/2026:00:00:01 +0800] "GET /media/kj-1/a.mp4 HTTP/1.1" 206 65536 "http://edge/" "Box/1"\n'
    )
    assert dump_combined(visit(address="", method="", referer="", agent=""), "x") == '- - - [x] "-" 206 65536 "-" "-"\n'
    assert json.loads(dump_json(visit(), moment_of(AT, CHINA))) == {
        "at": "2026-11-28T00:00:01+08:00",
        "address": "10.0.0.7",
        "method": "GET",
        "target": "/media/kj-1/a.mp4",
        "version": "HTTP/1.1",
        "status": 206,
        "bytes": 65536,
        "seconds": 0.00125,
        "referer": "http://edge/",
        "agent": "Box/1",
    }
    assert day_of(AT, CHINA) == "20261128"


@given(method=TEXTS, target=TEXTS, referer=TEXTS, agent=TEXTS)
def test_one_request_is_one_line_in_either_form(method: str, target: str, referer: str, agent: str) -> None:
    hostile = visit(method=method, target=target, referer=referer, agent=agent)
    line = dump_combined(hostile, stamp_of(AT, CHINA))
    assert COMBINED.fullmatch(line)
    assert line[:-1].isascii()
    assert line[:-1].isprintable()
    document = dump_json(hostile, moment_of(AT, CHINA))
    assert document.endswith("}\n")
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", document[:-1])
    assert set(json.loads(document)) == {*Visit._fields, "at", "bytes"} - {"sent_bytes"}


@given(TEXTS)
def test_what_is_escaped_can_be_told_again(text: str) -> None:
    back = re.sub(rb"\\x([0-9A-F]{2})", lambda found: bytes.fromhex(found[1].decode()), escape(text).encode())
    assert back in {text.encode("utf-8", how) for how in _ways(text)}


def _ways(text: str) -> list[str]:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return ["surrogatepass"]
    return ["surrogateescape"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a?page=2&lang=en", "/a?page=2&lang=en"),
        ("/a?token=abc&page=2", "/a?token=[redacted]&page=2"),
        ("/a?page=2&Access_Token=abc", "/a?page=2&Access_Token=[redacted]"),
        ("/a?to%6Ben=abc", "/a?to%6Ben=[redacted]"),
        ("/a?X-Amz-Signature=abc&X-Amz-Credential=d", "/a?X-Amz-Signature=[redacted]&X-Amz-Credential=[redacted]"),
        ("/a?api_key=abc&keyword=wheat", "/a?api_key=[redacted]&keyword=wheat"),
        ("/a?password", "/a?password"),
        ("/a?b=c?token=abc", "/a?b=c?token=abc"),
        ("http://user:word@edge/a?b=c", "http://[redacted]@edge/a?b=c"),
        ("/mail/a@b", "/mail/a@b"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert mask_secrets(text) == shown
    if text != shown:
        assert "abc" not in dump_combined(visit(target=text, referer=text), "x")
        assert "abc" not in dump_json(visit(target=text, referer=text), "x")
