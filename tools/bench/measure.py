"""Measuring other processes from outside: wall time, processor time, peak memory of the whole process tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests.errors import ConfigurationError

_DEADLINE_S = 1800.0  # a peer that hangs must not hang the bench
_SAMPLE_S = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Bench:
    """What all benchmarks are told.

    Attributes:
        directory: scratch space; everything in it may go.
        rounds: rounds of which the median is taken.
        size_bytes: size of the big file.
    """

    directory: Path
    rounds: int
    size_bytes: int

    def fresh(self, name: str) -> Path:
        """A path below the directory at which nothing is."""
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of a command.

    Attributes:
        cpu_s: processor time of it and of the children that it waited for.
        peak_bytes: highest sum of resident memory over the process tree, sampled every 20 ms.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    out: bytes


def has(program: str) -> bool:
    """Tell whether a peer is installed."""
    return shutil.which(program) is not None


def run_measured(command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Measured:
    """Run a command to its end and measure it.

    Raises:
        ConfigurationError: environment; it failed. A figure of a failed run would mislead.
    """
    began_s = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        watch = _PeakWatch(process.pid)
        deadline = threading.Timer(_DEADLINE_S, process.kill)
        deadline.start()
        errors: list[bytes] = []
        drain = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else b""))
        drain.start()
        out = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began_s
        deadline.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        peak_bytes = watch.stop()
        drain.join()
    if process.returncode != 0:
        tail = b"".join(errors).decode("utf-8", "replace").strip()[-500:]
        raise ConfigurationError(f"bench: {' '.join(command[:6])} failed with {process.returncode}: {tail}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, peak_bytes, out)


class _PeakWatch:
    """Samples the resident memory of a process and all its descendants in a thread."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """End sampling and give the peak."""
        self._ended.set()
        self._thread.join()
        return self._peak_bytes

    def _run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self._peak_bytes = max(self._peak_bytes, _tree_bytes(self._pid))


def _tree_bytes(pid: int) -> int:
    try:
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (OSError, IndexError):
        return 0  # it has just ended
    return resident + sum(_tree_bytes(child) for child in children)
