"""Keeping signatures alive while the origin serves: look about hourly, sign what is due, never give up."""

from __future__ import annotations

import asyncio

import structlog

from manifests.errors import YuanjiaoError
from origin.metrics import Metrics
from origin.publish.release import Releases

log = structlog.get_logger(__name__)


async def keep_renewed(releases: Releases, metrics: Metrics, every_s: float) -> None:
    """Renew now and then every `every_s`, until cancelled. A fault is logged when it is new, and tried again."""
    last_fault = ""
    while True:
        try:
            outcome = "renewed" if await releases.renew() else "kept"
            fault = ""
        except YuanjiaoError as error:
            outcome, fault = "failed", error.message
        except Exception as error:  # noqa: BLE001 - whatever it is, blobs must still be served; the metric tells
            outcome, fault = "failed", repr(error)
        metrics.count("renewals", outcome=outcome)
        if fault and fault != last_fault:
            log.error("renewal_failed", reason=fault)
        elif last_fault and not fault:
            log.info("renewal_works_again")
        if outcome == "renewed":
            log.info("timestamp_renewed")
        last_fault = fault
        await asyncio.sleep(every_s)
