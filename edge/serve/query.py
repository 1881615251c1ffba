"""What stands behind the `?` of an address."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web

from manifests.errors import InputError

MOST = 999_999_999


def read_number(request: web.BaseRequest, name: str, default: int, low: int = 1, high: int = MOST) -> int:
    """A number that the client chose.

    Raises:
        InputError: the client's `name` is not a number in its bounds.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise InputError(
            f"{name}={text[:20]!r} is not a number from {low} to {high}",
            zh=f"网址中的参数 {name} 应为 {low} 至 {high} 的整数",
            hint="correct the address",
            hint_zh="请检查网址",
        )
    return int(text)


def with_value(request: web.BaseRequest, name: str, value: str) -> str:
    """The query of this request with one value changed, for a link on the page itself."""
    kept = [(key, text) for key, text in request.query.items() if key != name]
    return "?" + urlencode([*kept, (name, value)])
