"""Values as the API writes them."""

from __future__ import annotations

from manifests.instants import Instant, dump_instant
from manifests.names import Region, is_within
from origin.stations.regions import Regions


def instant_text(at: int | None) -> str | None:
    """An instant on the wire; None stays None."""
    return None if at is None else dump_instant(Instant(at))


def city_of(region: Region) -> Region:
    """The city that a county belongs to; a city, and what stands for the province, is its own."""
    return Region(region[:4] + "00")


class RegionNames:
    """Chinese names of regions by code; a region that the table does not have is shown by its code."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._names = {row.code: row.name for row in regions.rows}

    def name(self, region: str) -> str:
        """The name of one region."""
        return self._names.get(Region(region), region)

    def path(self, region: str) -> str:
        """City and county in one line, as people say it."""
        city = city_of(Region(region))
        # Counties that the province administers itself have a city of no name that anybody uses.
        if city == region or city not in self._names or region.endswith("00"):
            return self.name(region)
        return f"{self.name(city)}{self.name(region)}"

    def choices(self, area: Region) -> tuple[tuple[str, str], ...]:
        """Code and name of an area and all inside it, in the order of the codes."""
        rows = [row for row in self._regions.rows if is_within(row.code, area)]
        found = tuple((str(row.code), self.path(row.code)) for row in rows)
        return found or ((area, area),)
