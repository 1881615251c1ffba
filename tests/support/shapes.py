"""Requests as nobody should send them, byte for byte, each with what the edge answers.

A `Shape` that ends the connection is sent together with a further request in the same segment: that one must never be
answered, whatever the shape's own framing says. After one that does not, the further request is answered as usual.
"""

from __future__ import annotations

from dataclasses import dataclass

MEDIA = "/media/kj-1/a.mp4"
FOUR = "Range: bytes=0-3\r\n"


@dataclass(frozen=True)
class Shape:
    """A request and the status of its answer."""

    data: bytes
    status: int
    is_end: bool = False


def _shape(
    target: str | bytes, status: int, fields: str = "", body: str = "", method: str = "GET", version: str = "HTTP/1.1"
) -> Shape:
    raw = target if isinstance(target, bytes) else target.encode()
    head = f"{method} ".encode() + raw + f" {version}\r\nHost: x\r\n{fields}\r\n{body}".encode("latin-1")
    return Shape(head, status, is_end=False)


def _end(data: str | bytes) -> Shape:
    return Shape(data if isinstance(data, bytes) else data.encode("latin-1"), 400, is_end=True)


def _framed(fields: str, body: str = "") -> Shape:
    return _end(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\n{fields}\r\n{body}")


INNER = "GET /healthz HTTP/1.1\r\nHost: evil\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"

# Two readers of one stream that disagree where a request ends: the second request is then anybody's.
SMUGGLING = {
    "length, then chunks": _framed(f"Content-Length: 4\r\n{CHUNKED}", "0\r\n\r\n"),
    "chunks, then length": _framed(f"{CHUNKED}Content-Length: 4\r\n", "0\r\n\r\n"),
    "the same length twice": _framed("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
    "two lengths": _framed("Content-Length: 3\r\nContent-Length: 0\r\n", "abc"),
    "list of lengths": _framed("Content-Length: 3, 3\r\n", "abc"),
    "negative length": _framed("Content-Length: -3\r\n"),
    "length with a plus": _framed("Content-Length: +3\r\n", "abc"),
    "length with an underscore": _framed("Content-Length: 1_0\r\n", "abcdefghij"),
    "hexadecimal length": _framed("Content-Length: 0x3\r\n", "abc"),
    "empty length": _framed("Content-Length:\r\n"),
    "length in other digits": _end(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\nContent-Length: ٣\r\n\r\nabc".encode()),
    "length beyond 64 bits": _framed("Content-Length: 99999999999999999999999\r\n"),
    "unknown coding": _framed("Transfer-Encoding: xchunked\r\n"),
    "chunks twice": _framed(CHUNKED * 2, "0\r\n\r\n"),
    "chunks in chunks": _framed("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
    "identity": _framed("Transfer-Encoding: identity\r\n"),
    "chunks not last": _framed("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
    "vertical tab before the coding": _framed("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"),
    "coding in quotes": _framed('Transfer-Encoding: "chunked"\r\n', "0\r\n\r\n"),
    "folded coding": _framed("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    "blank before the colon": _framed("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
    "folded line": _framed("X: a\r\n b\r\n"),
    "folded first field": _end(f"GET {MEDIA} HTTP/1.1\r\n Host: x\r\n\r\n"),
    "bare LF": _end(f"GET {MEDIA} HTTP/1.1\nHost: x\n\n"),
    "bare LF within": _framed("X: a\nY: b\r\n"),
    "bare CR": _framed("X: a\rY: b\r\n"),
    "NUL": _framed("X: a\0b\r\n"),
    "escape": _framed("X: a\x1bb\r\n"),
    "no name": _framed(": x\r\n"),
    "no colon": _framed("Xyz\r\n"),
    "name in brackets": _framed("X(y): z\r\n"),
    "line end in a chunk extension": _framed(CHUNKED, "3;a=\nb\r\nabc\r\n0\r\n\r\n"),
    "negative chunk": _framed(CHUNKED, "-3\r\nabc\r\n0\r\n\r\n"),
    "chunk with 0x": _framed(CHUNKED, "0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk with an underscore": _framed(CHUNKED, "1_0\r\nabc\r\n0\r\n\r\n"),
    "chunks with bare LF": _framed(CHUNKED, "3\nabc\n0\n\n"),
    "chunk beyond 64 bits": _framed(CHUNKED, "f" * 40 + "\r\nabc"),
    "chunk longer than it says": _framed(CHUNKED, "3\r\nabcdef\r\n0\r\n\r\n"),
    "length in the trailer": _framed(CHUNKED, "0\r\nContent-Length: 5\r\n\r\n"),
    "more after the last": _framed("Connection: close\r\n"),
    "more after the last of the old": _end(f"GET {MEDIA} HTTP/1.0\r\n\r\n"),
}
FRAMED = {
    "body that looks like a request": _shape(MEDIA, 206, f"{FOUR}Content-Length: {len(INNER)}\r\n", INNER),
    "chunk that looks like a request": _shape(MEDIA, 206, FOUR + CHUNKED, f"{len(INNER):x}\r\n{INNER}\r\n0\r\n\r\n"),
    "chunk extension": _shape(MEDIA, 206, FOUR + CHUNKED, "3;a=b\r\nabc\r\n0\r\n\r\n"),
    "long chunk extension": _shape(MEDIA, 206, FOUR + CHUNKED, f"3;{'a' * 3000}\r\nabc\r\n0\r\n\r\n"),
    "trailer": _shape(MEDIA, 206, FOUR + CHUNKED, "0\r\nX: y\r\n\r\n"),
    "coding before chunks": _shape(MEDIA, 206, FOUR + "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    "content coding": _shape(MEDIA, 206, FOUR + "Content-Encoding: br\r\nContent-Length: 3\r\n", "abc"),
    "body of a PUT": _shape(MEDIA, 405, "Content-Length: 3\r\n", "abc", method="PUT"),
}
HEADS = {
    "blank lines before": Shape(b"\r\n" * 20 + _shape(MEDIA, 206, FOUR).data, 206),
    "blank before": _end(f" GET {MEDIA} HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tab": _end("GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "HTTP/2 preface": _end("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS hello": _end("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "version in small letters": _end(f"GET {MEDIA} http/1.1\r\nHost: x\r\n\r\n"),
    "version that there is not": _end(f"GET {MEDIA} HTTP/1.2\r\nHost: x\r\n\r\n"),
    "version with two digits": _end(f"GET {MEDIA} HTTP/11.1\r\nHost: x\r\n\r\n"),
    "no host": _end(f"GET {MEDIA} HTTP/1.1\r\n\r\n"),
    "the same host twice": _end(f"GET {MEDIA} HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    "host with a control": _end(f"GET {MEDIA} HTTP/1.1\r\nHost: x\x01\r\n\r\n"),
    "host with a blank": Shape(f"GET {MEDIA} HTTP/1.1\r\nHost: a b\r\n\r\n".encode(), 400),
    "host with a path": Shape(f"GET {MEDIA} HTTP/1.1\r\nHost: x/y\r\n\r\n".encode(), 400),
    "host with a user": Shape(b"GET /healthz HTTP/1.1\r\nHost: u@x\r\n\r\n", 400),
    "host in Chinese": Shape(f"GET {MEDIA} HTTP/1.1\r\nHost: 边缘\r\n\r\n".encode(), 400),
    "two hosts in one field": Shape(f"GET {MEDIA} HTTP/1.1\r\nHost: [::1]x\r\n\r\n".encode(), 400),
    "host by IPv6 and port": Shape(f"GET {MEDIA} HTTP/1.1\r\nHost: [fe80::1]:8080\r\n{FOUR}\r\n".encode(), 206),
    "empty host": Shape(f"GET {MEDIA} HTTP/1.1\r\nHost:\r\n{FOUR}\r\n".encode(), 206),
    "long field": _framed(f"X: {'a' * 9000}\r\n"),
    "many fields": _framed("X: 1\r\n" * 70),
    "upgrade to a socket": _shape(
        MEDIA, 206, FOUR + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    ),
    "expectation": _shape(MEDIA, 206, FOUR + "Expect: 100-continue\r\n"),
    "expectation of a body": _shape(MEDIA, 206, FOUR + "Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"),
    "other expectation": _shape(MEDIA, 206, FOUR + "Expect: 200-ok\r\n"),
    "field named by Connection": _shape(MEDIA, 206, FOUR + "Connection: Range\r\n"),
}
TARGETS = {
    "absolute form": _shape(f"http://elsewhere.example{MEDIA}", 206, FOUR),
    "absolute form with a user": _shape(f"http://u:p@x{MEDIA}", 206, FOUR),
    "absolute form without a path": _shape("http://x", 200),
    "asterisk form": _end("GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    "asterisk form of OPTIONS": _shape("*", 405, method="OPTIONS"),
    "authority form": _end("GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "authority form of CONNECT": _shape("x:80", 405, method="CONNECT"),
    "TRACE": _shape(MEDIA, 405, method="TRACE"),
    "DELETE": _shape(MEDIA, 405, method="DELETE"),
    "method in small letters": _end(f"get {MEDIA} HTTP/1.1\r\nHost: x\r\n\r\n"),
    "long method": _end(f"{'A' * 3000} / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "two slashes": _shape(f"/{MEDIA}", 404),
    "two dots": _shape("/media/../identity/key.pem", 404),
    "two dots, encoded": _shape("/media/%2e%2e/%2e%2e/identity/key.pem", 404),
    "two dots, encoded twice": _shape("/media/%252e%252e/%252e%252e/identity/key.pem", 404),
    "backslashes": _shape("/media/..\\..\\identity\\key.pem", 404),
    "backslashes, encoded": _shape("/media/kj-1/..%5c..%5cidentity%5ckey.pem", 404),
    "slashes, encoded": _shape("/media/kj-1/..%2f..%2fidentity%2fkey.pem", 404),
    "out of the blobs": _shape("/blobs/..%2fedge.toml", 404),
    "out of the pieces": _shape("/pieces/..%2fedge.toml", 404),
    "out of the metadata": _shape("/metadata/..%2fedge.toml", 404),
    "out of the static files": _shape("/static/..%2fsite.py", 404),
    "overlong UTF-8": _shape("/media/%c0%ae%c0%ae/x", 400),
    "no UTF-8": _shape("/media/kj-1/%ff%fe", 400),
    "NUL, encoded": _shape("/media/kj-1/a.mp4%00.jpg", 404),
    "line break, encoded": _shape("/media/kj-1/a%0d%0aSet-Cookie:%20x=y", 404),
    "broken encoding": _shape("/media/kj-1/%zz.mp4", 404),
    "cut encoding": _shape("/media/kj-1/%4", 404),
    "raw UTF-8": _end("GET /media/kj-1/小麦.mp4 HTTP/1.1\r\nHost: x\r\n\r\n".encode()),
    "raw bytes": _end(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n"),
    "blank": _end("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "fragment": _shape(f"{MEDIA}#x", 404),
    "long": _shape("/" + "a" * 8000, 404),
    "too long": _end(f"GET /{'a' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n"),
}
RANGES = {
    "hundreds of ranges": _shape(MEDIA, 200, f"Range: bytes={','.join(f'{n}-{n}' for n in range(0, 1000, 2))}\r\n"),
    "hundreds that overlap": _shape(MEDIA, 200, f"Range: bytes={','.join(['0-'] * 500)}\r\n"),
    "as many bytes as there are not": _shape(MEDIA, 416, f"Range: bytes={'9' * 3000}-\r\n"),
    "two fields": _shape(MEDIA, 200, "Range: bytes=0-1\r\nRange: bytes=2-3\r\n"),
    "other unit": _shape(MEDIA, 200, "Range: lines=0-1\r\n"),
}
GROUPS = {
    "smuggling": SMUGGLING,
    "framed": FRAMED,
    "heads": HEADS,
    "targets": TARGETS,
    "ranges": RANGES,
}
