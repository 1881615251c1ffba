"""Answer "why not here?" from what is on the disk: the newest catalog, the last run's report. Asks nobody."""

from __future__ import annotations

from datetime import tzinfo

from edge.store.blobs import BlobStore
from edge.store.eviction import EvictionLimits
from edge.store.library import Library
from edge.store.usage import Usage
from edge.sync.offered import installed_offering
from edge.sync.planner import plan_sync
from edge.sync.promise import promise_plan
from edge.sync.report import REPORT_NOTE
from edge.sync.stocktaking import take_stock
from edge.sync.wanting import Wanted
from edge.sync.whynot import WhyNot, failures_of, why_not
from manifests.instants import Instant
from manifests.line import Line


def explain(
    store: BlobStore,
    library: Library,
    usage: Usage,
    wanted: Wanted,
    line: Line,
    zone: tzinfo,
    now: Instant,
    *,
    room: EvictionLimits,
    at_once: int,
) -> tuple[WhyNot, ...]:
    """Explain every lesson of the newest installed catalogs that is not here; empty before the first sync.

    Blocks for as long as reading a catalog takes (about a second for fifty thousand lessons).

    Raises:
        StorageError: environment; the catalog's blob is damaged.
    """
    catalog = installed_offering(store, library, wanted.region)
    if catalog is None:
        return ()
    here = take_stock(store, library, usage, catalog, room, now)
    plan = promise_plan(plan_sync(here, catalog, wanted, now), line, zone, now, at_once=at_once)
    return why_not(catalog, plan, here.versions, wanted, failures_of(library.get_meta(REPORT_NOTE)), now, zone)
