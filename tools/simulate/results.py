"""The figures of a simulated province, as values: one row per night, and the whole."""

from __future__ import annotations

from msgspec import Struct


class Worst(Struct, frozen=True):
    """The county that lacks most at 06:00; empty when none lacks anything."""

    region: str = ""
    name: str = ""
    missing_bytes: int = 0
    reason: str = ""
    reason_zh: str = ""


class NightRow(Struct, frozen=True):
    """One night, with the day and the evening before it.

    Attributes:
        published: lessons offered anew or in a new version that day.
        origin_bytes: bytes of body that left the origin, `viewer_bytes` of them for plays of what was not there yet.
        unique_bytes: bytes of distinct content among them.
        city_bytes: bytes that edges gave each other.
        promised, complete: edges that were expected to hold everything planned by 06:00, and that do.
        stall_s: seconds for which a picture stood still in the evening; `broken` plays were given up.
        recall_s: seconds until the last edge had acted on a recall of the day; None without one.
        recall_half_s: until half of the edges that held it had.
    """

    night: int
    published: int
    origin_bytes: int
    viewer_bytes: int
    unique_bytes: int
    origin_bytes_per_unique_byte: float
    city_bytes: int
    edges: int
    off: int
    promised: int
    complete: int
    worst: Worst
    plays: int
    broken: int
    stall_s: float
    recall_s: float | None = None
    recall_half_s: float | None = None


class Simulation(Struct, frozen=True):
    """The whole run.

    Attributes:
        completion: share of edge-nights that ended with everything planned proved by 06:00.
        worst: the county that lacked most on one morning.
    """

    edges: int
    nights: int
    seed: int
    swarm: bool
    rows: tuple[NightRow, ...]
    origin_bytes: int
    unique_bytes: int
    city_bytes: int
    viewer_bytes: int
    origin_bytes_per_unique_byte: float
    completion: float
    stall_s: float
    worst: Worst
    recall_s: float | None = None


class Figures(Struct, frozen=True):
    """What one way of finding out has come to.

    Attributes:
        origin_bytes: bytes that came down the origin's line.
        seconds: until the last edge held everything.
    """

    origin_bytes: int
    origin_bytes_per_unique_byte: float
    seconds: float


class Agreement(Struct, frozen=True):
    """The real figures, the model's, and the model's over the real ones, with siblings that help each other or not."""

    edges: int
    swarm: bool
    unique_bytes: int
    real: Figures
    model: Figures
    bytes_ratio: float
    seconds_ratio: float
    agrees: bool


class Agreements(Struct, frozen=True):
    """All that was tried."""

    runs: tuple[Agreement, ...]
    agrees: bool


def per_unique(origin_bytes: float, unique_bytes: float) -> float:
    """Bytes from the origin per unique byte."""
    return round(origin_bytes / unique_bytes, 4) if unique_bytes else 0.0
