"""Whether a disk decays, judged from the last scrubs. Pure: records in, a judgement out.

One wrong piece proves little: a power cut can tear one. A sector that cannot be read, or wrong pieces again and again,
say that the disk is wearing out while most of it still reads well: the time to replace it, before lessons are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from manifests.instants import Instant
from manifests.model import MAX_INT

# Judged are so many scrubs; with one a night, that is one pass over the whole disk.
LAST_SCRUBS = 30
# A sound disk is specified for less than one unreadable sector in 12 TB read.
ROTTEN_PER_TB = 1.0
_LEAST_ROTTEN = 2
_TB = 1e12

Count = Annotated[int, Meta(ge=0, le=MAX_INT)]


class ScrubRecord(Struct, frozen=True, omit_defaults=True):
    """What one scrub came to.

    Attributes:
        bytes_read: bytes compared with their record.
        rotten: pieces found that could be read and were not what was stored; those known before are not counted.
        unreadable: pieces found of which a sector could not be read.
        repaired: pieces that are good again.
    """

    at: Instant
    bytes_read: Count
    rotten: Count = 0
    unreadable: Count = 0
    repaired: Count = 0


class Fault(Struct, frozen=True):
    """What an operator should know: a stable code and a sentence in both languages."""

    code: str
    zh: str
    en: str


def judge_decay(records: Sequence[ScrubRecord]) -> tuple[Fault, ...]:
    """Judge the last scrubs, oldest first; empty for a disk that shows no decay.

    Sectors that cannot be read count at once. Wrong pieces count when there are at least two of them and more than
    `ROTTEN_PER_TB` for what was read.
    """
    last = records[-LAST_SCRUBS:]
    count = sum(one.bytes_read for one in last)
    rotten = sum(one.rotten for one in last)
    unreadable = sum(one.unreadable for one in last)
    is_rotting = rotten >= _LEAST_ROTTEN and rotten > ROTTEN_PER_TB * count / _TB
    if not unreadable and not is_rotting:
        return ()
    read_gb = count / 1e9
    return (
        Fault(
            "disk_decays",
            f"存储盘正在老化：最近 {len(last)} 次巡检共读取 {read_gb:.1f} GB，{rotten} 片内容已变、"
            f"{unreadable} 片无法读取，请查看磁盘健康状态（smartctl -a）并尽快更换",
            f"the disk decays: {len(last)} scrubs read {read_gb:.1f} GB, {rotten} pieces had changed and {unreadable} "
            "could not be read; look at its health (smartctl -a) and replace it soon",
        ),
    )
