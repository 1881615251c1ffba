"""After a run: put what is new into the outbox, then try to send it. Nothing here may spoil what the run has done."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import structlog

from edge.paths import Paths
from edge.report.outbox import Outbox
from edge.report.sender import Sender, Sent, send_within
from edge.report.signer import read_signer
from edge.report.watcher import tell_watching
from edge.store.locks import FileLock
from edge.sync.report import SyncReport
from edge.sync.telling import Teller
from edge.threads import run_to_end
from edge.upstream.client import open_upstreams
from edge.upstream.progress import Limits
from manifests.bundle import Bundle
from manifests.errors import YuanjiaoError

# Of all requests together, in deadlines of one: a month's backlog on a thin line goes on at the next run.
_SESSIONS = 2

log = structlog.get_logger(__name__)


async def tell_province(
    teller: Teller,
    paths: Paths,
    bundle: Bundle,
    urls: Sequence[str],
    limits: Limits,
    report: SyncReport | None,
) -> Sent:
    """Tell what is new and send what waits.

    Args:
        teller: what can tell of this edge.
        paths: where outbox and key are.
        bundle: names the key.
        urls: who may take reports, most preferred first.
        limits: of the connections.
        report: of the run that has ended; None to send what waits already.

    Returns:
        What was confirmed, and why the rest waits: failures are told there and logged, not raised.
    """
    try:
        with FileLock(paths.outbox_lock), await run_to_end(Outbox.open, paths.outbox, teller.clock()) as outbox:
            if report is not None:
                await run_to_end(teller.tell, outbox, report)
            await run_to_end(tell_watching, outbox, paths.watching, teller.clock())
            signer = await run_to_end(read_signer, paths, bundle)
            settings = teller.settings.report
            refill = partial(teller.refill, outbox)
            sender = Sender(outbox, signer, bundle.region, refill, 2 * limits.answer_s, settings.timeout_s)
            async with open_upstreams(tuple(urls), limits, teller.settings.upstream.ca_file) as upstreams:
                sent = await send_within(sender, upstreams, teller.clock(), _SESSIONS * settings.timeout_s)
    except YuanjiaoError as error:
        log.warning("reports_not_sent", reason=error.message)
        return Sent(error=error.message, error_zh=error.zh)
    if sent.error:
        log.info("reports_wait", waiting=sent.waiting, reason=sent.error)
    return sent
