"""The settings of filling on demand."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from manifests.settings import row


class Fill(Struct, frozen=True):
    """What a terminal asks for and is not here."""

    enabled: Annotated[
        bool,
        row(
            "fetch what a terminal asks for and is not here, while it plays",
            "终端点播本机没有的课件时，边取边播",
        ),
    ] = True
    ahead_bytes: Annotated[
        int,
        row(
            "most that is fetched ahead of a viewer; the window grows to it while somebody watches",
            "边取边播时最多预取的字节数，持续观看时逐步增至此值",
            unit="B",
            ge=0,
            le=1 << 30,
        ),
    ] = 8 << 20
    wait_s: Annotated[
        float,
        row(
            "a terminal waits so long for its next bytes before its answer is broken off, or refused if not begun",
            "终端等待后续内容的时限，超时即中断应答（未开始的应答则返回 503）",
            unit="s",
            ge=1,
            le=600,
        ),
    ] = 20.0
    requests_in_flight: Annotated[
        int,
        row("range requests for viewers in flight at once", "为终端点播同时向上游发出的区间请求数上限", ge=2, le=64),
    ] = 6
    bypass_bytes: Annotated[
        int,
        row(
            "memory, in each process, for what is passed through because the disk has no room for it",
            "磁盘无空间时直通终端所用的内存上限（每个进程）",
            unit="B",
            ge=1 << 20,
            le=1 << 36,
        ),
    ] = 64 << 20
