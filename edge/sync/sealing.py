"""Reports that leave by hand and not by line: signed here, carried on a medium. Blocking; callers use a thread."""

from __future__ import annotations

from edge.paths import Paths
from edge.report.outbox import MOST_BYTES, MOST_ROWS, Outbox
from edge.report.signer import read_signer
from edge.report.watcher import tell_watching
from edge.sync.report import SyncReport
from edge.sync.telling import Teller, noted_report
from manifests.bundle import Bundle
from manifests.reports import Envelope, make_report


def seal_state(teller: Teller, paths: Paths, bundle: Bundle) -> Envelope:
    """The state with all that is held and begun, under a number of its own.

    Raises:
        ConfigurationError: bad data; the key or a setting cannot be used.
        StorageError: environment.
    """
    now = teller.clock()
    state = teller.state(noted_report(teller.library), whole=True)
    with Outbox.open(paths.outbox, now) as outbox:
        number, after = outbox.reserve(), outbox.received
    return read_signer(paths, bundle).sign(make_report(bundle.region, number, "state", now, state, after=after))


def seal_waiting(teller: Teller, paths: Paths, bundle: Bundle, report: SyncReport | None) -> list[Envelope]:
    """Put what is new after a run into the outbox, and sign everything that waits there; it goes on waiting.

    Raises:
        ConfigurationError: bad data; the key or a setting cannot be used.
        StorageError: environment.
    """
    signer = read_signer(paths, bundle)
    with Outbox.open(paths.outbox, teller.clock()) as outbox:
        if report is not None:
            teller.tell(outbox, report)
        tell_watching(outbox, paths.watching, teller.clock())
        waiting = outbox.unsent(MOST_ROWS, MOST_BYTES)
    return [
        signer.sign(make_report(bundle.region, one.number, one.kind, one.at, one.body, after=one.after))
        for one in waiting
    ]
