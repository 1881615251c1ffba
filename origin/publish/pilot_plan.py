"""Whether a pilot goes on: from what the edges of its waves have proved and reported, without I/O. Pure.

A wave is good when enough of its edges hold the new version proved and no more than a few are in trouble. Then the
next wave's regions get it, and after the last wave everybody. It stops when more edges are in trouble than is allowed,
or when its time has passed and there are still too few receipts: silence is no proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from manifests.errors import InputError
from manifests.instants import Instant
from manifests.model import MAX_AUDIENCE
from manifests.names import Region, is_within
from origin.settings import Pilots

MAX_WAVES = 20


class Terms(Struct, frozen=True):
    """What a wave must come to.

    Attributes:
        enough_percent: of its edges must hold the version, proved.
        most_failed: so many edges may be in trouble.
        failed_minutes: a failed run is trouble when the edge, heard again so long afterwards, has told no better one.
        deadline_hours: by then there must be receipts enough.
    """

    enough_percent: Annotated[int, Meta(ge=1, le=100)] = 90
    most_failed: Annotated[int, Meta(ge=0, le=1000)] = 0
    failed_minutes: Annotated[int, Meta(ge=0, le=10080)] = 60
    deadline_hours: Annotated[int, Meta(ge=1, le=720)] = 48


def terms_of(own: Pilots) -> Terms:
    """The terms of the settings: what holds when whoever starts a pilot says nothing else."""
    return Terms(own.enough_percent, own.most_failed, own.failed_minutes, own.deadline_hours)


@dataclass(frozen=True, slots=True)
class PilotWish:
    """A pilot that somebody asks for.

    Attributes:
        waves: regions of the first wave, of the second, …; after the last one, all.
        by: login of whoever asks; empty for the command line.
    """

    waves: tuple[tuple[Region, ...], ...]
    terms: Terms
    by: str = ""


@dataclass(frozen=True, slots=True)
class RunningPilot:
    """A pilot as it stands.

    Attributes:
        wave: index of the wave at work.
        wave_at: when that wave began.
        known_faults: what edges complained of before it began, by code: that is not the lesson's doing.
    """

    id: int
    courseware: str
    title: str
    version: int
    base: int | None
    waves: tuple[tuple[Region, ...], ...]
    wave: int
    wave_at: Instant
    terms: Terms
    known_faults: Mapping[str, tuple[str, ...]]

    @property
    def areas(self) -> tuple[Region, ...]:
        """Regions of all waves so far."""
        return areas_until(self.waves, self.wave)

    @property
    def deadline(self) -> Instant:
        """When the wave at work must have come to enough."""
        return Instant(self.wave_at + self.terms.deadline_hours * 3600)


@dataclass(frozen=True, slots=True)
class EdgeReport:
    """What an edge says, as far as a pilot is concerned.

    Attributes:
        held: version of the lesson that it has proved; 0 for none.
        heard_at: None: never.
        failed_since: the first of its newest runs since the wave began that failed, none between them that did not;
            None when the newest did not fail.
        error: of the newest of these.
        deferred: why its newest run did not complete the lesson; empty when it says nothing.
        faults: of its newest state, when that is of this wave.
    """

    code: str
    name: str
    region: Region
    held: int = 0
    heard_at: Instant | None = None
    failed_since: Instant | None = None
    error: str = ""
    deferred: str = ""
    faults: tuple[str, ...] = ()


class Standing(StrEnum):
    """Where an edge of a wave stands."""

    PROVED = "proved"
    WAITS = "waits"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EdgeVerdict:
    """One edge and why it counts as it does; `wave` is the index of the wave that brought it in."""

    edge: EdgeReport
    wave: int
    standing: Standing
    reason: str
    reason_zh: str


class Step(StrEnum):
    """What is to be done."""

    WAIT = "wait"
    GO_ON = "go_on"
    FINISH = "finish"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class WavePlan:
    """The verdict on a pilot's wave.

    Attributes:
        next_wave: index of the wave after this step; that of the present one unless it goes on.
        meant, proved, failed: edges of all waves so far.
    """

    step: Step
    reason: str
    reason_zh: str
    next_wave: int
    meant: int
    proved: int
    failed: int
    edges: tuple[EdgeVerdict, ...]


def plan_wave(pilot: RunningPilot, reports: Sequence[EdgeReport], now: Instant) -> WavePlan:
    """Decide whether a pilot goes on, waits or stops.

    Args:
        pilot: as it stands.
        reports: of the edges that are meant for the lesson, wherever they are.
        now: the origin's clock.
    """
    edges = tuple(
        _judged(pilot, one, wave) for one in reports if (wave := wave_of(pilot.waves, pilot.wave, one.region)) >= 0
    )
    meant = len(edges)
    proved = sum(one.standing is Standing.PROVED for one in edges)
    failed = [one for one in edges if one.standing is Standing.FAILED]
    enough = -(-meant * pilot.terms.enough_percent // 100)
    step, (reason, reason_zh) = Step.WAIT, _waits(proved, enough, meant)
    if len(failed) > pilot.terms.most_failed:
        step, (reason, reason_zh) = Step.STOP, _failed(failed)
    elif meant and proved >= enough:
        is_last = pilot.wave + 1 >= len(pilot.waves)
        step, (reason, reason_zh) = Step.FINISH if is_last else Step.GO_ON, _good(proved, meant)
    elif now >= pilot.deadline:
        step, (reason, reason_zh) = Step.STOP, _late(pilot, proved, enough, meant)
    next_wave = pilot.wave + 1 if step is Step.GO_ON else pilot.wave
    return WavePlan(step, reason, reason_zh, next_wave, meant, proved, len(failed), edges)


def areas_until(waves: Sequence[Sequence[Region]], wave: int) -> tuple[Region, ...]:
    """Regions of all waves up to one."""
    return tuple(sorted({area for one in waves[: wave + 1] for area in one}))


def wave_of(waves: Sequence[Sequence[Region]], wave: int, region: Region) -> int:
    """The first wave, of those up to `wave`, that has a region; -1 for none."""
    for number, areas in enumerate(waves[: wave + 1]):
        if any(is_within(region, area) for area in areas):
            return number
    return -1


def check_waves(waves: Sequence[Sequence[Region]], audience: Sequence[str]) -> None:
    """Refuse waves that mean nobody.

    Raises:
        InputError: bad data; none, too many, an empty one, or a region for which the lesson is not meant.
    """
    if not 1 <= len(waves) <= MAX_WAVES or any(not one for one in waves):
        raise InputError(
            f"a pilot has 1 to {MAX_WAVES} waves, each with a region",
            zh=f"试点须有 1 至 {MAX_WAVES} 批，每批至少一个地区",
        )
    areas = areas_until(waves, len(waves))
    if len(areas) > MAX_AUDIENCE:
        raise InputError(f"a pilot names at most {MAX_AUDIENCE} regions", zh=f"试点最多涉及 {MAX_AUDIENCE} 个地区")
    for area in areas:
        if not any(is_within(area, Region(one)) or is_within(Region(one), area) for one in audience):
            raise InputError(f"the lesson is not meant for region {area}", zh=f"该课件不面向地区 {area}")


def _judged(pilot: RunningPilot, edge: EdgeReport, wave: int) -> EdgeVerdict:
    new = [fault for fault in edge.faults if fault not in pilot.known_faults.get(edge.code, ())]
    if new:
        return EdgeVerdict(edge, wave, Standing.FAILED, f"fault: {new[0]}", f"故障：{new[0]}")
    since, heard = edge.failed_since, edge.heard_at
    if since is not None and heard is not None and heard - since >= pilot.terms.failed_minutes * 60:
        return EdgeVerdict(edge, wave, Standing.FAILED, f"its runs fail: {edge.error}", f"同步失败：{edge.error}")
    if edge.held >= pilot.version:
        return EdgeVerdict(edge, wave, Standing.PROVED, "holds it, proved", "已核验")
    if heard is None:
        return EdgeVerdict(edge, wave, Standing.WAITS, "never heard from", "从未上报")
    if edge.error or edge.deferred:
        why = edge.deferred or edge.error
        return EdgeVerdict(edge, wave, Standing.WAITS, f"not yet: {why}", f"尚未完成：{why}")
    return EdgeVerdict(edge, wave, Standing.WAITS, "no receipt yet", "尚无回执")


def _waits(proved: int, enough: int, meant: int) -> tuple[str, str]:
    if not meant:
        return "no enrolled edge is in its regions", "试点地区没有已开通的边缘服务器"
    return (
        f"{proved} of {meant} edges hold it, {enough} are needed",
        f"{meant} 台中已有 {proved} 台核验，需要 {enough} 台",
    )


def _good(proved: int, meant: int) -> tuple[str, str]:
    return f"{proved} of {meant} edges hold it, proved", f"{meant} 台中已有 {proved} 台核验，情况良好"


def _failed(failed: Sequence[EdgeVerdict]) -> tuple[str, str]:
    first = failed[0]
    return (
        f"{len(failed)} edges are in trouble: {first.edge.code}, {first.reason}",
        f"{len(failed)} 台出现问题：{first.edge.name}（{first.reason_zh}）",
    )


def _late(pilot: RunningPilot, proved: int, enough: int, meant: int) -> tuple[str, str]:
    reason, reason_zh = _waits(proved, enough, meant)
    hours = pilot.terms.deadline_hours
    return f"after {hours} hours {reason}", f"已过 {hours} 小时，{reason_zh}"
