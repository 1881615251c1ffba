"""Which renditions a video gets, decided without I/O: its own streams, smaller pictures where they help, its sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from manifests.errors import ConfigurationError
from manifests.streams import AUDIO, master_name, playlist_name, rendition_name
from origin.publish.media_job import Probe, Rung
from origin.publish.media_rules import MAX_LONG_SIDE, MAX_SHORT_SIDE

# Segments can be cut at key frames only; a segment that takes a minute to fetch switches nothing.
MAX_KEY_GAP_S = 30.0
# A picture that is hardly smaller is not worth its bytes on the counties' lines.
_SMALLER = 0.9
_SOUND_BPS = 128_000


@dataclass(frozen=True, slots=True)
class StreamsPlan:
    """What one video of a courseware gets.

    Attributes:
        label: of the rendition with its own streams.
        why_not: why it gets nothing, in both languages; empty when it does.
    """

    video: str
    made_from: int
    label: str
    rungs: tuple[Rung, ...]
    duration_s: float
    has_sound: bool
    why_not: tuple[str, str] = ("", "")

    @property
    def labels(self) -> tuple[str, ...]:
        """Of all renditions, largest first."""
        if self.why_not[0]:
            return ()
        return (self.label, *(rung.label for rung in self.rungs), *([AUDIO] if self.has_sound else []))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all files: the master playlist, then each rendition with its playlist."""
        each = ((rendition_name(self.video, one), playlist_name(self.video, one)) for one in self.labels)
        return (master_name(self.video), *(name for pair in each for name in pair)) if self.labels else ()

    def expected_bytes(self, label: str) -> int:
        """About how many bytes a rendition takes on a line: those that copy streams travel as patches."""
        rung = next((rung for rung in self.rungs if rung.label == label), None)
        return round((rung.bps + _SOUND_BPS) * self.duration_s / 8) if rung is not None else 0


@dataclass(frozen=True, slots=True)
class Ladder:
    """Smaller pictures to make of a large one.

    Attributes:
        from_s: shorter videos get none.
    """

    rungs: tuple[Rung, ...]
    from_s: float


def parse_ladder(texts: Sequence[str], from_s: float) -> Ladder:
    """Read the settings `publish.renditions` and `publish.renditions_from_s`.

    Raises:
        ConfigurationError: bad data; two rungs of the same lines.
    """
    rungs = []
    for text in texts:
        lines, _, rate = text.partition("p:")
        rungs.append(Rung(int(lines), int(rate.removesuffix("k")) * 1000))
    if len({rung.lines for rung in rungs}) != len(rungs):
        raise ConfigurationError("publish.renditions names the same lines twice", zh="publish.renditions 中行数重复")
    return Ladder(tuple(sorted(rungs, key=lambda rung: -rung.lines)), from_s)


def plan_streams(video: str, made_from: int, probe: Probe, ladder: Ladder) -> StreamsPlan:
    """Decide what a video gets, by its file as it will be published, or as it was handed in."""
    lines = _lines(probe.width, probe.height)
    why_not = ("", "")
    if probe.plays and probe.max_keyframe_gap_s > MAX_KEY_GAP_S:
        why_not = (
            f"its key frames are {probe.max_keyframe_gap_s:.0f} s apart, so it cannot be cut into segments",
            f"关键帧间隔达 {probe.max_keyframe_gap_s:.0f} 秒，无法分段",
        )
    return StreamsPlan(
        video=video,
        made_from=made_from,
        label=f"{lines}p",
        rungs=tuple(rung for rung in ladder.rungs if _helps(rung, lines, probe, ladder)),
        duration_s=probe.duration_s,
        has_sound=bool(probe.audio_codec),
        why_not=why_not,
    )


def _lines(width: int, height: int) -> int:
    """Lines of the picture once it is published; 1088 coded lines show 1080."""
    long, short = max(width, height, 1), min(width, height)
    return min(1080, round(short * min(1.0, MAX_LONG_SIDE / long, MAX_SHORT_SIDE / max(short, 1))))


def _helps(rung: Rung, lines: int, probe: Probe, ladder: Ladder) -> bool:
    """A smaller picture helps a thin line only if it takes fewer bits than the source does."""
    return (
        probe.duration_s >= ladder.from_s
        and rung.lines <= _SMALLER * lines
        and rung.bps + _SOUND_BPS <= _SMALLER * (probe.bitrate_bps or rung.bps * 2)
    )
