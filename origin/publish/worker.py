"""The media worker: one process per job, `python -m origin.publish.worker`, job and answers as JSON lines.

Media libraries are written in C and read what strangers made. Whatever happens in here, a crash, a loop, a bomb, ends
with this process: its limits are set before the library is loaded, it has no secrets in its environment, and it ends
when the origin does, because its standard input closes then.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
import threading
import time
import traceback
from pathlib import Path

import msgspec

from manifests.errors import InputError
from origin.publish.media_job import Advanced, Broken, Finished, Job, Message, Refused, Unstored

_REPORT_EVERY_S = 0.2
_STORAGE_CODES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
_encoder = msgspec.json.Encoder()


def main() -> None:
    """Take one job from standard input, do it, tell the result on standard output."""
    job = msgspec.json.decode(_read_line(), type=Job)
    _limit(job)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _say(_answer(job))
    # No interpreter shutdown: the library's destructors have nothing to add, and could still crash.
    os._exit(0)


def _answer(job: Job) -> Message:
    try:
        return _do(job)
    except InputError as error:
        return Refused(error.message, error.zh, error.hint, error.hint_zh)
    except MemoryError:
        return Refused("reading it needs more memory than any recording should", "解析该文件所需内存异常，拒绝处理")
    except _OutputError as error:
        return Unstored(error.errno or 0, error.strerror or "")
    except OSError as error:
        # PyAV's errors are also OSErrors; only these numbers speak of the disk that is written to.
        if error.errno in _STORAGE_CODES and job.out:
            return Unstored(error.errno or 0, error.strerror or "")
        return _refuse_unreadable(error)
    except Exception as error:  # noqa: BLE001 - the process border: the origin must be told of whatever it was
        if _is_from_library(error):
            return _refuse_unreadable(error)
        return Broken("".join(traceback.format_exception(error))[-4000:])


def _do(job: Job) -> Finished:
    import av.logging

    av.logging.set_level(av.logging.PANIC)
    path, out = Path(job.path), Path(job.out)
    if job.out and job.task not in {"renditions", "frames"}:
        _open_output(out)
    if job.task == "probe":
        from origin.publish.media_probe import examine

        return Finished(examine(path))
    if job.task == "poster":
        from origin.publish.poster import write_poster

        write_poster(path, out)
        return Finished()
    if job.task == "frames":
        from origin.publish.poster import write_frames

        write_frames(path, out, job.count)
        return Finished()
    os.nice(10)  # serving and signing come first
    if job.task == "renditions":
        from origin.publish.renditions import write_renditions

        return Finished(renditions=tuple(write_renditions(path, job, _Reporter())))
    from origin.publish.transcode import write_playable

    write_playable(path, out, _Reporter())
    return Finished()


class _OutputError(OSError):
    """The output cannot even be opened."""


def _open_output(out: Path) -> None:
    try:
        out.open("wb").close()
    except OSError as error:
        raise _OutputError(error.errno, error.strerror) from error


class _Reporter:
    """Tells progress, but not more often than anybody reads."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _REPORT_EVERY_S or done >= total:
            self._last = now
            _say(Advanced(done, total))


def _is_from_library(error: Exception) -> bool:
    """Damaged files make PyAV raise its own errors, but also stray ones such as IndexError from within."""
    import av

    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, av.error.FFmpegError) or (bool(frames) and frames[-1].filename.startswith("av/"))


def _refuse_unreadable(error: Exception) -> Refused:
    reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return Refused(f"the media library cannot read it: {reason}", "文件无法解析，可能已损坏或格式不受支持")


def _limit(job: Job) -> None:
    limits = [
        (resource.RLIMIT_AS, job.memory_bytes),
        (resource.RLIMIT_CPU, job.cpu_s),
        (resource.RLIMIT_CORE, 0),
    ]
    if not job.out:
        limits.append((resource.RLIMIT_FSIZE, 0))
    for kind, value in limits:
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _end_with_parent() -> None:
    # os.read, because a thread inside a buffered reader would stop the interpreter from ending.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _read_line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)  # one at a time: what follows the line belongs to the watching thread
        if not byte:
            sys.exit(1)
        line += byte
    return bytes(line)


def _say(message: Message) -> None:
    data = _encoder.encode(message) + b"\n"
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
