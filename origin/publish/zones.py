"""Time zones by the names that edges tell."""

from __future__ import annotations

from datetime import tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_ZONE: Final = "Asia/Shanghai"


def zone_named(name: str) -> tzinfo:
    """The time zone of a report; what is none here is taken for the province's own."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo(_ZONE)
