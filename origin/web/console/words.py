"""What the console says, in the reader's language: Chinese unless they chose English."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from aiohttp import web

from manifests.errors import YuanjiaoError
from manifests.instants import Instant, dump_instant, parse_instant
from manifests.words import show_bytes

LANGUAGES: Final = ("zh-CN", "en")
COOKIE: Final = "lang"
# The province lives by one clock; a machine's own time zone is often left at UTC.
_ZONE: Final = ZoneInfo("Asia/Shanghai")


@dataclass(frozen=True, slots=True)
class Words:
    """One language."""

    code: str
    texts: Mapping[str, str]

    @property
    def is_chinese(self) -> bool:
        """Tell whether this is Chinese."""
        return self.code == LANGUAGES[0]

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key` with its values filled in.

        Raises:
            KeyError: caller's mistake.
        """
        return self.texts[key].format_map(values)

    def name(self, group: str, value: str) -> str:
        """The name of a value of a closed set (a role, a kind, an action); one that is not known names itself."""
        return self.texts.get(f"{group}.{value}", value)

    def at(self, text: str | None) -> str:
        """An instant on the wire to the minute, in the province's time; a dash for none."""
        return "—" if not text else datetime.fromtimestamp(parse_instant(text), _ZONE).strftime("%Y-%m-%d %H:%M")

    def day(self, text: str | None) -> str:
        """The day of an instant on the wire, in the province's time; a dash for none."""
        return self.at(text)[:10]

    def size(self, count: int | None) -> str:
        """Bytes as people read them; a dash for none."""
        return "—" if count is None else show_bytes(count)

    def long(self, seconds: float) -> str:
        """12:05 or 1:02:09; a dash for nothing."""
        hours, rest = divmod(int(seconds + 0.5), 3600)
        minutes, left = divmod(rest, 60)
        return "—" if seconds < 0.5 else f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes:02}:{left:02}"

    def pairs(self, text: str) -> list[tuple[str, str]]:
        """The changed values of an audit row, named and spelt out."""
        values = json.loads(text)
        return [(self.name("field", key), self._value(key, value)) for key, value in values.items()]

    def _value(self, key: str, value: object) -> str:
        if value is None:
            return "—"
        if isinstance(value, bool):
            return self("yes") if value else self("no")
        if key.endswith("_at") and isinstance(value, int):
            return self.at(dump_instant(Instant(value)))
        if isinstance(value, list):
            return "、".join(self.name("scope", str(one)) for one in value)
        if key == "state":
            return self.name("draft_state", str(value))
        return self.name("role", str(value)) if key == "role" else str(value)

    def error(self, error: YuanjiaoError) -> str:
        """What happened."""
        return error.zh if self.is_chinese else error.message

    def hint(self, error: YuanjiaoError) -> str:
        """What to do."""
        return error.hint_zh if self.is_chinese else error.hint


def load_words() -> dict[str, Words]:
    """All languages, from the files beside this one."""
    folder = Path(__file__).parent / "i18n"
    return {code: Words(code, json.loads((folder / f"{code}.json").read_text("utf-8"))) for code in LANGUAGES}


def choose_language(request: web.Request) -> str:
    """`lang=` in the address, else the cookie of an earlier choice, else Chinese."""
    asked = request.query.get("lang", "")
    if asked in LANGUAGES:
        return asked
    kept = request.cookies.get(COOKIE, "")
    return kept if kept in LANGUAGES else LANGUAGES[0]
