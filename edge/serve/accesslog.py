"""The access log, off the hot path: a request costs an append, a thread writes the lines.

What waits is bounded. When the thread cannot keep up, or the disk does not take the lines, they are dropped and
counted; serving never waits for its log.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import tzinfo
from pathlib import Path

import structlog

from edge.clock import Clock
from edge.metrics import Cell, Counters
from edge.serve.accessline import Question, Visit, dump_combined, dump_json, moment_of, stamp_of
from edge.serve.logfile import LogBounds, LogFile
from edge.settings_log import Log

Asked = tuple[str, Question, float]
"""Who asked what: client address, question, and when (monotonic seconds)."""

Note = Callable[[Asked, int, int, float], None]
"""Takes who asked what, the status, body bytes sent, and when it ended (monotonic seconds)."""

MOST_WAITING = 8192
PERIOD_S = 0.2
# The writer waits for more until there is so much, or for so long: each call of the system costs it, and the loop
# beside it, more than a hundred lines (measured: twenty writes a second cost the hot path 7 % of its processor time).
WRITE_BYTES = 1024 * 1024
WRITE_S = 1.0
# "The log cannot be written" is said so often at most.
FAULT_LOG_S = 60.0
_CLOSE_DEADLINE_S = 5.0

_Waiting = tuple[float, Asked, int, int]
_log = structlog.get_logger(__name__)


class AccessLog:
    """Takes requests that ended; `note` belongs to the event loop's thread, the rest to the writer's."""

    def __init__(
        self,
        file: LogFile,
        form: str,
        zone: tzinfo,
        counters: Counters,
        clock: Clock,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._file = file
        self._dump: Callable[[Visit, str], str]
        self._stamp: Callable[[int, tzinfo], str]
        self._dump, self._stamp = (dump_json, moment_of) if form == "json" else (dump_combined, stamp_of)
        self._zone = zone
        self._counters = counters
        self._most_waiting = most_waiting
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._fault_at_s = -FAULT_LOG_S
        self._lines: list[str] = []
        self._bytes = 0
        self._written_at_s = -WRITE_S
        self._missed = 0  # counted by the loop's thread
        self._missed_told = 0  # of these, told to the counters by the writer's, which alone writes the cell

    def note(self, asked: Asked, status: int, sent_bytes: int, now_s: float) -> None:
        """Put a request that has ended among those that wait to be written."""
        waiting = self._waiting
        if len(waiting) >= self._most_waiting:
            self._missed += 1
            return
        waiting.append((now_s, asked, status, sent_bytes))

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, within a deadline, and end; blocking."""
        self._ends.set()
        self._thread.join(_CLOSE_DEADLINE_S)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._ends.wait(PERIOD_S)
            try:
                self._dump_waiting()
                if self._lines and (is_last or time.monotonic() - self._written_at_s >= WRITE_S):
                    self._write()
                self._tell_missed()
            except Exception as error:  # noqa: BLE001 - a bug in a line must not end the log of those that follow
                _log.exception("bug", error=str(error))
        self._file.close()

    def _dump_waiting(self) -> None:
        # What is known is when a request ended on the monotonic clock; the wall's is read once for all.
        ahead_s = self._clock() - time.monotonic()
        while self._waiting:
            ended_s, (address, question, began_s), status, sent_bytes = self._waiting.popleft()
            method, target, version, referer, agent = question
            seconds = ended_s - began_s
            visit = Visit(address, method, target, version, status, sent_bytes, seconds, referer, agent)
            line = self._dump(visit, self._stamp(int(ahead_s + ended_s), self._zone))
            self._lines.append(line)
            self._bytes += len(line)
            if self._bytes >= WRITE_BYTES:
                self._write()

    def _write(self) -> None:
        lines, self._lines, self._bytes = self._lines, [], 0
        self._written_at_s = time.monotonic()
        try:
            self._file.write("".join(lines).encode("utf-8"), self._clock())
        except OSError as error:
            self._counters.add(Cell.LOG_DROPPED, len(lines))
            self._warn(error, len(lines), self._written_at_s)

    def _tell_missed(self) -> None:
        missed = self._missed
        if missed > self._missed_told:
            self._counters.add(Cell.LOG_DROPPED, missed - self._missed_told)
            self._missed_told = missed

    def _warn(self, error: OSError, lines: int, now_s: float) -> None:
        if now_s - self._fault_at_s >= FAULT_LOG_S:
            self._fault_at_s = now_s
            _log.warning("access_log_not_written", reason=error.strerror or str(error), lines=lines)


@asynccontextmanager
async def logging_access(
    settings: Log, folder: Path, zone: tzinfo, counters: Counters, clock: Clock
) -> AsyncIterator[Note | None]:
    """Keep the access log during the block; gives what takes requests that ended, None when it is switched off.

    Args:
        settings: of this edge.
        folder: where it lies when the settings name no other; a relative one stands beside it.
        zone: the county's, for its times.
        counters: this process's.
        clock: wall clock.
    """
    if settings.access == "off":
        yield None
        return
    bounds = LogBounds(settings.max_bytes, settings.keep_days)
    file = LogFile(folder.parent / settings.dir if settings.dir else folder, bounds, zone)
    log = AccessLog(file, settings.access, zone, counters, clock)
    log.start()
    try:
        yield log.note
    finally:
        await asyncio.to_thread(log.close)
