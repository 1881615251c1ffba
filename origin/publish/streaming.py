"""What makes a video play as HLS: renditions made once by a worker, remembered, named and staged with the lesson.

A rendition that copies the video's own streams (the first one, and the sound alone) gets a patch within the lesson,
so that an edge, which has the video anyway, fetches a fraction of a percent of it; the sound lies in longer runs in
the first rendition than in the video, so its patch is from there.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import msgspec
import structlog
from msgspec import Struct

from manifests.digests import Digest
from manifests.errors import InputError, NotFoundError, StorageFullError
from manifests.instants import Instant
from manifests.model import File, Patch
from manifests.pieces import BlobRef
from manifests.streams import AUDIO, PLAYLIST_TYPE, master_name, playlist_name, rendition_name
from origin.publish.ingest import Progress, Staged, stage, staged_path
from origin.publish.ladder import StreamsPlan
from origin.publish.media import make_renditions
from origin.publish.media_job import Rendition
from origin.publish.patching import make_patch
from origin.publish.playlists import Variant, master_playlist
from origin.publish.release import Releases
from origin.publish.source import Source, bytes_source, file_source, stamp_of
from origin.storage.base import BlobStorage

log = structlog.get_logger(__name__)

# A patch between containers is small or none; beyond this the pieces are the plainer way.
_MAX_PATCH_RATIO = 0.1
# Counted up when what is made of the same video by the same rungs changes.
_EDITION = 1


class Kept(Struct, frozen=True):
    """One rendition as it is remembered.

    Attributes:
        file: name by which `playlist` calls it.
        playlist: text of its playlist.
        patch: from the video, or from the first rendition; None when it has none.
    """

    made: Rendition
    file: str
    size: int
    blob: str
    table: str | None
    playlist: str
    patch: Patch | None = None

    @property
    def ref(self) -> BlobRef:
        """The rendition as a blob."""
        return BlobRef(Digest(self.blob), self.size, Digest(self.table) if self.table else None)


@dataclass
class Making:
    """The streams of one video, between their making and their release; `staged` must be stored first.

    Attributes:
        is_new: they were made now, and are to be remembered.
    """

    video: BlobRef
    recipe: str
    kept: tuple[Kept, ...]
    playlists: tuple[File, ...]
    renditions: tuple[File, ...]
    staged: list[Staged] = field(default_factory=list)
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class Streaming:
    """All that streams are made with; see `Publishing`."""

    storage: BlobStorage
    staging: Path
    releases: Releases
    deadline_s: float
    clock: Callable[[], Instant]

    async def make(
        self, plan: StreamsPlan, video: Staged, clean: ExitStack, progress: Progress | None
    ) -> Making | None:
        """Make and stage the streams of a staged video, or take those that were made of it before.

        None when the media library cannot: the lesson then plays as it always did, and the log says why.

        Raises:
            StorageError: environment.
        """
        recipe = recipe_of(plan)
        staged: list[Staged] = []
        kept = await self._remembered(video.digest, recipe)
        is_new = kept is None
        if kept is None:
            try:
                kept = await self._make(plan, video, staged, clean, progress)
            except InputError as error:
                log.warning("renditions_left_out", file=plan.video, reason=error.message)
                return None
        texts = {playlist_name(plan.video, one.made.label): _renamed(one, plan.video) for one in kept}
        texts = {master_name(plan.video): _master(plan.video, kept), **texts}
        playlists = [await self._text(name, text, staged, clean) for name, text in texts.items()]
        renditions = tuple(_rendition(plan.video, one) for one in kept)
        return Making(video.ref, recipe, kept, tuple(playlists), renditions, staged, is_new)

    async def settle(self, making: Making) -> tuple[File, ...]:
        """Once all of it is stored: make the patches, remember it, and give the files."""
        if making.is_new:
            first = making.kept[0].ref
            sources = [first if one.made.label == AUDIO else making.video for one in making.kept]
            pairs = zip(sources, making.kept, strict=True)
            making.kept = tuple([await self._patched(source, one) for source, one in pairs])
            document = msgspec.json.encode(making.kept).decode()
            await self.releases.keep_renditions(making.video.digest, making.recipe, document, self.clock())
        patches = {one.blob: (one.patch,) for one in making.kept if one.patch is not None}
        files = (msgspec.structs.replace(file, patches=patches.get(file.blob, ())) for file in making.renditions)
        return (*making.playlists, *files)

    async def _remembered(self, video: Digest, recipe: str) -> tuple[Kept, ...] | None:
        document = await self.releases.recall_renditions(video, recipe)
        if document is None:
            return None
        kept = msgspec.json.decode(document, type=tuple[Kept, ...])
        for one in kept:
            for name in (one.blob, one.table, *((one.patch.blob, one.patch.table) if one.patch else ())):
                if name and await self.storage.size(Digest(name)) is None:
                    return None  # somebody took it away: it is made again
        return kept

    async def _make(
        self, plan: StreamsPlan, video: Staged, staged: list[Staged], clean: ExitStack, progress: Progress | None
    ) -> tuple[Kept, ...]:
        out = staged_path(self.staging, ".renditions")
        await asyncio.to_thread(out.mkdir)
        clean.callback(shutil.rmtree, out, ignore_errors=True)
        made = await make_renditions(
            video.path, out, plan.video, plan.label, plan.rungs, self.deadline_s, _named(progress, plan.video)
        )
        kept = []
        for one in made:
            path = out / f"{one.label}.mp4"
            name = rendition_name(plan.video, one.label)
            source = replace(file_source(path, await asyncio.to_thread(stamp_of, path)), what=name)
            held = await self._stage_file(source, staged, clean, progress)
            path.unlink()
            text = await asyncio.to_thread((out / f"{one.label}.m3u8").read_text, "utf-8")
            kept.append(Kept(one, name, held.size, held.digest, held.ref.table, text))
        return tuple(kept)

    async def _stage_file(
        self, source: Source, staged: list[Staged], clean: ExitStack, progress: Progress | None
    ) -> Staged:
        held = await stage(source, self.staging, progress)
        clean.callback(held.path.unlink, missing_ok=True)
        staged.append(held)
        return held

    async def _text(self, name: str, text: str, staged: list[Staged], clean: ExitStack) -> File:
        ref = (await self._stage_file(bytes_source(text.encode(), name), staged, clean, None)).ref
        return File("playlist", name, PLAYLIST_TYPE, ref.digest, ref.size, ref.table, ref.piece_size)

    async def _patched(self, source: BlobRef, one: Kept) -> Kept:
        if not one.made.is_copy:
            return one
        try:
            patch = await make_patch(self.storage, self.staging, source, one.ref, _MAX_PATCH_RATIO)
        except (NotFoundError, StorageFullError) as error:
            log.warning("patch_skipped", file=one.file, reason=error.message)
            return one
        return msgspec.structs.replace(one, patch=patch)


def recipe_of(plan: StreamsPlan) -> str:
    """What the same video must have been made by for its renditions to be the same."""
    rungs = [f"{rung.lines}p:{rung.bps}" for rung in plan.rungs]
    return " ".join([f"edition {_EDITION}", plan.label, *rungs])


def _rendition(video: str, kept: Kept) -> File:
    made = kept.made
    return File(
        "rendition",
        rendition_name(video, made.label),
        "audio/mp4" if made.label == AUDIO else "video/mp4",
        kept.blob,
        kept.size,
        kept.table,
        width=made.width,
        height=made.height,
        bitrate_bps=made.average_bps,
        duration_s=made.duration_s,
    )


def _master(video: str, kept: tuple[Kept, ...]) -> str:
    return master_playlist(
        [
            Variant(
                playlist=playlist_name(video, one.made.label),
                peak_bps=one.made.peak_bps,
                average_bps=one.made.average_bps,
                codecs=one.made.codecs,
                width=one.made.width,
                height=one.made.height,
                fps=Fraction(*one.made.fps),
            )
            for one in kept
        ]
    )


def _renamed(kept: Kept, video: str) -> str:
    """The playlist of a rendition that is called otherwise in another courseware."""
    return kept.playlist.replace(quote(kept.file, safe=""), quote(rendition_name(video, kept.made.label), safe=""))


def _named(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda _, done, total: progress(f"renditions {name}", done, total)
