"""What goes on while the origin serves: signatures that are due are renewed, broken-off uploads are given up."""

from __future__ import annotations

from typing import Final

import structlog

from origin.chores import keep_doing
from origin.metrics import Metrics
from origin.publish.release import Releases
from origin.storage.base import BlobStorage

SWEEP_S: Final = 6 * 3600.0

log = structlog.get_logger(__name__)


async def keep_renewed(releases: Releases, metrics: Metrics, every_s: float) -> None:
    """Renew now and then every `every_s`, until cancelled."""

    async def renew() -> None:
        is_new = await releases.renew()
        metrics.count("renewals", outcome="renewed" if is_new else "kept")
        if is_new:
            log.info("timestamp_renewed")

    await keep_doing("renewal", renew, every_s, failed=lambda: metrics.count("renewals", outcome="failed"))


async def keep_swept(storage: BlobStorage) -> None:
    """Give up what broken-off uploads left in the store, now and then every six hours, until cancelled."""

    async def sweep() -> None:
        count = await storage.sweep()
        if count:
            log.info("uploads_given_up", count=count)

    await keep_doing("sweep", sweep, SWEEP_S)
