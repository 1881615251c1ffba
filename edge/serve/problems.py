"""Why a request is not answered from here, in the words that a person at a station reads."""

from __future__ import annotations

from manifests.errors import InputError, NotFoundError, TransferError


class NotHereError(TransferError):
    """It is in the verified catalog but its bytes are not on this edge yet."""

    family = "not here yet"
    family_zh = "尚未到达本站"
    default_hint = "it comes with one of the next syncs; try again later"
    default_hint_zh = "将在后续同步中到达，请稍后再试"


class NoSourceError(NotHereError):
    """It was to be fetched for a terminal, and no source gave it in time.

    Attributes:
        retry_s: when it is worth asking again.
    """

    family = "not here, and no source just now"
    family_zh = "暂时无法取得"
    default_hint = "the line to above is down or its sources fail; try again in a moment"
    default_hint_zh = "上级线路或来源暂时不可用，请稍后再试"

    def __init__(self, message: str, *, zh: str, retry_s: float) -> None:
        super().__init__(message, zh=zh)
        self.retry_s = retry_s


class MethodError(InputError):
    """Only GET and HEAD are answered."""

    http_status = 405
    family = "method not allowed"
    family_zh = "不支持的请求方法"
    default_hint = "use GET or HEAD"
    default_hint_zh = "请使用 GET 或 HEAD 方法"


class LimitedError(TransferError):
    """One client address asks for too much.

    Attributes:
        wait_s: when it may ask again.
    """

    http_status = 429
    family = "too many requests"
    family_zh = "请求过于频繁"
    default_hint = "ask again later"
    default_hint_zh = "请稍后再试"

    def __init__(self, wait_s: float) -> None:
        super().__init__("too many requests from one address", zh="来自同一地址的请求过于频繁")
        self.wait_s = wait_s


def unknown(what: str) -> NotFoundError:
    """The 404 for an address: unknown here, or recalled."""
    return NotFoundError(
        f"{what} is unknown here, or was recalled",
        zh="没有找到该内容，它可能已被撤回",
        hint="choose another lesson from the portal",
        hint_zh="请返回首页选择其他课件",
    )


def not_here(what: str) -> NotHereError:
    """The 503 for what is offered but not stored."""
    return NotHereError(f"{what} is not on this edge yet", zh="该课件尚未传到本站，正在等待同步")
