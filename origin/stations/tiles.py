"""Where a city stands on the tile map: a schematic picture of the province, every city one tile, no borders.

Borders may be shown only with an approval number; a tile map needs none and reads at a glance. Column and row begin at
1. A province that is not here is laid out row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

_WIDTH: Final = 6

_HENAN: Final[Mapping[str, tuple[int, int]]] = {
    "410100": (4, 4),
    "410200": (5, 4),
    "410300": (2, 4),
    "410400": (3, 5),
    "410500": (5, 1),
    "410600": (5, 2),
    "410700": (4, 3),
    "410800": (3, 3),
    "410900": (6, 2),
    "411000": (4, 5),
    "411100": (4, 6),
    "411200": (1, 4),
    "411300": (2, 6),
    "411400": (7, 4),
    "411500": (5, 8),
    "411600": (6, 5),
    "411700": (4, 7),
    "419000": (2, 3),
}


def place_tiles(cities: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Column and row of each of these, none twice."""
    if all(city in _HENAN for city in cities):
        return {city: _HENAN[city] for city in cities}
    return {city: (number % _WIDTH + 1, number // _WIDTH + 1) for number, city in enumerate(sorted(cities))}
