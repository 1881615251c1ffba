"""What of a catalog is for this edge, and why the rest is not. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from manifests.instants import Instant, dump_instant
from manifests.model import Catalog, Courseware
from manifests.names import Region


@dataclass(frozen=True, slots=True)
class Wanted:
    """What this edge wants: its county, and the columns it subscribes to (none: all)."""

    region: Region
    columns: frozenset[str] = frozenset()

    @property
    def areas(self) -> frozenset[str]:
        """Audience codes that mean this edge: its province, its city, itself (see `manifests.catalog.is_for`)."""
        return frozenset({f"{self.region[:2]}0000", f"{self.region[:4]}00", self.region})


def wanted_of(catalog: Catalog, wanted: Wanted, now: Instant) -> list[Courseware]:
    """The lessons of a catalog that belong on this edge at trusted time `now`."""
    areas, now_text = wanted.areas, dump_instant(now)
    return [item for item in catalog.courseware if reason_against(item, wanted, areas, now_text) is None]


def reason_against(
    item: Courseware, wanted: Wanted, areas: frozenset[str], now_text: str
) -> tuple[str, str, str] | None:
    """Say why a lesson is not for this edge: a short key, and the reason in both languages; None when it is.

    Args:
        item: the lesson.
        wanted: what is for this edge.
        areas: those of `wanted`, worked out once by whoever asks for many lessons.
        now_text: trusted time as the wire has it.
    """
    if areas.isdisjoint(item.audience):
        return "audience", f"it is not for region {wanted.region}", f"不面向本地区（{wanted.region}）"
    if wanted.columns and wanted.columns.isdisjoint(item.columns):
        return "columns", "none of its columns is subscribed to here", "所属专栏未在本地订阅"
    if item.expires is not None and item.expires <= now_text:
        return "expired", f"it expired at {item.expires}", f"已于 {item.expires} 到期"
    return None
