"""Instants: whole UTC epoch seconds inside, ISO 8601 with Z on the wire.

Durations are floats from a monotonic source and are another type, so that the two are never added by mistake.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NewType

from manifests.errors import FormatError

Instant = NewType("Instant", int)

_WIRE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)


def parse_instant(text: str) -> Instant:
    """Read `2026-11-24T02:56:09Z`.

    Raises:
        FormatError: bad data; any other form, also one that ISO 8601 would allow.
    """
    if not _WIRE.fullmatch(text):
        raise FormatError(f"instant {text[:40]!r} is not of the form 2026-11-24T02:56:09Z")
    try:
        return Instant(int(datetime.fromisoformat(text).timestamp()))
    except ValueError as error:
        raise FormatError(f"instant {text!r} does not exist") from error


def dump_instant(at: Instant) -> str:
    """Write an instant of the years 1 to 9999 in its one wire form."""
    # Not strftime: its %Y does not pad years below 1000 on Linux.
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
