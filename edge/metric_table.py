"""What each figure of an edge means, as `/metrics` and the README show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as `/metrics` and the README show it; a counter's exposed name ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help_en: str
    help_zh: str
    label: str = ""


METRICS: tuple[Metric, ...] = (
    Metric("yuanjiao_edge_requests_total", "counter", "Readable HTTP requests begun", "收到的可解析 HTTP 请求数"),
    Metric(
        "yuanjiao_edge_answers_total",
        "counter",
        "Requests ended, by result: hit (answered from here, also 304 and 416), fill (answered while its bytes were "
        "fetched), not_here (known, not on this edge yet), not_found (unknown or recalled), refused (method or form), "
        "error (our fault, or the disk's), limited (too many from one address), lost (with a worker that died)",
        "已结束的请求数，按结果分：命中、边取边播、暂未到达本机、不存在或已撤回、被拒绝、本机故障、单一地址请求过多、随工作进程丢失",
        "result",
    ),
    Metric(
        "yuanjiao_edge_unreadable_total",
        "counter",
        "Requests that could not be read and were answered 400; not among the readable ones",
        "无法解析而以 400 应答的请求数，不计入可解析请求",
    ),
    Metric(
        "yuanjiao_edge_answer_begin_seconds",
        "histogram",
        "From a request read to its answer begun (its head handed to the system; a short answer with all of its body)",
        "从读完请求到开始应答的时间（秒）",
        "le",
    ),
    Metric(
        "yuanjiao_edge_sent_bytes_total",
        "counter",
        "Body bytes sent, by kind: media (lessons to terminals), blob (by digest, to edges), page (pages, lists, "
        "signed files)",
        "已发送的字节数，按类别分：课件、数据块、页面与清单",
        "kind",
    ),
    Metric("yuanjiao_edge_ranges_total", "counter", "Answers with status 206", "区间应答（206）次数"),
    Metric("yuanjiao_edge_unchanged_total", "counter", "Answers with status 304", "未变化应答（304）次数"),
    Metric(
        "yuanjiao_edge_aborted_total",
        "counter",
        "Answers broken off: the client left or took no bytes in time, the lesson was recalled meanwhile, or what was "
        "to be fetched for it did not come in time",
        "中途断开的应答数：终端离开、长时间不接收、课件同时被撤回，或边取边播未能及时取得内容",
    ),
    Metric("yuanjiao_edge_connections", "gauge", "Client connections open now", "当前终端连接数"),
    Metric("yuanjiao_edge_connections_accepted_total", "counter", "Client connections accepted", "接受的终端连接数"),
    Metric(
        "yuanjiao_edge_connections_closed_total",
        "counter",
        "Client connections closed, by cause: client (it left), idle (it asked nothing for too long), full (too many "
        "in all or of one address), stalled (it took nothing for too long), server (we ended it: wished so, "
        "unreadable, broken off, or the end of serving), lost (with a worker that died)",
        "关闭的终端连接数，按原因分：终端离开、空闲过久、连接过多、长时间不接收、本机关闭、随工作进程丢失",
        "cause",
    ),
    Metric(
        "yuanjiao_edge_log_dropped_total",
        "counter",
        "Lines of the access log that were dropped: the disk was full, refused them or was too slow",
        "因磁盘已满、写入失败或过慢而丢弃的访问日志行数",
    ),
    Metric("yuanjiao_edge_descriptors", "gauge", "Blob files held open for sending", "保持打开的数据块文件数"),
    Metric("yuanjiao_edge_workers", "gauge", "Worker processes meant to run", "工作进程数"),
    Metric("yuanjiao_edge_worker_restarts_total", "counter", "Workers restarted after they died", "工作进程重启次数"),
    Metric(
        "yuanjiao_edge_keepers",
        "gauge",
        "Keepers of the night at work: 1, or 0 while it is down",
        "夜间同步守护进程数：正常为 1",
    ),
    Metric(
        "yuanjiao_edge_keeper_restarts_total",
        "counter",
        "Keepers restarted after they died",
        "夜间同步守护进程重启次数",
    ),
    Metric("yuanjiao_edge_fillers", "gauge", "Fillers at work: 1, or 0 while it is down", "点播填充进程数：正常为 1"),
    Metric(
        "yuanjiao_edge_filler_restarts_total", "counter", "Fillers restarted after they died", "点播填充进程重启次数"
    ),
    Metric(
        "yuanjiao_edge_fills_in_flight", "gauge", "Range requests under way for viewers", "正在为终端点播的上游请求数"
    ),
    Metric(
        "yuanjiao_edge_fill_flights_total", "counter", "Range requests begun for viewers", "为终端点播发出的上游请求数"
    ),
    Metric(
        "yuanjiao_edge_fill_joined_total",
        "counter",
        "Waits for a piece that somebody else already waited for: what was not fetched twice",
        "等待他人已在取用的分片的次数（即未重复取用的次数）",
    ),
    Metric(
        "yuanjiao_edge_fill_dropped_total",
        "counter",
        "Pieces wished for as read-ahead and given up before they came: the viewer jumped or left",
        "终端跳转或离开后放弃的预取分片数",
    ),
    Metric(
        "yuanjiao_edge_fill_bypass_total",
        "counter",
        "Pieces passed through to terminals and not kept, for want of room",
        "因空间不足直通终端而未保存的分片数",
    ),
    Metric(
        "yuanjiao_edge_upstream_bytes_total",
        "counter",
        "Body bytes that this server fetched from upstreams, by reason: planned (signed lists, catalogs, new lessons), "
        "not_planned (asked for by a terminal), evicted, damaged, new_version, live, bypass (passed through to a "
        "terminal, not kept); a command reports its own",
        "本服务从上游取得的字节数，按原因分：计划内、终端点播未计划、曾被淘汰、损坏、新版本、直播、直通终端",
        "reason",
    ),
    Metric(
        "yuanjiao_edge_freshness",
        "gauge",
        "1 for the state the edge is in: fresh, stale (proved lessons play, province unheard of), expired (nothing "
        "new is accepted)",
        "新鲜度状态：fresh 正常、stale 久未更新、expired 已过期",
        "state",
    ),
    Metric("yuanjiao_edge_catalog_version", "gauge", "Version of the installed catalog", "已安装目录的版本号"),
    Metric(
        "yuanjiao_edge_evicted_blobs_total",
        "counter",
        "Big blobs evicted for want of room, by standing of their lesson: planned, or pulled through for a terminal; "
        "commands' included, since the record of use was begun",
        "因空间不足淘汰的大文件数，按课件来历分：计划内、终端点播时取得",
        "standing",
    ),
    Metric(
        "yuanjiao_edge_evicted_bytes_total",
        "counter",
        "Bytes of these blobs",
        "因空间不足淘汰的字节数",
        "standing",
    ),
    Metric("yuanjiao_edge_courseware", "gauge", "Courseware installed", "已安装课件数"),
    Metric("yuanjiao_edge_blobs", "gauge", "Blobs stored", "已存数据块数"),
    Metric("yuanjiao_edge_disk_free_bytes", "gauge", "Free bytes where blobs are stored", "存储盘剩余字节数"),
    Metric(
        "yuanjiao_edge_checked_timestamp_seconds",
        "gauge",
        "When the edge last heard from the province, in epoch seconds; 0 for never",
        "最近一次与省级源站核对的时间（纪元秒），0 表示从未",
    ),
    Metric("yuanjiao_edge_reports_waiting", "gauge", "Reports that the province has not received", "待上报条数"),
    Metric(
        "yuanjiao_edge_reports_oldest_timestamp_seconds",
        "gauge",
        "Of when the first report is that waits, in epoch seconds; 0 when none waits",
        "最早一条待上报记录的时间（纪元秒），0 表示没有",
    ),
    Metric(
        "yuanjiao_edge_source_ban_seconds",
        "gauge",
        "How long a source that sent wrong bytes, upstream or sibling, is still left alone",
        "发送错误内容的来源（上游或同市站）剩余禁用秒数",
        "source",
    ),
)
