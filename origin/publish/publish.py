"""Publishing one courseware: find out → plan → make and stage everything, streams last → store → patches → release.

Nothing is stored until all files are made, hashed and staged, so what is refused half-way leaves nothing behind; and
nothing is offered until the release is signed. A run that is killed leaves at most blobs that nobody refers to.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import structlog

from manifests.digests import Digest
from manifests.errors import NotFoundError, StorageFullError
from manifests.model import MAX_PATCHES, Courseware, File, Patch
from manifests.names import CoursewareId, Region
from origin.clock import Clock
from origin.publish.findings import find_out
from origin.publish.ingest import Progress, Staged, adopt, stage, staged_path
from origin.publish.ladder import parse_ladder, plan_streams
from origin.publish.matching import match_previous
from origin.publish.media import make_poster, probe, transcode
from origin.publish.media_job import Probe
from origin.publish.patching import make_patch
from origin.publish.release import Draft, Released, Releases
from origin.publish.request import PublishRequest, check_request
from origin.publish.source import Reader, Source, file_source, stamp_of
from origin.publish.streaming import Making, Streaming
from origin.publish.together import run_together
from origin.publish.treatment import FilePlan, Finding, PublishPlan, Treatment, plan_publish, source_of
from origin.settings import Publish
from origin.storage.base import BlobStorage

__all__ = ["Foresight", "PublishPlan", "PublishRequest", "Publishing", "derive_id", "foresee_id", "match_previous"]

log = structlog.get_logger(__name__)

_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a publish would come to; `replaced` is what is offered under the id now, None for nothing."""

    plan: PublishPlan
    id: CoursewareId
    replaced: Courseware | None


@dataclass(frozen=True, slots=True)
class Publishing:
    """All that publishing is done with; put together once, by the origin's wiring.

    Attributes:
        staging: this process's own directory within the storage's file system.
        region: whom this origin publishes for.
    """

    storage: BlobStorage
    staging: Path
    releases: Releases
    settings: Publish
    region: Region
    clock: Clock

    async def plan(self, request: PublishRequest) -> PublishPlan:
        """Check the request, look into its files, decide what each becomes. Changes nothing.

        Raises:
            InputError: bad data.
        """
        return (await self._plan(request))[0]

    async def foresee(self, request: PublishRequest) -> Foresight:
        """The plan, and which courseware it would make or replace. Reads the first file; changes nothing.

        Raises:
            InputError: bad data.
        """
        plan, findings = await self._plan(request)
        courseware_id = await asyncio.to_thread(foresee_id, plan, findings)
        return Foresight(plan, courseware_id, await self.releases.current(courseware_id))

    async def publish(self, request: PublishRequest, progress: Progress | None = None) -> Released:
        """Plan and carry out.

        Raises:
            InputError: bad data; also a file that changes meanwhile, or cannot be transcoded. Nothing was changed.
            ConfigurationError: environment; a key is absent. Nothing was changed.
            BusyError: environment; another publish did not end in time.
            StorageError: environment; the old release is whole.
        """
        plan, findings = await self._plan(request)
        return await self.run(plan, findings, progress)

    async def run(self, plan: PublishPlan, findings: Sequence[Finding], progress: Progress | None = None) -> Released:
        """Carry out a plan, made of these findings; see `publish`."""
        await self.releases.check_ready(plan.headline.publisher)
        with ExitStack() as clean:
            made = await self._make_all(plan, findings, clean, progress)
            streams = await self._make_streams(plan, made, clean, progress)
            handed_in = [findings[file.made_from].original for file in plan.files if file.keeps_original]
            originals = [await self._stage(source, clean, progress) for source in handed_in]
            made_of_made = (staged for one in streams for staged in one.staged)
            for staged in (*(one.staged for one in made), *originals, *made_of_made):
                await adopt(staged, self.storage, self.staging)
        files = tuple(_file(one) for one in made)
        streaming = self._streaming()
        shown = (*files, *[file for one in streams for file in await streaming.settle(one)])
        kept = tuple(staged.ref for staged in originals)
        head = plan.headline
        # What was handed in names it: another encoder must not make another courseware of the same recording.
        first = originals[0] if plan.files[0].keeps_original else made[0].staged
        courseware_id = head.id or derive_id(first.digest, head.publisher)
        draft = Draft(
            id=courseware_id,
            title=head.title,
            kind=plan.kind,
            columns=head.columns,
            audience=head.audience,
            files=await self._with_patches(courseware_id, shown, progress),
            originals=kept,
            summary=head.summary,
            duration_s=round(sum(file.duration_s for file in files), 3),
            priority=head.priority,
            tags=head.tags,
            expires=head.expires,
            credit=head.credit,
            publisher=head.publisher,
            pilot=head.pilot,
        )
        return await self.releases.publish(draft)

    async def _plan(self, request: PublishRequest) -> tuple[PublishPlan, tuple[Finding, ...]]:
        headline = check_request(request, self.region, self.clock())
        findings = await find_out(request.files, self.settings.probe_deadline_s)
        ladder = parse_ladder(self.settings.renditions, self.settings.renditions_from_s)
        has_streams = self.settings.hls and request.hls
        return plan_publish(headline, findings, ladder if has_streams else None), findings

    def _streaming(self) -> Streaming:
        return Streaming(self.storage, self.staging, self.releases, self.settings.renditions_deadline_s, self.clock)

    async def _make_streams(
        self, plan: PublishPlan, made: Sequence[_Made], clean: ExitStack, progress: Progress | None
    ) -> list[Making]:
        """One video after another: each takes all cores."""
        ladder = parse_ladder(self.settings.renditions, self.settings.renditions_from_s)
        found = []
        for video in (one for one in made if plan.streams and one.plan.role == "video"):
            # By the file as it is now: a transcoded one is no longer what was handed in.
            one = plan_streams(video.plan.name, video.plan.made_from, video.probe, ladder)
            if not one.why_not[0]:
                making = await self._streaming().make(one, video.staged, clean, progress)
                found += [making] if making is not None else []
        return found

    async def _make_all(
        self, plan: PublishPlan, findings: Sequence[Finding], clean: ExitStack, progress: Progress | None
    ) -> list[_Made]:
        """Stage all files: in one lane those that are there, beside it those that a worker must make first."""
        made: dict[str, _Made] = {}

        async def lane(*, by_worker: bool) -> None:
            for file in plan.files:
                finding = findings[file.made_from]
                source = source_of(file, finding)
                if source is None and by_worker:
                    made[file.name] = await self._make(file, finding, clean, progress)
                elif source is not None and not by_worker:
                    made[file.name] = _Made(file, finding.probe, await self._stage(source, clean, progress))

        await run_together(lane(by_worker=False), lane(by_worker=True))
        return [made[file.name] for file in plan.files]

    async def _make(self, file: FilePlan, finding: Finding, clean: ExitStack, progress: Progress | None) -> _Made:
        """Have a worker make a file, and stage it."""
        is_poster = file.treatment is Treatment.POSTER
        out = staged_path(self.staging, ".jpg" if is_poster else ".mp4")
        clean.callback(out.unlink, missing_ok=True)
        if is_poster:
            await make_poster(finding.path, out)
        else:
            await transcode(finding.path, out, self.settings.transcode_deadline_s, _renamed(progress, file.name))
        # What a worker made is judged like what a stranger made.
        found = await probe(out, self.settings.probe_deadline_s)
        stamp = await asyncio.to_thread(stamp_of, out)
        source = replace(file_source(out, stamp), what=file.name)
        staged = await self._stage(source, clean, progress)
        out.unlink()  # its copy is staged; a transcoded lesson need not lie here twice
        return _Made(file, found, staged)

    async def _stage(self, source: Source, clean: ExitStack, progress: Progress | None) -> Staged:
        staged = await stage(source, self.staging, progress)
        clean.callback(staged.path.unlink, missing_ok=True)
        return staged

    async def _with_patches(
        self, courseware_id: CoursewareId, files: tuple[File, ...], progress: Progress | None
    ) -> tuple[File, ...]:
        previous = await self.releases.previous_files(courseware_id, self.settings.patch_versions)
        patched = []
        for file in files:
            if file.patches:
                patched.append(file)  # from another file of this version, which is here whenever it is wanted
                continue
            patches: dict[str, Patch] = {}
            for old in match_previous(file, files, previous):
                if old.blob == file.blob:
                    # The same bytes under an earlier version: its patches lead here as well.
                    patches = {patch.source: patch for patch in old.patches} | patches
                elif old.blob not in patches:
                    patch = await self._patch(old, file, progress)
                    if patch is not None:
                        patches[old.blob] = patch
            patched.append(msgspec.structs.replace(file, patches=tuple(patches.values())[:MAX_PATCHES]))
        return tuple(patched)

    async def _patch(self, old: File, new: File, progress: Progress | None) -> Patch | None:
        if progress is not None:
            progress(f"patch {new.name}", 0, new.size)
        try:
            patch = await make_patch(self.storage, self.staging, old.ref, new.ref, self.settings.patch_max_ratio)
        except (NotFoundError, StorageFullError) as error:
            # Without it edges fetch pieces: dearer for them, but no reason to hold the lesson back.
            log.warning("patch_skipped", file=new.name, reason=error.message)
            patch = None
        if progress is not None:
            progress(f"patch {new.name}", new.size, new.size)
        return patch


