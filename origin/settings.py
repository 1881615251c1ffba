"""All settings of an origin: name, default, unit, limits, help. `manifests.settings` reads them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from manifests.settings import row

Url = Annotated[str, Meta(max_length=300)]


class Publisher(Struct, frozen=True):
    """Who publishes."""

    region: Annotated[
        str,
        row(
            "GB/T 2260 code of the publisher; fixed at init",
            "发布方行政区划代码，初始化后不再更改",
            pattern=r"^[1-9][0-9]{5}\Z",
        ),
    ] = "410000"
    name: Annotated[str, row("name shown on the status page", "状态页上显示的名称", max_length=60)] = "省级源站"
    upstreams: Annotated[
        tuple[Url, ...],
        row("base addresses written into bundles when none is given", "开通文件中默认写入的上游地址", max_length=16),
    ] = ()


class Database(Struct, frozen=True):
    """Where library, versions and stations are kept."""

    url: Annotated[
        str,
        row(
            "SQLAlchemy address of the database; empty: origin.sqlite in the directory",
            "数据库地址（SQLAlchemy 格式），留空则用目录内的 origin.sqlite",
            max_length=500,
        ),
    ] = ""


class Serve(Struct, frozen=True):
    """The HTTP side."""

    host: Annotated[str, row("address to listen on", "监听地址", min_length=1, max_length=255)] = "0.0.0.0"  # noqa: S104 - edges come from other machines
    port: Annotated[int, row("TCP port to listen on", "监听端口", ge=0, le=65535)] = 8080
    keepalive_s: Annotated[
        float, row("idle connections are closed after", "空闲连接保持时间", unit="s", ge=1, le=3600)
    ] = 75.0
    stall_s: Annotated[
        float,
        row(
            "a client that takes no byte for so long is cut off", "客户端多久不接收数据即断开", unit="s", ge=1, le=3600
        ),
    ] = 60.0
    shutdown_s: Annotated[
        float, row("at stop, running answers get so long to end", "停止时等待进行中应答的时间", unit="s", ge=0, le=600)
    ] = 10.0
    access_log: Annotated[bool, row("log every request, among the other events", "在运行日志中记录每个请求")] = False
    renew_minutes: Annotated[
        int,
        row("how often signatures due for renewal are looked for", "检查并续签时间戳的间隔", unit="min", ge=1, le=720),
    ] = 60


class Publish(Struct, frozen=True):
    """From a file to a blob."""

    patch_max_ratio: Annotated[
        float,
        row(
            "a patch larger than this share of the new file is not kept",
            "补丁超过新文件的这一比例则不采用",
            ge=0.0,
            le=1.0,
        ),
    ] = 0.5
    patch_versions: Annotated[
        int, row("how many earlier versions get a patch to the new one", "为之前多少个版本制作补丁", ge=0, le=16)
    ] = 3
    probe_deadline_s: Annotated[
        float, row("reading a file's headers may take", "识别文件的时限", unit="s", ge=1, le=3600)
    ] = 60.0
    transcode_deadline_s: Annotated[
        float, row("transcoding one file may take", "单个文件转码的时限", unit="s", ge=1, le=604800)
    ] = 14400.0
    lock_deadline_s: Annotated[
        float,
        row("how long to wait for another publish to end", "等待另一个发布任务结束的时限", unit="s", ge=0, le=86400),
    ] = 600.0


class Trust(Struct, frozen=True):
    """How long signatures are valid."""

    timestamp_hours: Annotated[
        int,
        row(
            "validity of the timestamp: the longest freeze",
            "时间戳有效期（冻结攻击的最长窗口）",
            unit="h",
            ge=1,
            le=720,
        ),
    ] = 24
    snapshot_days: Annotated[int, row("validity of the snapshot", "快照有效期", unit="d", ge=1, le=365)] = 30
    targets_days: Annotated[int, row("validity of the targets", "目标清单有效期", unit="d", ge=1, le=3650)] = 365
    root_days: Annotated[int, row("validity of the root", "根有效期", unit="d", ge=30, le=7300)] = 3650


class CatalogSettings(Struct, frozen=True):
    """The catalog."""

    patches: Annotated[
        int, row("how many recent catalogs get a patch to the new one", "为最近多少个目录制作补丁", ge=0, le=16)
    ] = 5


class Reports(Struct, frozen=True):
    """What edges report."""

    run_days: Annotated[
        int, row("outcomes of edges' sync runs are kept for", "保留各边缘同步记录的天数", unit="d", ge=1, le=3650)
    ] = 90


class Settings(Struct, frozen=True):
    """All sections of origin.toml."""

    publisher: Publisher = Publisher()
    database: Database = Database()
    serve: Serve = Serve()
    publish: Publish = Publish()
    trust: Trust = Trust()
    catalog: CatalogSettings = CatalogSettings()
    reports: Reports = Reports()
