"""Answers made in memory: small documents with the same range and conditional rules as files, and problems."""

from __future__ import annotations

import math

from aiohttp import web

from edge.serve.pages import Pages
from edge.serve.problems import LimitedError, NoSourceError
from edge.serve.stock import Stock
from manifests.digests import digest_of, dump_etag
from manifests.errors import YuanjiaoError
from manifests.ranges import Representation, plan_answer

RETRY_AFTER_S = 300


def answer_document(request: web.BaseRequest, data: bytes, media_type: str, **fields: str) -> web.Response:
    """Answer with a document made for this request, validated by its digest, as `manifests.ranges` plans it."""
    more = tuple((name.replace("_", "-"), value) for name, value in fields.items())
    base = (("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff"))
    what = Representation(len(data), dump_etag(digest_of(data)), media_type, base + more)
    answer = plan_answer(request.method, request.headers, what)
    heads = [field for field in answer.fields if field[0] != "Content-Length"]
    body = b"".join(
        part.literal + (data[part.range.start : part.range.stop] if part.range else b"") for part in answer.parts
    )
    if answer.status == 200:
        body = data  # aiohttp leaves the body of HEAD out and tells its length
    return web.Response(status=answer.status, headers=heads, body=body)


def answer_limited(error: LimitedError) -> web.Response:
    """Say that it is too much: a sentence also for browsers, because a page would cost what the limit is to spare."""
    headers = {
        "Retry-After": str(max(math.ceil(error.wait_s), 1)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    text = f"{error.zh}，{error.hint_zh}。\n"
    return web.Response(
        status=error.http_status, headers=headers, text=text, content_type="text/plain", charset="utf-8"
    )


def answer_problem(stock: Stock, pages: Pages, request: web.BaseRequest, error: YuanjiaoError) -> web.Response:
    """Say why not: a page for browsers, one Chinese sentence and its remedy for everybody else."""
    status = error.http_status
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if error.retryable or status == 503:
        seconds = math.ceil(error.retry_s) if isinstance(error, NoSourceError) else RETRY_AFTER_S
        headers["Retry-After"] = str(max(1, seconds))
    if "text/html" in request.headers.get("Accept", ""):
        return pages.problem(stock, request, error, status, headers)
    text = f"{error.zh}。{error.hint_zh}。\n"
    return web.Response(status=status, headers=headers, text=text, content_type="text/plain", charset="utf-8")
