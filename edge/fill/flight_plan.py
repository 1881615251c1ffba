"""Which pieces to ask for next, in which requests, and which running requests nobody needs any more.

Pure. Pieces that somebody waits for come first, each at the head of its own request; what follows it in the same
request is what comes next anyway. Read-ahead takes what is left of the places, in requests that are worth one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from manifests.pieces import Span


@dataclass(frozen=True, slots=True)
class Places:
    """How many requests may begin now, and how long they may be.

    Attributes:
        urgent: for pieces that somebody waits for.
        ahead: of these, for read-ahead: some are always kept for the next jump.
        most: pieces per request.
    """

    urgent: int
    ahead: int
    most: int


def plan_flights(
    urgent: Sequence[int], ahead: Sequence[int], busy: Collection[int], count: int, places: Places
) -> list[Span]:
    """Requests to begin now, in this order.

    Args:
        urgent: missing pieces that somebody waits for, ascending.
        ahead: missing pieces that come next, ascending.
        busy: pieces that running requests will bring.
        count: pieces of the blob.
        places: room for requests.
    """
    wished = {*urgent, *ahead}.difference(busy)
    taken: set[int] = set()
    spans: list[Span] = []
    for n in urgent:
        if len(spans) >= places.urgent:
            return spans
        if n in wished and n not in taken:
            spans.append(_span_from(n, wished, taken, places.most))
    left = min(places.urgent - len(spans), places.ahead)
    is_idle = not spans and not busy
    for n in ahead:
        if left <= 0:
            break
        if n not in wished or n in taken:
            continue
        span = _span_from(n, wished, taken, places.most)
        if is_idle or not _grows(span, ahead[-1], count, places.most):
            spans.append(span)
            left -= 1
            is_idle = False
    return spans


def useless(spans: Sequence[tuple[Span, Collection[int]]], wished: Collection[int]) -> list[int]:
    """Which running requests bring nothing that is wished for, and are not nearly done.

    Args:
        spans: each with the pieces that it has not brought yet.
        wished: pieces that somebody waits for or that come next.

    Returns:
        Places in `spans`.
    """
    return [i for i, (_, left) in enumerate(spans) if len(left) > 1 and not any(n in wished for n in left)]


def _span_from(first: int, wished: Collection[int], taken: set[int], most: int) -> Span:
    last = first
    while last + 1 in wished and last + 1 not in taken and last + 1 - first < most:
        last += 1
    taken.update(range(first, last + 1))
    return Span(first, last)


def _grows(span: Span, edge: int, count: int, most: int) -> bool:
    """Whether it stands at the window's edge and will be longer in a moment: a request per piece would be waste."""
    return span.last == edge and edge < count - 1 and len(span.numbers()) < most
