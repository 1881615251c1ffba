"""Media from the origin's side: each call runs one worker process, with a deadline, and tells its fate as our errors.

The worker's limits and the rules of what plays are in `worker`, `media_rules` and `mp4`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from manifests.errors import InputError, StorageError, StorageFullError, YuanjiaoError
from origin.publish.media_job import (
    Advanced,
    Broken,
    Finished,
    Job,
    Message,
    Probe,
    Refused,
    Rendition,
    Rung,
    Unstored,
)
from origin.publish.mp4_faststart import FaststartPlan, plan_faststart
from origin.publish.source import unreadable

__all__ = [
    "Probe",
    "Progress",
    "make_frames",
    "make_poster",
    "make_renditions",
    "plan_faststart_of_file",
    "probe",
    "run_worker",
    "transcode",
]

Progress = Callable[[str, int, int], None]
"""Called with the stage, bytes done and bytes in all."""

PROBE_DEADLINE_S = 120.0
POSTER_DEADLINE_S = 60.0
TRANSCODE_DEADLINE_S = 6 * 3600.0
PROBE_MEMORY_BYTES = 2 << 30
TRANSCODE_MEMORY_BYTES = 6 << 30

# -P: the folder that we happen to stand in, perhaps full of strangers' files, is no place to import from.
WORKER = (sys.executable, "-P", "-m", "origin.publish.worker")
_MAX_LINE_BYTES = 1 << 16
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "TZ")  # no keys, no passphrases


async def probe(path: Path, deadline_s: float = PROBE_DEADLINE_S) -> Probe:
    """Tell what a file is and whether terminals play it as it is.

    Raises:
        InputError: bad data: empty, unknown, truncated, hostile; or it took longer than the deadline.
    """
    done = await run_worker(_job("probe", path, None, deadline_s, PROBE_MEMORY_BYTES), deadline_s)
    if done.probe is None:
        raise YuanjiaoError(f"the media worker said nothing about {path.name}")
    return done.probe


async def transcode(
    path: Path, out: Path, deadline_s: float = TRANSCODE_DEADLINE_S, progress: Progress | None = None
) -> None:
    """Write what terminals play: MP4 with H.264 and AAC, header first; streams that are right already are copied.

    Nothing is left at `out` when it fails or is cancelled.

    Raises:
        InputError: bad data.
        StorageError: environment; `out` cannot be written.
    """
    job = _job("transcode", path, out, deadline_s, TRANSCODE_MEMORY_BYTES)
    await _run_writer(job, out, deadline_s, progress)


async def make_poster(path: Path, out: Path, deadline_s: float = POSTER_DEADLINE_S) -> None:
    """Write a JPEG of a telling moment of a video, at most 1280 pixels long.

    Raises:
        InputError: bad data.
        StorageError: environment; `out` cannot be written.
    """
    await _run_writer(_job("poster", path, out, deadline_s, PROBE_MEMORY_BYTES), out, deadline_s, None)


async def make_frames(path: Path, out: Path, count: int, deadline_s: float = POSTER_DEADLINE_S) -> None:
    """Write `count` JPEGs from all over a video into the directory `out`; on failure the caller clears it.

    Raises:
        InputError: bad data.
        StorageError: environment; `out` cannot be written to.
    """
    job = msgspec.structs.replace(_job("frames", path, out, deadline_s, PROBE_MEMORY_BYTES), count=count)
    await run_worker(job, deadline_s)


async def make_renditions(
    path: Path,
    out: Path,
    name: str,
    label: str,
    rungs: Sequence[Rung],
    deadline_s: float,
    progress: Progress | None = None,
) -> tuple[Rendition, ...]:
    """Write what a playable MP4 plays as HLS by: `LABEL.mp4` and `LABEL.m3u8` for each rendition.

    Args:
        path: the MP4.
        out: a directory, which is there; when it fails or is cancelled, the caller clears it.
        name: of the video in its courseware; playlists name files after it.
        label: of the rendition with its own streams.
        rungs: smaller pictures to make.
        deadline_s: it may take so long.
        progress: told of the bytes read.

    Raises:
        InputError: bad data; or it took longer than the deadline.
        StorageError: environment; `out` cannot be written to.
    """
    job = _job("renditions", path, out, deadline_s, TRANSCODE_MEMORY_BYTES)
    job = msgspec.structs.replace(job, name=name, label=label, rungs=tuple(rungs))
    return (await run_worker(job, deadline_s, progress)).renditions


async def plan_faststart_of_file(path: Path) -> FaststartPlan | None:
    """Plan to move the header of an MP4, which was probed before, to the front; None when it is there.

    Raises:
        InputError: bad data; or the file cannot be read.
    """

    def plan() -> FaststartPlan | None:
        with path.open("rb") as file:
            descriptor = file.fileno()
            return plan_faststart(lambda at, count: os.pread(descriptor, count, at), os.fstat(descriptor).st_size)

    try:
        return await asyncio.to_thread(plan)
    except OSError as error:
        raise unreadable(path, error) from error


async def run_worker(
    job: Job, deadline_s: float, progress: Progress | None = None, command: Sequence[str] = WORKER
) -> Finished:
    """Run one job in a process of its own; the process is gone when this returns, however it returns.

    Raises:
        InputError: bad data; also when the process crashed, ran out of a limit or of its time.
        StorageError: environment; the output cannot be written.
    """
    name = job.name or Path(job.path).name
    environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
    environment["MALLOC_ARENA_MAX"] = "2"  # each arena reserves 64 MiB of the limited address space
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        limit=_MAX_LINE_BYTES,
    )
    try:
        async with asyncio.timeout(deadline_s):
            last = await _converse(process, job, progress)
            code = await process.wait()
    except TimeoutError as error:
        raise InputError(
            f"{name}: {job.task} was stopped after {deadline_s:.0f} s",
            zh=f"{name}：处理超过 {deadline_s:.0f} 秒，已中止",
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _conclude(name, job.task, last, code)


def _job(task: str, path: Path, out: Path | None, deadline_s: float, memory_bytes: int) -> Job:
    cpu_s = int(deadline_s * (os.cpu_count() or 1)) + 10
    body = {"task": task, "path": str(path.absolute()), "out": str(out.absolute()) if out else ""}
    return msgspec.convert({**body, "memory_bytes": memory_bytes, "cpu_s": cpu_s}, Job)


async def _run_writer(job: Job, out: Path, deadline_s: float, progress: Progress | None) -> None:
    done = False
    try:
        await run_worker(job, deadline_s, progress)
        done = True
    finally:
        if not done:
            out.unlink(missing_ok=True)


async def _converse(process: asyncio.subprocess.Process, job: Job, progress: Progress | None) -> Message | None:
    """Give the job, hear everything; the last message that is no progress is the answer."""
    if process.stdin is None or process.stdout is None:
        raise YuanjiaoError("the media worker has no pipes")
    last: Message | None = None
    try:
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        await process.stdin.drain()
        while line := await process.stdout.readline():
            message = msgspec.json.decode(line, type=Message)
            if not isinstance(message, Advanced):
                last = message
            elif progress is not None:
                progress(job.task, message.done, message.total)
    except (ConnectionError, ValueError, msgspec.DecodeError):
        # A worker that was taken over or is dying talks nonsense; its exit tells the rest.
        process.kill()
        return None
    return last


def _conclude(name: str, task: str, last: Message | None, code: int) -> Finished:
    match last:
        case Finished() if code == 0:
            return last
        case Refused(message=message, zh=zh, hint=hint, hint_zh=hint_zh):
            raise InputError(f"{name}: {message}", zh=f"{name}：{zh}", hint=hint, hint_zh=hint_zh)
        case Unstored(code=number, message=message):
            family = StorageFullError if number in {errno.ENOSPC, errno.EDQUOT} else StorageError
            raise family(f"{name}: {task} cannot write: {message}", zh=f"{name}：写入失败（{message}）")
        case Broken(message=message):
            fault = YuanjiaoError(f"{name}: the media worker failed: {message.splitlines()[-1]}")
            fault.add_note(message)  # its traceback, for --debug
            raise fault
    ended = signal.Signals(-code).name if code < 0 else f"exit {code}"
    raise InputError(
        f"{name}: the media library could not survive this file ({ended})",
        zh=f"{name}：解析该文件时媒体库异常退出（{ended}），文件可能已损坏，拒绝处理",
    )
