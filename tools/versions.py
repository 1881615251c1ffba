"""Versions of this program and of the parts that it stands on."""

from __future__ import annotations

import platform
import sqlite3
from importlib import metadata

PARTS = ("aiohttp", "tuf", "securesystemslib", "msgspec", "SQLAlchemy", "av", "xxhash", "backports.zstd", "click")


def part_versions() -> dict[str, str]:
    """Name and version of each part; `absent` for one that is not installed."""
    found = {"yuanjiao": _version("yuanjiao"), "Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    for part in PARTS:
        found[part] = _version(part)
    return found


def _version(part: str) -> str:
    try:
        return metadata.version(part)
    except metadata.PackageNotFoundError:
        return "absent"
