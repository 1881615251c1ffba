"""What a batch of reports comes to: where the edge stands after it, what it holds, what is to be written. Pure.

    number ≤ received        had it: skip
    after > received         one is lost on the way: stop here, the edge sends again from `received` — unless this is
                             a full inventory, which needs nothing before it
    inventories              applied one after the other; the last one's digest decides for all of them

An edge's word about its own clock is taken, but nothing happened later than now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

from manifests.instants import Instant, parse_instant
from manifests.reports import Body, Inventory, Report, Run, State, Watched, inventory_digest


class Holding(NamedTuple):
    """One courseware that an edge holds, and since when."""

    version: int
    since: Instant


class Opened(NamedTuple):
    """A report whose signature was checked, with its body."""

    report: Report
    body: Body


class Receipt(NamedTuple):
    """A recalled courseware proved gone."""

    courseware: str
    version: int
    gone_at: Instant


@dataclass(slots=True)
class Folded:
    """The outcome of a batch.

    Attributes:
        received: all numbers up to here are kept now.
        held: everything that the edge holds after it; None when the batch does not change that.
        inventory: the newest inventory that was applied, with its number and instant.
        want_full: an inventory could not be built upon, or one is still owed.
        applied, repeated: reports taken, and reports that were known.
        newest_at: the latest instant of what was taken.
    """

    received: int
    want_full: bool
    held: dict[str, Holding] | None = None
    inventory: tuple[int, Instant, Inventory] | None = None
    receipts: list[Receipt] = field(default_factory=list)
    runs: list[tuple[int, Instant, Run]] = field(default_factory=list)
    state: tuple[int, Instant, State] | None = None
    watched: list[Watched] = field(default_factory=list)
    applied: int = 0
    repeated: int = 0
    newest_at: int = 0


def fold(received: int, want_full: bool, held: Mapping[str, Holding], batch: Sequence[Opened], now: Instant) -> Folded:
    """Take a batch in.

    Args:
        received: where the edge stands before.
        want_full: a full inventory is owed since an earlier batch.
        held: what the edge held before.
        batch: in the order in which it was sent.
        now: the origin's clock.
    """
    out = Folded(received, want_full)
    draft = dict(held)
    for report, body in batch:
        if report.number <= out.received:
            out.repeated += 1
            continue
        is_full = isinstance(body, Inventory) and body.base == 0
        if report.after > out.received and not is_full:
            break
        at = Instant(min(parse_instant(report.at), now))
        out.received = report.number
        out.applied += 1
        out.newest_at = max(out.newest_at, at)
        match body:
            case Run():
                out.runs.append((report.number, at, body))
            case State():
                out.state = (report.number, at, body)
            case Watched():
                out.watched.append(body)
            case Inventory():
                draft = _apply(draft, body, at)
                out.inventory = (report.number, at, body)
                out.receipts += [Receipt(id_, version, at) for id_, version in body.recalls.items()]
            case _:
                assert_never(body)
    if out.inventory is not None:
        _settle(out, draft, out.inventory[2])
    return out


def _settle(out: Folded, draft: dict[str, Holding], last: Inventory) -> None:
    digest = inventory_digest({id_: one.version for id_, one in draft.items()})
    out.want_full = digest != last.digest or len(draft) != last.count
    if out.want_full:
        out.inventory, out.receipts = None, []
    else:
        out.held = draft


def _apply(held: dict[str, Holding], body: Inventory, at: Instant) -> dict[str, Holding]:
    """Courseware that was held before at the same version keeps its instant."""
    after = {} if body.base == 0 else held
    for id_ in body.gone:
        after.pop(id_, None)
    for id_, version in body.held.items():
        before = held.get(id_)
        after[id_] = before if before is not None and before.version == version else Holding(version, at)
    return after
