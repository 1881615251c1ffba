"""The settings of the access log."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from manifests.settings import row


class Log(Struct, frozen=True):
    """The access log."""

    access: Annotated[
        Literal["combined", "json", "off"],
        row(
            "form of the access log: combined (the combined log format), json (a JSON document a line), off",
            "访问日志格式：combined（通用组合格式）、json（每行一个 JSON）、off（不记录）",
        ),
    ] = "combined"
    dir: Annotated[
        str,
        row(
            "folder of the access log, from the edge's directory on; empty: log",
            "访问日志目录（相对路径从边缘服务器目录算起）；留空则为 log",
            max_length=4096,
        ),
    ] = ""
    max_bytes: Annotated[
        int,
        row(
            "most that all files of the access log take together; a file is full at an eighth of it",
            "全部访问日志文件占用空间上限，单个文件达到其八分之一即换新文件",
            unit="B",
            ge=1 << 16,
            le=1 << 40,
        ),
    ] = 64 * 1024 * 1024
    keep_days: Annotated[
        int,
        row("files of the access log are kept for", "访问日志文件保留天数", unit="d", ge=1, le=3650),
    ] = 30
