"""Regions by code and by Chinese name (GB/T 2260), from the table that travels in the wheel.

`regions.tsv` holds Henan: the province, 18 cities (the eighteenth stands for what the province administers directly),
157 counties; each row says its source and the day it speaks of. A province that the table does not cover is accepted
by code alone: codes are what trust and audience go by, names are for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from manifests.errors import InputError
from manifests.names import Region, is_within, parse_region, region_level


@dataclass(frozen=True, slots=True)
class RegionRow:
    """One region; `as_of` is the day of the statistics that name it."""

    code: Region
    name: str
    as_of: str
    source: str

    @property
    def level(self) -> str:
        """`province`, `city` or `county`."""
        return region_level(self.code)


class Regions:
    """The table, for look-ups."""

    def __init__(self, rows: tuple[RegionRow, ...]) -> None:
        self.rows = rows
        self._by_code = {row.code: row for row in rows}

    def find(self, text: str) -> RegionRow:
        """The region of a code, a name (`中牟县`), or the beginning of one name only (`中牟`).

        Raises:
            InputError: bad data; unknown, or the beginning of several names.
        """
        clean = text.strip()
        if clean.isascii() and clean.isdigit():
            return self._by_number(parse_region(clean))
        matches = [row for row in self.rows if row.name == clean]
        matches = matches or [row for row in self.rows if clean and row.name.startswith(clean)]
        if len(matches) == 1:
            return matches[0]
        if not matches:
            raise _unknown(clean)
        listed = "、".join(f"{row.name} {row.code}" for row in matches)
        raise InputError(
            f"{clean[:20]!a} is the beginning of several regions: {', '.join(row.code for row in matches)}",
            zh=f"“{clean[:20]}”对应多个地区：{listed}",
            hint="give the code",
            hint_zh="请改用行政区划代码",
        )

    def within(self, area: Region, level: str) -> tuple[RegionRow, ...]:
        """Regions of one level inside `area`, by code."""
        return tuple(row for row in self.rows if row.level == level and is_within(row.code, area))

    def _by_number(self, code: Region) -> RegionRow:
        row = self._by_code.get(code)
        if row is not None:
            return row
        if any(row.code[:2] == code[:2] for row in self.rows):
            raise _unknown(code)
        return RegionRow(code, code, "", "")


def load_regions() -> Regions:
    """Read the table; about a millisecond, so whoever needs it reads it."""
    text = files("origin.stations").joinpath("regions.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.splitlines()[1:]]
    return Regions(tuple(RegionRow(Region(code), name, as_of, source) for code, name, as_of, source in lines))


def _unknown(text: str) -> InputError:
    return InputError(
        f"no region {text[:20]!a} is known",
        zh=f"没有“{text[:20]}”这个地区",
        hint="give a six-digit code of GB/T 2260 such as 410122, or a county's full name",
        hint_zh="请输入六位行政区划代码（如 410122）或县（市、区）全称",
    )
