"""Sizes and moments as people read them, in Chinese and English, the same wherever a plan or a promise is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, tzinfo

from manifests.instants import Instant

_DAYS_ZH = ("周一", "周二", "周三", "周四", "周五", "周六", "周日")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = "Jan Feb Mar Apr May June July Aug Sept Oct Nov Dec".split(" ")  # noqa: SIM905 - twelve words read better so
# Beyond so many days the name of a day could mean two of them.
_NAMED_DAYS = 6


def show_bytes(count: float) -> str:
    """Bytes in binary units."""
    if abs(count) < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if abs(count) < 1024:
            return f"{count:.1f} {unit}"
    count /= 1024
    return f"{count:.2f} TiB" if abs(count) < 1024 else f"{count / 1024:.2f} PiB"


def show_day(at: Instant, now: Instant, zone: tzinfo) -> tuple[str, str]:
    """The local day of an instant as seen from `now`, in Chinese and English: today, a day of the week, a date."""
    day, today = _date(at, zone), _date(now, zone)
    if day == today:
        return "今天", "today"
    if abs((day - today).days) <= _NAMED_DAYS:
        return _DAYS_ZH[day.weekday()], _DAYS[day.weekday()]
    year_zh, year = ("", "") if day.year == today.year else (f"{day.year}年", f" {day.year}")
    return f"{year_zh}{day.month}月{day.day}日", f"{day.day} {_MONTHS[day.month - 1]}{year}"


def show_moment(at: Instant, now: Instant, zone: tzinfo) -> tuple[str, str]:
    """A local day and minute: `周四 02:40`, `Thursday 02:40`."""
    day_zh, day = show_day(at, now, zone)
    clock = datetime.fromtimestamp(at, zone).strftime("%H:%M")
    return f"{day_zh} {clock}", f"{day} {clock}"


def join_names(names: Sequence[tuple[str, str]], most: int = 3, what_zh: str = "个课件") -> tuple[str, str]:
    """A few names and the number of the others, in Chinese and English; `what_zh` is what Chinese counts them by."""
    shown, left = names[:most], len(names) - most
    zh = "、".join(name for name, _ in shown)
    if left > 0:
        return f"{zh}等 {len(names)} {what_zh}", f"{', '.join(name for _, name in shown)} and {left} more"
    *front, last = [name for _, name in shown] or [""]
    return zh, f"{', '.join(front)} and {last}" if front else last


def _date(at: Instant, zone: tzinfo) -> date:
    return datetime.fromtimestamp(at, zone).date()
