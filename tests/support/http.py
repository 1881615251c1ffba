"""RFC 9110 as a table: what a client may ask of known bytes and what must come back. For edge and origin alike."""

from __future__ import annotations

from dataclasses import dataclass

from support.raw_http import Connection, Reply

ETAG = "<etag>"  # stands for the blob's own entity tag in the table


@dataclass(frozen=True)
class Case:
    """One request and the meaning of its answer.

    Attributes:
        spans: half-open ranges of the body; one → plain 206, several → multipart; None → see status.
    """

    name: str
    headers: dict[str, str]
    status: int
    spans: tuple[tuple[int, int], ...] | None = None
    method: str = "GET"
    section: str = ""


def _range(name: str, value: str, status: int, *spans: tuple[int, int], section: str = "14.1.2") -> Case:
    return Case(name, {"Range": value}, status, spans or None, section=section)


# For a blob of exactly SIZE bytes.
SIZE = 100_000

CASES: tuple[Case, ...] = (
    Case("whole", {}, 200),
    Case("head", {}, 200, method="HEAD", section="9.3.2"),
    _range("first byte", "bytes=0-0", 206, (0, 1)),
    _range("middle", "bytes=10-19", 206, (10, 20)),
    _range("open end", "bytes=99990-", 206, (99_990, SIZE)),
    _range("end beyond", "bytes=99990-999999999", 206, (99_990, SIZE)),
    _range("suffix", "bytes=-10", 206, (SIZE - 10, SIZE)),
    _range("suffix longer than all", "bytes=-999999999", 206, (0, SIZE)),
    _range("whole as a range", "bytes=0-", 206, (0, SIZE)),
    _range("unit in capitals", "Bytes=0-4", 206, (0, 5), section="14.1"),
    _range("blanks in the list", "bytes= 0-4 ,\t10-14", 206, (0, 5), (10, 15), section="5.6.1"),
    _range("empty list elements", "bytes=,0-4,,", 206, (0, 5), section="5.6.1.2"),
    _range("two ranges", "bytes=0-9,50-59", 206, (0, 10), (50, 60), section="15.3.7.2"),
    _range("two ranges, second first", "bytes=50-59,0-9", 206, (50, 60), (0, 10), section="15.3.7.2"),
    _range("overlapping ranges are joined", "bytes=0-9,5-19", 206, (0, 20), section="15.3.7.2"),
    _range("touching ranges are joined", "bytes=0-9,10-19", 206, (0, 20), section="15.3.7.2"),
    _range("one of two satisfiable", "bytes=0-9,200000-200009", 206, (0, 10)),
    _range("start at the end", f"bytes={SIZE}-", 416, section="15.5.17"),
    _range("suffix of nothing", "bytes=-0", 416, section="15.5.17"),
    _range("none satisfiable", "bytes=200000-200009,300000-", 416, section="15.5.17"),
    _range("backwards is malformed", "bytes=9-0", 200, section="14.1.1"),
    _range("another unit", "items=0-9", 200, section="14.2"),
    _range("no unit", "0-9", 200, section="14.2"),
    _range("no numbers", "bytes=-", 200, section="14.2"),
    _range("letters", "bytes=a-b", 200, section="14.2"),
    _range("one bad spec spoils all", "bytes=0-9,x-y", 200, section="14.2"),
    _range("far too many ranges", "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(60)), 200, section="14.2"),
    Case("range means nothing for HEAD", {"Range": "bytes=0-9"}, 200, method="HEAD", section="14.2"),
    Case("If-Range matches", {"Range": "bytes=0-9", "If-Range": ETAG}, 206, ((0, 10),), section="13.1.5"),
    Case("If-Range differs", {"Range": "bytes=0-9", "If-Range": '"other"'}, 200, section="13.1.5"),
    Case("If-Range weak never matches", {"Range": "bytes=0-9", "If-Range": f"W/{ETAG}"}, 200, section="13.1.5"),
    Case(
        "If-Range date never matches",
        {"Range": "bytes=0-9", "If-Range": "Tue, 24 Nov 2026 02:56:09 GMT"},
        200,
        section="13.1.5",
    ),
    Case("If-None-Match same", {"If-None-Match": ETAG}, 304, section="13.1.2"),
    Case("If-None-Match weak same", {"If-None-Match": f"W/{ETAG}"}, 304, section="13.1.2"),
    Case("If-None-Match in a list", {"If-None-Match": f'"a", {ETAG}'}, 304, section="13.1.2"),
    Case("If-None-Match any", {"If-None-Match": "*"}, 304, section="13.1.2"),
    Case("If-None-Match for HEAD", {"If-None-Match": ETAG}, 304, method="HEAD", section="13.1.2"),
    Case("If-None-Match other", {"If-None-Match": '"other"'}, 200, section="13.1.2"),
    Case("If-None-Match before Range", {"If-None-Match": ETAG, "Range": "bytes=0-9"}, 304, section="13.2.2"),
    Case("If-Match same", {"If-Match": ETAG, "Range": "bytes=0-9"}, 206, ((0, 10),), section="13.1.1"),
    Case("If-Match other", {"If-Match": '"other"'}, 412, section="13.1.1"),
    Case("If-Match weak", {"If-Match": f"W/{ETAG}"}, 412, section="13.1.1"),
    Case(
        "dates are ignored without Last-Modified",
        {"If-Modified-Since": "Tue, 24 Nov 2126 02:56:09 GMT"},
        200,
        section="13.1.3",
    ),
)


async def ask(connection: Connection, path: str, case: Case, etag: str) -> Reply:
    """Send one case."""
    headers = {name.replace("-", "_"): value.replace(ETAG, etag) for name, value in case.headers.items()}
    return await connection.request(path, case.method, **headers)


def check(case: Case, reply: Reply, data: bytes, etag: str, media_type: str) -> None:
    """Look at everything that the answer must say."""
    assert reply.status == case.status, case
    headers = reply.headers
    if reply.status in {200, 206, 304}:
        assert headers["etag"] == etag
    if reply.status in {200, 206}:
        assert headers["accept-ranges"] == "bytes"
    if reply.status == 304:
        assert "content-length" not in headers
        assert "content-type" not in headers
    elif reply.status == 416:
        assert headers["content-range"] == f"bytes */{len(data)}"
        assert reply.body == b""
    elif reply.status == 412:
        assert reply.body == b""
    elif reply.status == 200:
        assert headers["content-length"] == str(len(data))
        assert headers["content-type"] == media_type
        assert reply.body == (b"" if case.method == "HEAD" else data)
    else:
        _check_partial(case, reply, data, media_type)


def _check_partial(case: Case, reply: Reply, data: bytes, media_type: str) -> None:
    assert case.spans is not None
    if len(case.spans) == 1:
        start, stop = case.spans[0]
        assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(data)}"
        assert reply.headers["content-type"] == media_type
        assert reply.body == data[start:stop]
        return
    kind, _, boundary = reply.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert "content-range" not in reply.headers
    assert parse_multipart(reply.body, boundary) == [
        (f"bytes {start}-{stop - 1}/{len(data)}", media_type, data[start:stop]) for start, stop in case.spans
    ]


def parse_multipart(body: bytes, boundary: str) -> list[tuple[str, str, bytes]]:
    """Content-Range, Content-Type and bytes of each part, read as a client does: by the announced lengths."""
    mark = b"--" + boundary.encode()
    found = []
    assert body.startswith(mark)
    at = 0
    while not body.startswith(mark + b"--", at):
        at += len(mark) + 2
        end = body.index(b"\r\n\r\n", at)
        fields = dict(line.split(": ", 1) for line in body[at:end].decode().split("\r\n"))
        first, last = fields["Content-Range"].split(" ")[1].split("/")[0].split("-")
        length = int(last) - int(first) + 1
        at = end + 4
        found.append((fields["Content-Range"], fields["Content-Type"], body[at : at + length]))
        at += length + 2
    return found
