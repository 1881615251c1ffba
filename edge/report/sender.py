"""Bringing what waits in the outbox to the origin: in order, in portions, each signed as it leaves.

    ask (a new outbox only) → portion → POST → received → next portion … → a full inventory when the origin wants one

Whoever is asked may be an edge, which takes no reports: then the next upstream is. What cannot be sent stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import structlog

from edge.report.outbox import Outbox, Waiting
from edge.report.watcher import KINDS_NOTE
from edge.threads import run_to_end
from edge.upstream.client import Upstream
from manifests.errors import FormatError, TransferError
from manifests.instants import Instant
from manifests.reports import (
    MAX_ANSWER_BYTES,
    MAX_BATCH,
    REPORTS_PATH,
    Answer,
    Envelope,
    decode_answer,
    encode_envelopes,
    make_report,
)
from manifests.signing import Signer

PORTION_BYTES = 256 * 1024
# An upstream that takes no reports is asked again after so long: it may have become an origin.
NOT_HERE_S = 3600
_THIN_BYTES_PER_S = 16 * 1024
_NOT_HERE_NOTE = "not_here"
# Numbers rise by one per report and begin at the hour of an outbox's making: an answer so far above is a lie.
_FARTHEST = 1 << 32

log = structlog.get_logger(__name__)


class NotHereError(TransferError):
    """This upstream takes no reports (404 or 405): it is an edge, or an origin of an older version."""


class RefusedError(TransferError):
    """The origin does not take reports of this edge."""

    default_hint = (
        "tell the origin this edge's public key with `yuanjiao origin accept-key`; reports are kept until then"
    )
    default_hint_zh = "请在源站用 `yuanjiao origin accept-key` 登记本机公钥；在此之前上报内容会保留"


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of sending.

    Attributes:
        reports: how many the origin has confirmed.
        waiting: how many wait still.
        error, error_zh: why they wait; empty when none does.
    """

    reports: int = 0
    waiting: int = 0
    error: str = ""
    error_zh: str = ""


