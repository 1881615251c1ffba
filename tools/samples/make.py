"""The demo's courseware, made on the spot: three lessons, an article, a leaflet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.samples.article import write_article
from tools.samples.clip import Progress, Scene, cut_beginning, record
from tools.samples.greenhouse import SECONDS as GREENHOUSE_S
from tools.samples.greenhouse import Greenhouse
from tools.samples.leaflet import write_leaflet
from tools.samples.ledger import SECONDS as LEDGER_S
from tools.samples.ledger import Ledger
from tools.samples.wheat import SECONDS as WHEAT_S
from tools.samples.wheat import TITLE_S, WheatField

PLANTING, VILLAGE = "种植技术", "村务与电商"


@dataclass(frozen=True, slots=True)
class Sample:
    """One courseware to publish.

    Attributes:
        files: what to hand in, the main file first.
        revised: the same lesson's later edition; empty when there is none.
    """

    id: str
    title: str
    column: str
    summary: str
    kind: Literal["video", "article", "document"]
    files: tuple[Path, ...]
    revised: tuple[Path, ...] = ()


def make_samples(directory: Path, progress: Progress) -> tuple[Sample, ...]:
    """Make all samples in `directory`, which exists; takes some ten seconds of one core.

    Equal every time, so a second demo finds its blobs again.
    """
    wheat, cut = directory / "冬小麦田间管理.mp4", directory / "修订版" / "冬小麦田间管理.mp4"
    greenhouse, ledger = directory / "大棚蔬菜种植.mp4", directory / "村级财务管理.mp4"
    leaflet = directory / "小麦病虫害防治明白纸.pdf"
    record(Scene("冬小麦田间管理", WHEAT_S, 12, 2_300_000, 0, WheatField().draw), wheat, progress)
    cut.parent.mkdir(exist_ok=True)
    cut_beginning(wheat, cut, TITLE_S)
    record(Scene("大棚蔬菜种植", GREENHOUSE_S, 12, 500_000, 3, Greenhouse().draw), greenhouse, progress)
    record(Scene("村级财务管理", LEDGER_S, 12, 400_000, 6, Ledger().draw), ledger, progress)
    write_leaflet(leaflet)
    return (
        Sample(
            "kj-dongxiaomai",
            "冬小麦田间管理：从播种到收获",
            PLANTING,
            "跟着季节走一遍麦田：播种、越冬、返青、拔节、抽穗、成熟，每个时期看什么、做什么。",
            "video",
            (wheat,),
            (cut,),
        ),
        Sample(
            "kj-dapengshucai",
            "大棚蔬菜种植：番茄的温度与水分",
            PLANTING,
            "大棚番茄从定植到转红：棚温怎样控、滴灌怎样开、湿度高了怎么办。",
            "video",
            (greenhouse,),
        ),
        Sample(
            "kj-cunjicaiwu",
            "村级财务管理：收支两本账",
            VILLAGE,
            "收入一本、支出一本，按月公开。用半年的账讲清楚村级财务怎样记、怎样看。",
            "video",
            (ledger,),
        ),
        Sample(
            "kj-dianshang",
            "农产品电商入门：把家乡好货卖出去",
            VILLAGE,
            "选品、打包、发货三步走，附打包对照表和发货时效图。",
            "article",
            write_article(directory),
        ),
        Sample(
            "kj-xiaomaibingchong",
            "小麦病虫害防治明白纸",
            PLANTING,
            "五种常见病虫害看什么、何时防、怎么防，一页纸贴在村头。",
            "document",
            (leaflet,),
        ),
    )
