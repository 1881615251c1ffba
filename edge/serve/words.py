"""What people read, in their language: zh-CN unless they chose en."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from aiohttp import web

from manifests.instants import Instant, parse_instant

LANGUAGES = ("zh-CN", "en")
COOKIE = "lang"
# The province lives by one clock; a machine's own time zone is often left at UTC.
_ZONE = ZoneInfo("Asia/Shanghai")


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    code: str
    texts: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key` with its values filled in.

        Raises:
            KeyError: caller's mistake.
        """
        return self.texts[key].format_map(values)

    def at(self, instant: Instant) -> str:
        """An instant to the minute, in the province's time."""
        return datetime.fromtimestamp(instant, _ZONE).strftime("%Y-%m-%d %H:%M")

    def date(self, text: str) -> str:
        """The day of an instant on the wire, in the province's time."""
        return datetime.fromtimestamp(parse_instant(text), _ZONE).strftime("%Y-%m-%d")


def load_words() -> dict[str, Words]:
    """All languages, from the files beside this one."""
    folder = Path(__file__).parent / "i18n"
    return {code: Words(code, json.loads((folder / f"{code}.json").read_text("utf-8"))) for code in LANGUAGES}


def choose_language(request: web.BaseRequest) -> str:
    """`lang=` in the address, else the cookie of an earlier choice, else Chinese."""
    asked = request.query.get("lang", "")
    if asked in LANGUAGES:
        return asked
    kept = request.cookies.get(COOKIE, "")
    return kept if kept in LANGUAGES else LANGUAGES[0]


def show_duration(seconds: float) -> str:
    """12:05 or 1:02:09; empty for nothing."""
    whole = int(seconds + 0.5)
    if whole <= 0:
        return ""
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes:02}:{left:02}"


def show_size(count: int) -> str:
    """A file's size as people write it."""
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KB", "MB", "GB", "TB"):
        size /= 1024
        if size < 1024 or unit == "TB":
            break
    return f"{size:.0f} {unit}" if size >= 100 else f"{size:.1f} {unit}"
