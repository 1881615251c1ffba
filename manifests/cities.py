"""A city's own catalog beside the province's: names, what a city may offer, and how an edge reads both as one.

FORMAT.md sections 4.3 and 5.1 are the binding text. Pure. The province is asked first in everything: what it offers or
recalls stands, whatever a city says; and a city's word counts within its own borders and its own names only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from manifests.catalog import items_of
from manifests.errors import FormatError, InputError
from manifests.model import Catalog, Column, Courseware, Recall
from manifests.names import Region, is_within, parse_region, region_level

_ROLE = re.compile(r"cities-([1-9][0-9]{5})")
_OWN = re.compile(r"([1-9][0-9]{5})-")


def parse_city(text: str, province: Region) -> Region:
    """Check the code of a city that may publish under a province.

    Raises:
        InputError: bad data; no code, no city's code, or a city of another province.
    """
    code = parse_region(text)
    if region_level(code) != "city" or not is_within(code, province):
        raise InputError(
            f"{code} is no city of {province}: a city's code ends in 00, such as {province[:2]}0100",
            zh=f"{code} 不是 {province} 下属的市：市级代码以 00 结尾，例如 {province[:2]}0100",
        )
    return code


def city_of(region: Region) -> Region | None:
    """The city that a region is or lies in; None for a province."""
    return None if region_level(region) == "province" else Region(f"{region[:4]}00")


def role_of(city: Region) -> str:
    """The TUF role that signs a city's catalog."""
    return f"cities-{city}"


def target_of(city: Region) -> str:
    """The path of a city's catalog among the targets."""
    return f"cities/{city}/catalog.json"


def paths_of(city: Region) -> str:
    """The pattern of all paths that a city may sign for."""
    return f"cities/{city}/*"


def city_of_role(role: str) -> Region | None:
    """The city that a role signs for; None for a role that is no city's."""
    match = _ROLE.fullmatch(role)
    return Region(match[1]) if match and region_level(Region(match[1])) == "city" else None


def city_of_id(courseware_id: str) -> Region | None:
    """The city in whose namespace an id lies; None for the province's."""
    match = _OWN.match(courseware_id)
    return Region(match[1]) if match and region_level(Region(match[1])) == "city" else None


def is_followed(city: Region, region: Region) -> bool:
    """Tell whether an edge of `region` reads the catalog of `city`: it lies in the city, or the city in its region."""
    return is_within(region, city) or is_within(city, region)


def check_city(catalog: Catalog, city: Region) -> None:
    """Check what a city's catalog must hold to beside the rules of every catalog.

    Raises:
        FormatError: bad data; names the item. Nothing of the catalog counts.
    """
    if catalog.publisher != city:
        raise FormatError(
            f"catalog of publisher {catalog.publisher} offered where city {city} is expected",
            zh=f"收到发布者 {catalog.publisher} 的目录，应为市级发布者 {city}",
        )
    for id_ in (*(item.id for item in catalog.courseware), *(recall.id for recall in catalog.recalls)):
        if city_of_id(id_) != city:
            raise FormatError(
                f"city {city} names courseware {id_!r}, which is not its own: its ids begin with {city}-",
                zh=f"{city} 的目录含有不属于该市的课件编号 {id_!r}（应以 {city}- 开头）",
            )
    audiences = {item.audience for item in items_of(catalog)}
    for areas in audiences | {item.pilot.audience for item in catalog.courseware if item.pilot is not None}:
        for area in areas:
            if not is_within(Region(area), city):
                raise FormatError(
                    f"city {city} offers courseware to {area}, which lies outside it",
                    zh=f"{city} 的目录含有面向 {area} 的课件，超出该市范围",
                )


def check_beside(catalog: Catalog, province: Catalog) -> None:
    """Check that a city's catalog, newly come, takes no name that the province's has.

    Raises:
        FormatError: bad data; names the item.
    """
    taken = {item.id for item in province.courseware}
    for item in catalog.courseware:
        if item.id in taken:
            raise FormatError(
                f"city {catalog.publisher} offers courseware {item.id!r}, which is the province's",
                zh=f"{catalog.publisher} 的目录与省级目录的课件编号 {item.id!r} 冲突",
            )


def merge_catalogs(province: Catalog, cities: Sequence[Catalog]) -> Catalog:
    """Read several catalogs, each of which was checked, as one. It never fails: where two differ, the province stands.

    Args:
        province: the province's; what is not a list in the result is its own.
        cities: of different cities.

    Returns:
        Courseware, columns and recalls of all, in the order of a catalog; the very `province` without cities.
    """
    if not cities:
        return province
    taken = {item.id for item in province.courseware}
    said = {recall.id: recall.version for recall in province.recalls}
    items = [*province.courseware]
    columns = {column.id: column for column in province.columns}
    recalls = {recall.id: recall for recall in province.recalls}
    for city in cities:
        items += (item for item in city.courseware if item.id not in taken and item.version > said.get(item.id, 0))
        _take_recalls(recalls, city.recalls, taken)
        for column in city.columns:
            columns.setdefault(column.id, column)
    return msgspec.structs.replace(
        province,
        courseware=_in_order(items),
        columns=_columns_in_order(columns.values()),
        recalls=tuple(recalls[id_] for id_ in sorted(recalls)),
    )


def _take_recalls(recalls: dict[str, Recall], of_city: Iterable[Recall], taken: set[str]) -> None:
    """A city's recalls beside the province's; of one lesson recalled by both, the higher version."""
    for recall in of_city:
        known = recalls.get(recall.id)
        if recall.id not in taken and (known is None or known.version < recall.version):
            recalls[recall.id] = recall


def _in_order(items: list[Courseware]) -> tuple[Courseware, ...]:
    return tuple(sorted(items, key=lambda item: item.id))


def _columns_in_order(columns: Iterable[Column]) -> tuple[Column, ...]:
    return tuple(sorted(columns, key=lambda column: (column.order, column.id)))
