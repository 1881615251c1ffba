"""Subtitles of every usual encoding become one plain WebVTT."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import InputError
from origin.publish.subtitles import Cue, dump_webvtt, parse_cues, to_webvtt

SRT = (
    '1\r\n00:00:01,000 --> 00:00:03,500 X1:0\r\n{\\an8}<i>同学们</i>好\r\n<font color="red">第二行</font>\r\n\r\n'
    "2\r\n00:00:04,000 --> 00:00:06,25\r\n3 < 5 & 好\r\n"
)
VTT = "WEBVTT\n\n00:00:01.000 --> 00:00:03.500\n同学们好\n第二行\n\n00:00:04.000 --> 00:00:06.250\n3 &lt; 5 &amp; 好\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "gbk"])
def test_srt_of_every_encoding(encoding: str) -> None:
    assert to_webvtt(SRT.encode(encoding)) == VTT


def test_webvtt_keeps_its_cues_and_loses_its_looks() -> None:
    source = (
        "WEBVTT - title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE a --> b\n\n"
        "intro\n01:02.000 --> 01:03.000 align:start\n<v 老师>你 <c.red>好</c> &amp; 3 &lt; 5\n\n"
        "00:01.000 --> 00:02.000\nfirst\n"
    ).replace("NOTE a --> b\n\n", "NOTE a comment\n\n")
    assert parse_cues(source) == (Cue(1000, 2000, "first"), Cue(62000, 63000, "你 好 & 3 < 5"))


def test_what_is_written_is_read_again_the_same() -> None:
    assert to_webvtt(VTT.encode()) == VTT


@given(
    st.lists(
        st.builds(
            lambda start, length, text: Cue(start, start + length, text),
            st.integers(0, 10**7),
            st.integers(1, 10**5),
            st.text(st.sampled_from("字a&<>;- 3"), min_size=1).map(str.strip).filter(bool),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_round_trip(cues: list[Cue]) -> None:
    ordered = tuple(sorted(cues, key=lambda cue: (cue.start_ms, cue.stop_ms)))
    assert sorted(map(repr, parse_cues(dump_webvtt(ordered)))) == sorted(map(repr, ordered))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1\n00:00:01,000 -> 00:00:02,000\nx\n", 1),
        ("1\n00:00:05,000 --> 00:00:02,000\nx\n", 2),
        ("1\n00:61:01,000 --> 00:62:02,000\nx\n", 2),
        ("1\n00:00:01,000 --> 00:00:02,000\nx\n\nstray text\n", 5),
        ("1\nnow --> then\nx\n", 2),
    ],
)
def test_a_time_that_is_none_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(InputError, match=f"line {line}") as caught:
        parse_cues(text)
    assert f"第 {line} 行" in caught.value.zh


@pytest.mark.parametrize("data", [b"", b"WEBVTT\n", b"\xff\xfe\xff", b"1\n00:00:01,000 --> 00:00:02,000\n\n"])
def test_subtitles_without_a_cue_are_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        to_webvtt(data)
