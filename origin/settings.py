"""All settings of an origin: name, default, unit, limits, help. `manifests.settings` reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from manifests.settings import row

Url = Annotated[str, Meta(max_length=300)]
Rung = Annotated[str, Meta(pattern=r"^[1-9][0-9]{2,3}p:[1-9][0-9]{1,5}k\Z")]


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
    lease_s: Annotated[
        float,
        row(
            "several origins over one server: a publisher that died keeps the others waiting for so long",
            "多个源站进程共用数据库时，发布进程意外退出后其他进程需等待的时间",
            unit="s",
            ge=1,
            le=600,
        ),
    ] = 30.0


class Storage(Struct, frozen=True):
    """Where blobs are kept."""

    kind: Annotated[
        Literal["local", "s3"],
        row("blobs lie in the directory (local) or in a bucket (s3)", "文件存放于本机目录(local)或对象存储桶(s3)"),
    ] = "local"
    bucket: Annotated[str, row("name of the bucket", "存储桶名称", max_length=63)] = ""
    prefix: Annotated[
        str,
        row(
            "stands before every key; its last letter is a slash",
            "对象名前缀，以斜杠结尾",
            max_length=200,
            pattern=r"^([A-Za-z0-9._-]+/)*\Z",
        ),
    ] = ""
    endpoint: Annotated[
        str,
        row("base address of the object store; empty: the region's own at Amazon", "对象存储服务地址", max_length=300),
    ] = ""
    region: Annotated[str, row("the store's region", "对象存储区域", min_length=1, max_length=60)] = "us-east-1"
    addressing: Annotated[
        Literal["auto", "path", "virtual"],
        row("the bucket stands in the path or in the host name (virtual)", "桶名位于路径(path)或主机名(virtual)"),
    ] = "auto"
    profile: Annotated[
        str,
        row("profile with the account; empty: the environment's", "账号配置名，留空则取自环境变量", max_length=100),
    ] = ""
    credentials: Annotated[
        str,
        row(
            "TOML file with access_key and secret_key, of mode 600; relative to the directory; empty: see profile",
            "密钥文件（TOML，含 access_key 和 secret_key，权限 600），相对路径以源站目录为准",
            max_length=500,
        ),
    ] = ""
    part_bytes: Annotated[
        int,
        row(
            "longer blobs are uploaded in parts of so many bytes",
            "分片上传的分片大小",
            unit="byte",
            ge=5 * 1024 * 1024,
            le=512 * 1024 * 1024,
        ),
    ] = 16 * 1024 * 1024
    threads: Annotated[int, row("calls to the object store at a time", "对象存储并发请求数", ge=1, le=64)] = 8
    deadline_s: Annotated[
        float,
        row("one call to the object store may take", "单次对象存储请求的时限", unit="s", ge=1, le=3600),
    ] = 60.0
    attempts: Annotated[int, row("attempts of one call", "单次请求的尝试次数", ge=1, le=10)] = 4
    stale_days: Annotated[
        int,
        row("uploads that nobody finished are given up after", "未完成的上传保留天数", unit="d", ge=1, le=365),
    ] = 7
    redirect_s: Annotated[
        int,
        row(
            "with s3, edges that allow it are sent to the bucket itself by addresses that are good for so long; "
            "0: this server passes all bytes on",
            "使用对象存储时，将允许跳转的边缘服务器直接引向存储桶，签名地址的有效时间；0 表示全部由源站转发",
            unit="s",
            ge=0,
            le=3600,
        ),
    ] = 0
    redirect_endpoint: Annotated[
        str,
        row(
            "base address of the object store as edges reach it; empty: storage.endpoint",
            "边缘服务器访问对象存储所用的地址；留空则同 storage.endpoint",
            max_length=300,
            pattern=r"^(https?://[^\s/?#@]+/?)?\Z",
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
    hls: Annotated[
        bool,
        row(
            "each video also plays as HLS, so that players choose by the bandwidth they have",
            "视频同时提供 HLS，播放器可按带宽切换清晰度",
        ),
    ] = True
    renditions: Annotated[
        tuple[Rung, ...],
        row(
            "smaller pictures beside a video's own, as LINES:kbit/s; made of what has more lines and a higher rate",
            "在原画面之外另制的较小画面，格式为“行数p:码率k”；仅当原视频行数和码率更高时制作",
            max_length=8,
        ),
    ] = ("1080p:4500k", "720p:1800k", "480p:800k")
    renditions_from_s: Annotated[
        float,
        row("shorter videos get no smaller pictures", "短于此时长的视频不另制较小画面", unit="s", ge=0, le=86400),
    ] = 60.0
    renditions_deadline_s: Annotated[
        float,
        row("making the renditions of one video may take", "制作单个视频各清晰度的时限", unit="s", ge=1, le=604800),
    ] = 28800.0
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


class Pilots(Struct, frozen=True):
    """Versions that go to some regions first: when they go on, and when they stop by themselves."""

    enough_percent: Annotated[
        int,
        row(
            "a wave is good when so many of its edges have proved the version",
            "一批中核验完成的边缘服务器达到此比例即为合格",
            unit="%",
            ge=1,
            le=100,
        ),
    ] = 90
    most_failed: Annotated[
        int,
        row(
            "a pilot stops when more edges than these are in trouble", "出现问题的边缘超过此数即停止试点", ge=0, le=1000
        ),
    ] = 0
    failed_minutes: Annotated[
        int,
        row(
            "a failed run is trouble when the edge, heard again so long afterwards, has told no better one",
            "同步失败后经过多久仍未好转视为出现问题",
            unit="min",
            ge=0,
            le=10080,
        ),
    ] = 60
    deadline_hours: Annotated[
        int,
        row(
            "a pilot stops when a wave has too few receipts after",
            "一批在多久之后回执仍不足即停止试点",
            unit="h",
            ge=1,
            le=720,
        ),
    ] = 48
    every_s: Annotated[float, row("how often pilots are looked at", "检查试点的间隔", unit="s", ge=1, le=3600)] = 60.0


class Console(Struct, frozen=True):
    """The console and its accounts."""

    idle_hours: Annotated[
        int, row("a session that is not used ends after", "登录后闲置多久自动退出", unit="h", ge=1, le=720)
    ] = 12
    session_days: Annotated[int, row("a session ends at the latest after", "登录最长有效期", unit="d", ge=1, le=90)] = 7
    invitation_days: Annotated[
        int,
        row("links that invite or reset a password are good for", "邀请和重设密码链接的有效期", unit="d", ge=1, le=30),
    ] = 7
    behind_proxy: Annotated[
        bool,
        row(
            "a proxy in front sets X-Forwarded-For and X-Forwarded-Proto; without one, anybody could forge them",
            "前面有反向代理并由其设置 X-Forwarded-For 和 X-Forwarded-Proto；没有代理时不可开启，否则来源地址可被伪造",
        ),
    ] = False


class Uploads(Struct, frozen=True):
    """Files that people hand in."""

    file_bytes: Annotated[int, row("longest file", "单个上传文件的最大长度", unit="byte", ge=1, le=1 << 42)] = 64 << 30
    account_bytes: Annotated[
        int,
        row("all uploads of one account, at a time", "每个账号的上传配额", unit="byte", ge=1, le=1 << 44),
    ] = 200 << 30
    account_files: Annotated[
        int, row("uploads of one account, at a time", "每个账号同时保留的上传文件数", ge=1, le=100_000)
    ] = 500
    floor_bytes: Annotated[
        int,
        row("of the disk stay free of uploads", "上传须为磁盘保留的空间", unit="byte", ge=0, le=1 << 44),
    ] = 2 << 30
    days: Annotated[
        int,
        row("an upload that no draft uses is kept for", "未用于稿件的上传文件保留天数", unit="d", ge=1, le=365),
    ] = 14


class Settings(Struct, frozen=True):
    """All sections of origin.toml."""

    publisher: Publisher = Publisher()
    database: Database = Database()
    storage: Storage = Storage()
    serve: Serve = Serve()
    publish: Publish = Publish()
    trust: Trust = Trust()
    catalog: CatalogSettings = CatalogSettings()
    reports: Reports = Reports()
    pilots: Pilots = Pilots()
    console: Console = Console()
    uploads: Uploads = Uploads()
