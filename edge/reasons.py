"""Why a byte crossed the line from an upstream: every one is counted under exactly one of these."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum


class UpstreamReason(StrEnum):
    """The value is the label in metrics and reports. Signed lists and catalogs are planned, like what they announce."""

    PLANNED = "planned"
    NOT_PLANNED = "not_planned"
    EVICTED = "evicted"
    DAMAGED = "damaged"
    NEW_VERSION = "new_version"
    LIVE = "live"
    BYPASS = "bypass"

    @property
    def zh(self) -> str:
        """For people."""
        return _ZH[self]

    @property
    def en(self) -> str:
        """For people."""
        return _EN[self]


_ZH = {
    UpstreamReason.PLANNED: "计划内（目录与新课件）",
    UpstreamReason.NOT_PLANNED: "终端点播，本机未计划",
    UpstreamReason.EVICTED: "曾有，已被淘汰",
    UpstreamReason.DAMAGED: "本地损坏或缺失",
    UpstreamReason.NEW_VERSION: "课件有新版本",
    UpstreamReason.LIVE: "直播",
    UpstreamReason.BYPASS: "直通终端，未保存",
}
_EN = {
    UpstreamReason.PLANNED: "planned (catalogs and new lessons)",
    UpstreamReason.NOT_PLANNED: "asked for by a terminal, not planned here",
    UpstreamReason.EVICTED: "was here, evicted",
    UpstreamReason.DAMAGED: "damaged or lost here",
    UpstreamReason.NEW_VERSION: "a new version of a lesson",
    UpstreamReason.LIVE: "live",
    UpstreamReason.BYPASS: "passed through to a terminal, not kept",
}

# Between whoever knows the reason (a plan) and whoever counts (one read of a socket) lie six calls and several tasks;
# a task inherits the reason of the one that started it, so none is counted under two.
_CURRENT = ContextVar("upstream_reason", default=UpstreamReason.PLANNED)


def current_reason() -> UpstreamReason:
    """The reason of what this task fetches."""
    return _CURRENT.get()


@contextmanager
def because(reason: UpstreamReason) -> Iterator[None]:
    """Count what is fetched in this block, by this task and those that it starts, under `reason`."""
    token = _CURRENT.set(reason)
    try:
        yield
    finally:
        _CURRENT.reset(token)
