"""Names of what makes a video play as HLS, and how to find them again in a courseware (FORMAT.md section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

from manifests.model import Courseware, File
from manifests.names import MAX_FILE_NAME_BYTES

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
AUDIO = "audio"
"""Label of the rendition that is sound alone; those with a picture are labelled by their lines, as in `720p`."""

_SUFFIX_BYTES = len(".1080p.m3u8") + 4


@dataclass(frozen=True, slots=True)
class Streams:
    """The HLS side of one video.

    Attributes:
        master: the playlist to open.
        renditions: those with a picture, largest first, then the sound alone.
    """

    master: File
    renditions: tuple[File, ...]

    @property
    def is_adaptive(self) -> bool:
        """There is more than one picture to choose from."""
        return sum(file.height > 0 for file in self.renditions) > 1


def master_name(video: str) -> str:
    """Name of a video's master playlist."""
    return f"{_stem(video)}.m3u8"


def playlist_name(video: str, label: str) -> str:
    """Name of the playlist of one rendition."""
    return f"{_stem(video)}.{label}.m3u8"


def rendition_name(video: str, label: str) -> str:
    """Name of one rendition."""
    return f"{_stem(video)}.{label}.{'m4a' if label == AUDIO else 'mp4'}"


def streams_of(item: Courseware, video: File) -> Streams | None:
    """What a video of a courseware plays as HLS by; None when it does not."""
    name = master_name(video.name)
    master = next((file for file in item.files if file.role == "playlist" and file.name == name), None)
    if master is None:
        return None
    prefix = f"{_stem(video.name)}."
    mine = [file for file in item.files if file.role == "rendition" and _is_label(file.name, prefix)]
    return Streams(master, tuple(sorted(mine, key=lambda file: -file.height)))


def _is_label(name: str, prefix: str) -> bool:
    """Tell whether a name is the prefix, a label and a suffix; `a.b.720p.mp4` belongs to `a.b.mp4`, not to `a.mp4`."""
    return name.startswith(prefix) and name[len(prefix) :].count(".") == 1


def _stem(video: str) -> str:
    """The name without its suffix, cut so that the longest of the names still is one."""
    stem = video.rpartition(".")[0] or video
    most = MAX_FILE_NAME_BYTES - _SUFFIX_BYTES
    return stem.encode("utf-8")[:most].decode("utf-8", "ignore").rstrip(". ")
