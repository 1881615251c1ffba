"""What arrives from an upstream, and how it is counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from edge.reasons import UpstreamReason, current_reason

# Told of every byte of body as it arrives, and why it was asked for.
Count = Callable[[UpstreamReason, int], None]


@dataclass(slots=True)
class Traffic:
    """What one upstream sent: requests made, and every byte of body received, wasted ones included.

    Attributes:
        by_reason: the same bytes by why they were asked for.
    """

    requests: int = 0
    bytes_received: int = 0
    by_reason: dict[UpstreamReason, int] = field(default_factory=dict)

    def receive(self, count: int) -> UpstreamReason:
        """Count bytes under the reason of the running task, and give it."""
        reason = current_reason()
        self.bytes_received += count
        self.by_reason[reason] = self.by_reason.get(reason, 0) + count
        return reason


@dataclass(slots=True)
class Body:
    """The half-open byte range `start` to `stop` of a resource of `total` bytes, as it arrives.

    `filled` counts the bytes that are here; it stays true when the transfer breaks off.
    """

    start: int
    stop: int
    total: int
    buffer: bytearray = field(init=False)
    filled: int = 0

    def __post_init__(self) -> None:
        self.buffer = bytearray(self.stop - self.start)

    @property
    def is_whole(self) -> bool:
        """Tell whether the range is the whole resource, so that a plain request will do."""
        return self.start == 0 and self.stop == self.total


Arrived = Callable[[Body], Awaitable[None]]
