"""Into whose catalog a draft goes: the province's, or that of a city which publishes its own. Pure.

A city's people write for their city. Who speaks for the province may move a draft, as long as it is no next version:
what is offered stays with whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from manifests.cities import city_of_id
from manifests.errors import DeniedError, InputError
from manifests.names import Region, is_within, region_level
from origin.publish.cities import CityRight, publisher_for

PROVINCE: Final = "province"


def owner_of(courseware: str) -> str:
    """Whose a lesson is, by its id: `province`, or the city's code."""
    return city_of_id(courseware) or PROVINCE


def owner_of_new(author: Region, courseware: str | None, rights: Iterable[CityRight]) -> str:
    """Whose a new draft is: that of the lesson that it revises, or else its author's city's, if that may publish.

    Raises:
        DeniedError: caller's mistake; the lesson is another city's.
    """
    if courseware is None:
        return publisher_for(author, rights) or PROVINCE
    owner = owner_of(courseware)
    if owner != PROVINCE and region_level(author) != "province" and not is_within(author, Region(owner)):
        raise DeniedError("that lesson is another city's own", zh="该课件由其他市发布，无权编写其新版本")
    return owner


def home_of(region: Region, city: Region | None) -> Region:
    """Who is meant when a draft of a region names nobody: its region, as far as the word of its publisher goes.

    `city`: that publishes; None for the province.
    """
    return region if city is None or is_within(region, city) else city


def check_move(present: str, wanted: str, choice: Sequence[str]) -> str:
    """Whose a draft is to be.

    Args:
        present: whose it is.
        wanted: what somebody wants; empty for what it is.
        choice: what they may choose between.

    Raises:
        DeniedError: caller's mistake; there is no choice.
        InputError: bad data; a city that may not publish.
    """
    if wanted in {"", present}:
        return present
    if not choice:
        raise DeniedError("the publisher of this draft is not yours to change", zh="无权更改该稿件的发布者")
    if wanted not in choice:
        raise InputError(f"{wanted} may not publish here", zh=f"{wanted} 尚未获得发布授权，或授权已撤销")
    return wanted
