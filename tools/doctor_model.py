"""What doctor says: findings as plain values. Nothing here looks at anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from manifests.errors import ConfigurationError, StorageError, TransferError, UntrustedError, YuanjiaoError
from manifests.instants import Instant

_DAY_S = 86400


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Area(StrEnum):
    """Which family of errors a failure belongs to; it decides the exit status."""

    CONFIGURATION = "configuration"
    TRUST = "trust"
    TRANSFER = "transfer"
    STORAGE = "storage"


_FAMILIES: dict[Area, type[YuanjiaoError]] = {
    # In the order in which a person should mend them: without a disk nothing else can be put right.
    Area.STORAGE: StorageError,
    Area.CONFIGURATION: ConfigurationError,
    Area.TRUST: UntrustedError,
    Area.TRANSFER: TransferError,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        id: stable name for machines, such as `disk.free`.
        remedy: what to do; empty when all is well.
    """

    id: str
    level: Level
    area: Area
    what: str
    what_zh: str
    remedy: str = ""
    remedy_zh: str = ""


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the findings of one check, so that the check says id and area once."""

    id: str
    area: Area

    def ok(self, what: str, zh: str) -> Finding:
        """All is well."""
        return Finding(self.id, Level.OK, self.area, what, zh)

    def warn(self, what: str, zh: str, remedy: str, remedy_zh: str) -> Finding:
        """Works today, will not for long, or works worse than it could."""
        return Finding(self.id, Level.WARN, self.area, what, zh, remedy, remedy_zh)

    def fail(self, what: str, zh: str, remedy: str, remedy_zh: str) -> Finding:
        """Does not work."""
        return Finding(self.id, Level.FAIL, self.area, what, zh, remedy, remedy_zh)

    def from_error(self, error: YuanjiaoError) -> Finding:
        """An error of ours as a failure: its hint is the remedy."""
        return self.fail(error.message, error.zh, error.hint, error.hint_zh)


def verdict(findings: Iterable[Finding]) -> Level:
    """The worst level among the findings."""
    levels = {finding.level for finding in findings}
    return next((level for level in (Level.FAIL, Level.WARN) if level in levels), Level.OK)


def verdict_error(findings: Iterable[Finding]) -> YuanjiaoError | None:
    """The error that the process ends with; None without a failure."""
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    for area, family in _FAMILIES.items():
        first = next((finding for finding in failed if finding.area is area), None)
        if first is not None:
            more = len(failed) - 1
            return family(
                f"{first.what} ({more} more)" if more else first.what,
                zh=f"{first.what_zh}（另有 {more} 项）" if more else first.what_zh,
                hint=first.remedy,
                hint_zh=first.remedy_zh,
            )
    return None


def check_expiry(role: str, expires: Instant, now: Instant, soon_s: int, remedy: tuple[str, str]) -> Finding:
    """How long a role's signature is still valid."""
    maker = Maker(f"metadata.{role}", Area.TRUST)
    left_s = expires - now
    if left_s <= 0:
        return maker.fail(f"{role} expired {_span(-left_s)} ago", f"{role} 已过期 {_span_zh(-left_s)}", *remedy)
    text, zh = f"{role} is valid for {_span(left_s)}", f"{role} 还有 {_span_zh(left_s)}到期"
    return maker.warn(text, zh, *remedy) if left_s < soon_s else maker.ok(text, zh)


def _span(seconds: int) -> str:
    return f"{seconds // _DAY_S} d" if seconds >= 2 * _DAY_S else f"{seconds / 3600:.1f} h"


def _span_zh(seconds: int) -> str:
    return f"{seconds // _DAY_S} 天" if seconds >= 2 * _DAY_S else f"{seconds / 3600:.1f} 小时"