@dataclass(frozen=True, slots=True)
class Sender:
    """What sending needs.

    Attributes:
        refill: puts a full inventory into the outbox; blocking.
        answer_s: an answer may take so long, beside the time that sending takes on a thin line.
        request_s: and all of one request no longer than this.
    """

    outbox: Outbox
    signer: Signer
    region: str
    refill: Callable[[], None]
    answer_s: float
    request_s: float

    async def send(self, upstreams: Sequence[Upstream], now: Instant) -> Sent:
        """Send what waits to the first upstream that takes it. Failures are told, not raised.

        Raises:
            StorageError: environment; the outbox cannot be read or written.
        """
        waiting = await run_to_end(self.outbox.count_unsent)
        if not waiting:
            return Sent()
        away = self._not_here(now)
        confirmed = 0
        failed: TransferError | None = None
        for upstream in upstreams:
            if upstream.url in away:
                continue
            before = await run_to_end(self.outbox.count_unsent)
            try:
                await self._send_all(upstream)
                failed = None
            except NotHereError as error:
                away[upstream.url] = Instant(now + NOT_HERE_S)
                await run_to_end(self.outbox.set_note, _NOT_HERE_NOTE, away)
                failed = failed or error
                continue
            except TransferError as error:
                failed = error
            left = await run_to_end(self.outbox.count_unsent)
            confirmed += max(0, before - left)
            if failed is None:
                return Sent(confirmed, left)
        left = await run_to_end(self.outbox.count_unsent)
        if failed is None:
            return Sent(confirmed, left, "no upstream takes reports", "没有可接收上报的上游")
        return Sent(confirmed, left, failed.message, failed.zh)

    async def _send_all(self, upstream: Upstream) -> None:
        """Send until nothing waits.

        Raises:
            NotHereError: environment; this one takes no reports.
            RefusedError: environment; it does not take those of this edge.
            TransferError: environment; it cannot be reached, or says something else.
        """
        if self.outbox.must_ask:
            await self._ask(upstream)
        most, refilled, idle = MAX_BATCH, False, 0
        while True:
            received = self.outbox.received
            portion, data = await run_to_end(self._portion, most)
            if not portion:
                return
            status, body = await self._exchange(upstream, REPORTS_PATH, data)
            if status in {400, 413}:
                most = await self._narrow(portion)
                continue
            answer = self._read(upstream, status, body)
            await run_to_end(self.outbox.acknowledge, answer.received)
            await run_to_end(self._note_kinds, answer)
            if (answer.want_full or await run_to_end(self._wants_full)) and not refilled:
                refilled = True
                await run_to_end(self._refill)
            idle = 0 if self.outbox.received > received else idle + 1
            if idle > 2:
                raise self._odd(upstream, f"it stays at {answer.received}")

    async def _ask(self, upstream: Upstream) -> None:
        path = f"{REPORTS_PATH}?key={quote(self.signer.key_id, safe='')}"
        status, body = await self._exchange(upstream, path, None)
        answer = self._read(upstream, status, body)
        await run_to_end(self.outbox.start_above, answer.received)
        await run_to_end(self._note_kinds, answer)

    async def _exchange(self, upstream: Upstream, path: str, data: bytes | None) -> tuple[int, bytes]:
        total_s = min(self.answer_s + len(data or b"") / _THIN_BYTES_PER_S, self.request_s)
        return await upstream.exchange(path, data, MAX_ANSWER_BYTES, total_s)

    async def _narrow(self, portion: Sequence[Waiting]) -> int:
        """The origin cannot read one of these: find it by sending one at a time, and give up that one alone."""
        if len(portion) == 1:
            log.error("report_given_up", number=portion[0].number, kind=portion[0].kind)
            await run_to_end(self.outbox.discard, portion[0].number)
        return 1

    def _read(self, upstream: Upstream, status: int, body: bytes) -> Answer:
        if status in {404, 405}:
            raise NotHereError(f"{upstream.url} takes no reports", zh=f"上游 {upstream.url} 不接收上报")
        if status == 403:
            raise RefusedError(
                f"{upstream.url} does not take reports signed by key {self.signer.key_id}",
                zh=f"源站 {upstream.url} 不接受密钥 {self.signer.key_id} 签名的上报",
            )
        if status != 200:
            raise self._odd(upstream, f"status {status}")
        try:
            answer = decode_answer(body)
        except FormatError as error:
            raise self._odd(upstream, error.message) from error
        if answer.received > self.outbox.highest + _FARTHEST:
            raise self._odd(upstream, f"number {answer.received}")
        return answer

    def _portion(self, most: int) -> tuple[list[Waiting], bytes]:
        waiting = self.outbox.unsent(most, PORTION_BYTES)
        return waiting, encode_envelopes([self._sign(one) for one in waiting])

    def _sign(self, one: Waiting) -> Envelope:
        return self.signer.sign(make_report(self.region, one.number, one.kind, one.at, one.body, after=one.after))

    def _note_kinds(self, answer: Answer) -> None:
        """What an older origin does not take is not put into the outbox: it would refuse the whole batch."""
        kinds = list(answer.kinds)
        if self.outbox.note(KINDS_NOTE) != kinds:
            self.outbox.set_note(KINDS_NOTE, kinds)

    def _wants_full(self) -> bool:
        return bool(self.outbox.note("want_full"))

    def _refill(self) -> None:
        self.outbox.want_full()
        self.refill()

    def _not_here(self, now: Instant) -> dict[str, Instant]:
        """Upstreams that take no reports, until when; a clock that jumped can only shorten that."""
        note = self.outbox.note(_NOT_HERE_NOTE)
        if not isinstance(note, dict):
            return {}
        return {url: Instant(until) for url, until in note.items() if 0 < until - now <= NOT_HERE_S}

    def _odd(self, upstream: Upstream, what: str) -> TransferError:
        return TransferError(f"{upstream.url}{REPORTS_PATH}: {what}", zh=f"上游 {upstream.url} 的上报应答异常")


async def send_within(sender: Sender, upstreams: Sequence[Upstream], now: Instant, total_s: float) -> Sent:
    """Send, but not for longer than `total_s`: what is left waits for the next time."""
    try:
        async with asyncio.timeout(total_s):
            return await sender.send(upstreams, now)
    except TimeoutError:
        left = await run_to_end(sender.outbox.count_unsent)
        return Sent(0, left, "the time for sending reports is over", "上报时间已到，其余稍后再报")
