"""Subtitles: SRT or WebVTT in any usual encoding becomes plain WebVTT, which every player of a terminal reads.

Strict on times, plain on looks: styling tags are dropped, because players disagree about them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from manifests.errors import InputError
from origin.publish.media_text import decode_text

MAX_SUBTITLE_BYTES = 4 << 20
MAX_CUES = 50_000

_TIME = r"(?:(\d{1,3}):)?([0-5]\d):([0-5]\d)[,.](\d{1,3})"
_TIMING = re.compile(rf"\s*{_TIME}[ \t]*-->[ \t]*{_TIME}(?:[ \t].*)?")
# <i>, </font>, <c.yellow>, <00:00:01.000>, and the {\an8} of SubStation files saved as SRT.
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<\d[\d:.]{0,20}>|\{\\[^{}]{0,200}\}")
_BLOCKS_WITHOUT_CUES = ("NOTE", "STYLE", "REGION", "WEBVTT", "X-TIMESTAMP-MAP")


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines shown from `start_ms` until `stop_ms`."""

    start_ms: int
    stop_ms: int
    text: str


def to_webvtt(data: bytes) -> str:
    """Convert the bytes of an .srt or .vtt file.

    Raises:
        InputError: bad data: undecodable, no cues, or a time that is none; names the line.
    """
    return dump_webvtt(parse_cues(decode_text(data, "subtitles", "字幕", MAX_SUBTITLE_BYTES)))


def parse_cues(text: str) -> tuple[Cue, ...]:
    """Read the cues of SRT or WebVTT text, in order of their start.

    Raises:
        InputError: bad data.
    """
    cues: list[Cue] = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        stop = at
        while stop < len(lines) and lines[stop].strip():
            stop += 1
        if stop > at:
            cue = _parse_block(lines[at:stop], at + 1)
            if cue is not None:
                cues.append(cue)
        at = stop + 1
        if len(cues) > MAX_CUES:
            raise InputError(f"over {MAX_CUES} cues are refused", zh=f"字幕条数过多，最多 {MAX_CUES} 条")
    if not cues:
        raise InputError("the subtitles hold no cue", zh="字幕文件中没有任何字幕")
    return tuple(sorted(cues, key=lambda cue: (cue.start_ms, cue.stop_ms)))


def dump_webvtt(cues: tuple[Cue, ...]) -> str:
    """Write cues as WebVTT."""
    blocks = ["WEBVTT"]
    for cue in cues:
        escaped = cue.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_dump_time(cue.start_ms)} --> {_dump_time(cue.stop_ms)}\n{escaped}")
    return "\n\n".join(blocks) + "\n"


def _parse_block(lines: list[str], number: int) -> Cue | None:
    if lines[0].lstrip("\ufeff").startswith(_BLOCKS_WITHOUT_CUES) and "-->" not in lines[0]:
        return None
    timing = next((n for n, line in enumerate(lines[:2]) if "-->" in line), None)
    if timing is None:
        raise _fault(number, f"{lines[0][:40]!a} is no cue")
    match = _TIMING.fullmatch(lines[timing])
    if match is None:
        raise _fault(number + timing, f"{lines[timing][:60]!a} is no pair of times")
    groups = match.groups()
    start, stop = _milliseconds(groups[:4]), _milliseconds(groups[4:])
    if stop <= start:
        raise _fault(number + timing, "the cue ends before it begins")
    text = "\n".join(filter(None, (_plain(line) for line in lines[timing + 1 :])))
    return Cue(start, stop, text) if text else None


def _plain(line: str) -> str:
    text = _TAG.sub("", line)
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&nbsp;", " "), ("&lrm;", ""), ("&rlm;", ""), ("&amp;", "&")):
        text = text.replace(entity, char)
    return text.strip()


def _milliseconds(groups: tuple[str | None, ...]) -> int:
    hours, minutes, seconds, fraction = (part or "0" for part in groups)
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(fraction.ljust(3, "0"))


def _dump_time(at_ms: int) -> str:
    seconds, ms = divmod(at_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"


def _fault(line: int, why: str) -> InputError:
    return InputError(
        f"subtitles, line {line}: {why}",
        zh=f"字幕第 {line} 行有误，应为“00:00:01,000 --> 00:00:04,000”形式的时间",
    )
