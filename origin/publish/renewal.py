"""What goes on while the origin serves: signatures that are due are renewed, broken-off uploads are given up."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from manifests.errors import YuanjiaoError
from origin.metrics import Metrics
from origin.publish.release import Releases
from origin.storage.base import BlobStorage

SWEEP_S: Final = 6 * 3600.0

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


async def keep_swept(storage: BlobStorage) -> None:
    """Give up old uploads now and then every six hours, until cancelled."""
    while True:
        try:
            count = await storage.sweep()
        except YuanjiaoError as error:
            log.warning("sweep_failed", reason=error.message)
        else:
            if count:
                log.info("uploads_given_up", count=count)
        await asyncio.sleep(SWEEP_S)