@dataclass(frozen=True, slots=True)
class _Made:
    """A file in staging, and what it is now (a transcoded one is no longer what was handed in)."""

    plan: FilePlan
    probe: Probe
    staged: Staged


def _namesake(plan: PublishPlan, findings: Sequence[Finding]) -> Source:
    """What names a courseware that was given no id: see `Publishing.run`."""
    first = plan.files[0]
    finding = findings[first.made_from]
    made = None if first.keeps_original else source_of(first, finding)
    return made or finding.original


def _digest(source: Source) -> Digest:
    hasher, buffer = hashlib.sha256(), memoryview(bytearray(_READ_BYTES))
    with Reader(source) as reader:
        while count := reader.readinto(buffer):
            hasher.update(buffer[:count])
    return Digest(hasher.hexdigest())


def foresee_id(plan: PublishPlan, findings: Sequence[Finding]) -> CoursewareId:
    """The id that a plan's courseware would have; reads its first file when it was given none. Blocking.

    Raises:
        InputError: bad data; the file was changed meanwhile, or cannot be read.
    """
    return plan.headline.id or derive_id(_digest(_namesake(plan, findings)), plan.headline.publisher)


def derive_id(digest: Digest, city: str = "") -> CoursewareId:
    """The id of a courseware that was given none: from its first file, so the same file gives the same id."""
    own = f"{city}-" if city else ""
    return CoursewareId(f"{own}kj-" + base64.b32encode(bytes.fromhex(digest)).decode("ascii")[:10].lower())


def _file(made: _Made) -> File:
    found, ref = made.probe, made.staged.ref
    return File(
        role=made.plan.role,
        name=made.plan.name,
        media_type=made.plan.media_type,
        blob=ref.digest,
        size=ref.size,
        table=ref.table,
        piece_size=ref.piece_size,
        width=found.width,
        height=found.height,
        bitrate_bps=found.bitrate_bps,
        duration_s=round(found.duration_s, 3),
        language=made.plan.language,
    )


def _renamed(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda _, done, total: progress(f"transcode {name}", done, total)
