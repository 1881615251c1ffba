"""Reading small bodies with a limit and a deadline: JSON of the API, forms of the console."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from manifests.errors import InputError

BODY_S: Final = 30.0
MOST_FIELDS: Final = 100


class TooLongError(InputError):
    """The body is longer than anything that is asked for here."""

    http_status = 413


async def read_body(request: web.Request, most: int) -> bytes:
    """The whole body.

    Raises:
        TooLongError: caller's mistake; over `most` bytes. The connection is of no use any more.
        InputError: caller's mistake; it did not come in time, or is encoded.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InputError("the body is encoded", zh="请求内容不能压缩")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            while part := await request.content.readany():
                size += len(part)
                if size > most:
                    raise TooLongError(f"the body is over {most} bytes", zh="提交的内容过长")
                parts.append(part)
    except TimeoutError as error:
        raise InputError("the body did not come in time", zh="提交超时，请重试") from error
    return b"".join(parts)


async def read_form(request: web.Request, most: int, most_fields: int = MOST_FIELDS) -> dict[str, str]:
    """The fields of a form; of a field that comes twice, the first, but lists joined by blanks for check boxes.

    Raises:
        InputError: caller's mistake; no form, too long, or no UTF-8.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise InputError("this takes a form", zh="提交的不是表单")
    data = await read_body(request, most)
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=most_fields)
    except ValueError as error:
        raise InputError("the form cannot be read", zh="表单内容无法读取") from error
    refuse_nul(part for pair in pairs for part in pair)
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]} {value}" if name in found else value
    return found


def refuse_nul(texts: Iterable[str]) -> None:
    """Refuse the one character that no text of ours may hold: PostgreSQL takes it in no column.

    Raises:
        InputError: caller's mistake.
    """
    if any("\0" in text for text in texts):
        raise InputError("a text holds the character NUL", zh="内容含有不允许的字符")
