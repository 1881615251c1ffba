"""每月一主题: a column for each month, named after the month and its theme. Pure.

A theme is a column like any other, so that terminals of every age show it and edges can subscribe to it; only its
title has a form. One month has one theme: whoever names another title for it is told which one there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from manifests.errors import InputError
from manifests.names import parse_label

_TITLE: Final = re.compile(r"([0-9]{4})年(1[0-2]|[1-9])月主题：(.+)")
_MONTH: Final = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Theme:
    """One month's theme; `month` is of the form `2026-12`."""

    month: str
    title: str

    @property
    def column(self) -> str:
        """The title of its column."""
        return f"{int(self.month[:4])}年{int(self.month[5:])}月主题：{self.title}"


def read_theme(column: str) -> Theme | None:
    """The theme that a column is; None for a column that is none."""
    found = _TITLE.fullmatch(column)
    return None if found is None else Theme(f"{found[1]}-{int(found[2]):02}", found[3])


def themes_in(columns: Iterable[str]) -> tuple[Theme, ...]:
    """The themes among these columns' titles, newest month first."""
    found = (read_theme(column) for column in columns)
    return tuple(sorted((one for one in found if one is not None), key=lambda one: one.month, reverse=True))


def plan_theme(month: str, title: str, columns: Iterable[str]) -> Theme:
    """The theme that a month and a title mean; an empty title stands for the one that the month has.

    Args:
        month: `2026-12`.
        title: without the month.
        columns: titles of all columns there are.

    Raises:
        InputError: bad data; no such month, no title, or the month has another theme.
    """
    if not _MONTH.fullmatch(month):
        raise InputError(f"month {month[:20]!a} is refused: 2026-12 is the form", zh="月份应形如 2026-12")
    there = next((one for one in themes_in(columns) if one.month == month), None)
    clean = parse_label(title, "theme", "主题") if title.strip() else ""
    if there is not None and clean not in {"", there.title}:
        raise InputError(
            f"{month} has the theme {there.title!a} already",
            zh=f"{month} 已有主题“{there.title}”",
            hint="use that one, or choose another month",
            hint_zh="请使用已有主题，或选择其他月份",
        )
    theme = there or Theme(month, parse_label(clean, "theme", "主题"))
    parse_label(theme.column, "theme", "主题")
    return theme
