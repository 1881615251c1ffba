"""Series of disks: what earlier disks carry, the next one leaves out. Noted at the origin when a disk is complete."""

from __future__ import annotations

import msgspec
import structlog

from manifests.courier import Courier
from manifests.digests import digest_of
from manifests.errors import InputError, YuanjiaoError
from origin.app import Origin
from origin.publish.files import write_durably
from origin.storage.faults import storage_faults

log = structlog.get_logger(__name__)


class Part(msgspec.Struct, frozen=True):
    """One finished disk of a series: lessons by id and version."""

    part: int
    held: dict[str, int]


class Series(msgspec.Struct, frozen=True):
    """The disks packed so far for one target."""

    series: str
    parts: tuple[Part, ...] = ()


def find_series(origin: Origin, on_disk: Courier | None, target: str, *, follow: bool) -> tuple[Series, int]:
    """The series that a disk belongs to, with the parts before it; and its own number. Blocking.

    Args:
        origin: keeps the list.
        on_disk: what an earlier export wrote on this very disk.
        target: whom the disk is for.
        follow: it is to carry what the earlier disks of the series lack.

    Raises:
        InputError: caller's mistake; the disk is part of the series already.
        StorageError: environment.
    """
    noted = _read_series(origin, target)
    if on_disk is not None and noted is not None and on_disk.series == noted.series and not on_disk.complete:
        # A disk that was cut off is the same disk again.
        return noted, on_disk.part
    if follow and noted is not None and noted.parts:
        if on_disk is not None and on_disk.series == noted.series:
            raise InputError(
                f"this disk is part {on_disk.part} of the series already; it was left as it is",
                zh=f"这张盘已经是本批第 {on_disk.part} 张，未做改动",
                hint="put in the next disk, or leave out --next to begin anew",
                hint_zh="请换上下一张盘；若要从头制作请去掉 --next",
            )
        return noted, noted.parts[-1].part + 1
    fresh = Series(digest_of(f"{target} {origin.clock()}".encode())[:16])
    if on_disk is not None and on_disk.target == target and on_disk.part == 1 and not on_disk.complete:
        fresh = Series(on_disk.series)
    return fresh, 1


def _read_series(origin: Origin, target: str) -> Series | None:
    try:
        with storage_faults("reading the list of courier disks"):
            data = (origin.paths.couriers / f"{target}.json").read_bytes()
        return msgspec.json.decode(data, type=Series)
    except (msgspec.DecodeError, UnicodeDecodeError):
        log.warning("list of courier disks is damaged; a new series begins", target=target)
    except YuanjiaoError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    return None


def note_part(origin: Origin, target: str, series: Series, part: Part) -> None:
    """Note a finished disk. Blocking.

    Raises:
        StorageError: environment.
    """
    noted = msgspec.structs.replace(series, parts=(*(one for one in series.parts if one.part < part.part), part))
    with storage_faults("noting the courier disk"):
        origin.paths.couriers.mkdir(exist_ok=True)
    write_durably(origin.paths.couriers / f"{target}.json", msgspec.json.encode(noted))
