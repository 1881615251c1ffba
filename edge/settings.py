"""All settings of an edge: name, default, unit, limits, help. `manifests.settings` reads them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from edge.settings_fill import Fill
from edge.settings_log import Log
from manifests.settings import row

ColumnId = Annotated[str, Meta(min_length=1, max_length=64)]
Url = Annotated[str, Meta(max_length=300)]
Place = Annotated[str, Meta(max_length=260, pattern=r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?\Z")]


class Upstream(Struct, frozen=True):
    """How bytes are fetched."""

    urls: Annotated[
        tuple[Url, ...],
        row(
            "base addresses to fetch from, most preferred first; empty: those of the bundle",
            "上游地址，按优先顺序排列；留空则使用开通文件中的地址",
            max_length=16,
        ),
    ] = ()
    siblings: Annotated[
        tuple[Url, ...],
        row(
            "base addresses of the other edges of the city, which fetch a new blob in shares and complete from each "
            "other; needs own_url",
            "同市其他边缘服务器的地址，新课件由各站分头下载再互相补齐；须同时填写 own_url",
            max_length=64,
        ),
    ] = ()
    own_url: Annotated[
        str,
        row(
            "this edge's own base address, written as its siblings have it; empty: nothing is shared",
            "本机地址，须与其他站 siblings 中填写的完全一致；留空则不参与同市互传",
            max_length=300,
        ),
    ] = ""
    ca_file: Annotated[
        str,
        row(
            "PEM file of certificate authorities trusted for https upstreams beside the system's",
            "https 上游额外信任的 CA 证书文件（PEM）；留空则只信任系统证书",
            max_length=4096,
        ),
    ] = ""
    redirects: Annotated[
        tuple[Place, ...],
        row(
            "hosts (host or host:port) to which an upstream may redirect requests for blobs, such as the province's "
            "object store; empty: no redirect is followed",
            "允许上游将文件请求跳转到的主机（主机名或“主机名:端口”），如省级对象存储；留空则拒绝一切跳转",
            max_length=16,
        ),
    ] = ()
    connect_timeout_s: Annotated[
        float, row("connecting to an upstream may take", "连接上游的时限", unit="s", ge=0.1, le=300)
    ] = 10.0
    progress_timeout_s: Annotated[
        float,
        row("a source that sends nothing for so long is left", "上游多久不发送数据即放弃", unit="s", ge=0.1, le=300),
    ] = 2.0
    total_timeout_s: Annotated[
        float, row("one request may take at most", "单个请求的总时限", unit="s", ge=1, le=86400)
    ] = 600.0
    floor_bytes_per_s: Annotated[
        int,
        row(
            "a source slower than this over one progress deadline is left",
            "低于此速度的上游视为停滞",
            unit="B/s",
            ge=0,
            le=1 << 30,
        ),
    ] = 1024
    requests_in_flight: Annotated[
        int,
        row(
            "range requests in flight to above, at most; how many there are follows the line",
            "同时向上游发出的区间请求数上限，实际数量随线路自动调整",
            ge=1,
            le=64,
        ),
    ] = 8
    span_pieces: Annotated[
        int,
        row("adjacent pieces joined into one request, at most", "单个请求最多合并的相邻分片数", ge=1, le=256),
    ] = 16
    retries: Annotated[int, row("further attempts after a failed request", "请求失败后的重试次数", ge=0, le=20)] = 3
    cooldown_s: Annotated[
        float, row("a failed source is left alone for", "失败的上游暂停使用时间", unit="s", ge=0, le=86400)
    ] = 60.0
    ban_s: Annotated[
        float,
        row("a source that sent bytes that do not prove is banned for", "发送错误内容的上游禁用时间", unit="s", ge=0),
    ] = 3600.0


class Sync(Struct, frozen=True):
    """What this edge wants."""

    columns: Annotated[
        tuple[ColumnId, ...],
        row("ids of the columns to keep here; empty: all", "订阅的专栏编号；留空表示全部专栏", max_length=1000),
    ] = ()
    poll_s: Annotated[
        float,
        row(
            "newer releases are asked for so often, day and night: a recall waits for no window and no bulk",
            "查询新版本的间隔，昼夜不停（撤回无需等待夜间窗口或整夜传输结束）",
            unit="s",
            ge=0.1,
            le=86400,
        ),
    ] = 60.0
    window: Annotated[
        str,
        row(
            "hours in which bulk may cross the line, in the county's zone; may cross midnight; 00:00-24:00 is all day",
            "允许大批量传输的时段（当地时间），可跨零点；00:00-24:00 表示全天",
            pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-4]):[0-5][0-9]\Z",
        ),
    ] = "22:00-06:00"
    zone: Annotated[str, row("the county's time zone", "本县所在时区", min_length=1, max_length=64)] = "Asia/Shanghai"
    jitter_minutes: Annotated[
        int,
        row(
            "edges begin spread over so long after the window opens, each always at its own minute",
            "各边缘服务器在时段开始后错峰启动的时间范围，每台固定不变",
            unit="min",
            ge=0,
            le=720,
        ),
    ] = 30
    day_share: Annotated[
        float,
        row(
            "share of the line's measured rate that bulk may use outside the window while no terminal plays; 0: none",
            "时段之外且无终端播放时，大批量传输可占用线路实测速率的比例；0 表示不使用",
            ge=0,
            le=1,
        ),
    ] = 0.0
    viewer_share: Annotated[
        float,
        row(
            "share of the line's measured rate that bulk keeps while terminals play: a quarter leaves viewers line, "
            "disk and processor, and a box left on all night does not stop the night; 0: none, 1: no yielding",
            "有终端播放时，大批量传输保留的线路实测速率比例：四分之一可保证观看，"
            "终端整夜不关也不致中断同步；0 表示暂停，1 表示不让路",
            ge=0,
            le=1,
        ),
    ] = 0.25
    caps_bytes_per_s: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=1 << 40)], ...],
        row(
            "most that bulk may take in each hour of the day, 24 values; 0: no cap; empty: none at all",
            "各小时大批量传输的限速，共 24 个值；0 表示该小时不限，留空表示全天不限",
            unit="B/s",
            max_length=24,
        ),
    ] = ()
    line_bytes_per_s: Annotated[
        int,
        row(
            "rate to reckon with until the line was measured",
            "尚未测得线路速率时按此速率估算",
            unit="B/s",
            ge=1,
            le=1 << 40,
        ),
    ] = 500_000


class Trust(Struct, frozen=True):
    """What happens when the province is not heard from."""

    stale_after_hours: Annotated[
        int,
        row(
            "the catalog is called stale so long after its timestamp expired",
            "时间戳过期多久后目录视为陈旧",
            unit="h",
            ge=0,
            le=8760,
        ),
    ] = 24
    expired_after_days: Annotated[
        int,
        row(
            "nothing new is accepted so long after its timestamp expired",
            "时间戳过期多久后不再接受新内容",
            unit="d",
            ge=1,
            le=3650,
        ),
    ] = 30


class Serve(Struct, frozen=True):
    """The HTTP side."""

    host: Annotated[str, row("address to listen on", "监听地址", min_length=1, max_length=255)] = "0.0.0.0"  # noqa: S104 - terminals come from other machines
    port: Annotated[int, row("TCP port to listen on", "监听端口", ge=0, le=65535)] = 8080
    workers: Annotated[int, row("processes; 0: one per core", "工作进程数，0 表示每核一个", ge=0, le=256)] = 0
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
    max_header_bytes: Annotated[
        int, row("longest request line or header field", "请求行或单个请求头的长度上限", unit="B", ge=1024, le=65536)
    ] = 8190
    connections: Annotated[
        int,
        row(
            "client connections per process; above it the oldest idle one is closed",
            "每个进程的终端连接数上限，超出时关闭最久空闲的连接",
            ge=16,
            le=1 << 20,
        ),
    ] = 4096
    connections_per_client: Annotated[
        int,
        row(
            "of these, connections of one client address (an IPv6 client is a /64); a classroom is one address",
            "每个进程中单个终端地址（IPv6 按 /64 计）的连接数上限；同一出口后的整个教室算作一个地址",
            ge=16,
            le=1 << 20,
        ),
    ] = 1024
    requests_per_s: Annotated[
        float,
        row(
            "requests that a client address may ask per second and process in the long run; those answered from a file "
            "that is open already do not count; 0: no limit",
            "单个终端地址在每个进程中每秒可发出的请求数（长期平均），已打开文件的应答不计；0 表示不限",
            unit="1/s",
            ge=0,
            le=1e6,
        ),
    ] = 500.0
    requests_burst: Annotated[
        int,
        row(
            "of these, how many it may ask at once",
            "其中可一次性突发的请求数",
            ge=16,
            le=1 << 20,
        ),
    ] = 5000
    unlimited: Annotated[
        tuple[Annotated[str, Meta(max_length=64)], ...],
        row(
            "addresses and networks without these limits: this machine, a proxy in front of the edge, other edges",
            "不受以上限制的地址和网段：本机、边缘服务器前的代理、其他边缘服务器",
            max_length=256,
        ),
    ] = ("127.0.0.0/8", "::1")
    open_files: Annotated[
        int, row("descriptors of blobs kept open per process", "每个进程缓存的文件描述符数", ge=1, le=65536)
    ] = 512
    near_congestion: Annotated[
        str,
        row(
            "TCP congestion control for terminals whose round trip is below 2 ms (reno where the system allows no "
            "other); all others get the system's; empty: the system's for all",
            "往返时延小于 2 毫秒的终端所用的 TCP 拥塞控制算法（系统不允许时用 reno），其余终端用系统默认；"
            "留空则全部用系统默认",
            pattern=r"^[a-z0-9_-]{0,15}\Z",
        ),
    ] = "cubic"


class Store(Struct, frozen=True):
    """The disk."""

    reserve_bytes: Annotated[
        int,
        row(
            "free space that is never used up: index, logs and recalls need it",
            "始终保留的磁盘空闲空间（索引、日志和撤回操作需要）",
            unit="B",
            ge=0,
        ),
    ] = 1 << 30
    quota_bytes: Annotated[
        int, row("most that blobs may take; 0: no limit but the reserve", "课件占用上限，0 表示不限", unit="B", ge=0)
    ] = 0
    high_watermark: Annotated[
        float,
        row(
            "share of the room for blobs above which lessons that terminals pulled through are evicted",
            "占用超过可用空间的这一比例时，开始淘汰终端点播时取得的课件",
            gt=0,
            le=1,
        ),
    ] = 0.95
    low_watermark: Annotated[
        float,
        row(
            "down to which they are evicted; evicted lessons are planned again only below it",
            "淘汰到这一比例为止；低于此比例时，被淘汰的课件才会重新列入计划",
            gt=0,
            le=1,
        ),
    ] = 0.9
    keep_used_s: Annotated[
        float,
        row(
            "a lesson that was watched so recently is not evicted",
            "最近这段时间内观看过的课件不淘汰",
            unit="s",
            ge=0,
            le=30 * 86400,
        ),
    ] = 1800.0


class Scrub(Struct, frozen=True):
    """The search for rot."""

    budget_bytes: Annotated[
        int,
        row(
            "most bytes read per scrub, longest unread first; 0: everything, or the whole of a night's share",
            "每次巡检最多读取的字节数（最久未检者优先），0 表示全部（夜间巡检则为当夜应读份额）",
            unit="B",
            ge=0,
        ),
    ] = 0
    cycle_days: Annotated[
        int,
        row(
            "a share of the disk is read each night, so that all of it is read in so many days",
            "每夜重读磁盘的一部分，在这么多天内读完全部",
            unit="d",
            ge=1,
            le=3650,
        ),
    ] = 30


class Report(Struct, frozen=True):
    """What is told to the province."""

    url: Annotated[
        str,
        row(
            "base address of the origin that takes reports; empty: the upstreams are asked in their order",
            "接收上报的源站地址；留空则依次尝试各上游",
            max_length=500,
        ),
    ] = ""
    timeout_s: Annotated[
        float,
        row("one request with reports may take at most", "单次上报请求的总时限", unit="s", ge=0.1, le=3600),
    ] = 120.0
    watching: Annotated[
        bool,
        row(
            "what terminals watched is counted from the access log and told by lesson and hour; addresses stay here",
            "根据访问日志统计各课件分时段的观看情况并上报；终端地址不上报",
        ),
    ] = True


class Settings(Struct, frozen=True):
    """All sections of edge.toml."""

    upstream: Upstream = Upstream()
    sync: Sync = Sync()
    trust: Trust = Trust()
    serve: Serve = Serve()
    store: Store = Store()
    scrub: Scrub = Scrub()
    fill: Fill = Fill()
    report: Report = Report()
    log: Log = Log()
