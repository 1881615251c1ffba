"""Lines of the access log: the combined log format that every tool reads, or JSON.

Pure. A line is printable ASCII (JSON: printable text) whatever a client sent: what could end a line, a quotation or a
terminal's sanity is written as its escape. Values of query parameters that look like secrets are masked, and so is a
user's part of an address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

# Longer fields are cut when they are this long together with the others: a line stays a line, and what waits to be
# written stays bounded.
MOST_TARGET = 1024
MOST_FIELD = 512
MASK = "[redacted]"

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SECRET = re.compile(r"(?i)token|secret|passw|passphrase|auth|session|cookie|credential|signature|private|key$|^sig$")
_USER = re.compile(r"(?<=//)[^/@?#\s]*@")
_NOT_PLAIN = re.compile(rb"[^ !#-\[\]-~]")
# C0, DEL, C1, line and paragraph separators, marks that turn the direction of text, lone halves of pairs.
_NOT_SHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class Question(NamedTuple):
    """What a request asks, as the log tells it: the same each time that a known head comes again.

    Attributes:
        method: empty when the request could not be read.
        target: as it stood on the request line.
        version: such as `HTTP/1.1`.
    """

    method: str
    target: str
    version: str
    referer: str
    agent: str


def question_of(method: str, target: str, version: tuple[int, int], fields: Mapping[str, str]) -> Question:
    """A request's question, in bounds; `version` is major and minor number."""
    referer, agent = fields.get("Referer", ""), fields.get("User-Agent", "")
    if len(target) + len(referer) + len(agent) > MOST_FIELD:  # hardly ever
        target, referer, agent = target[:MOST_TARGET], referer[:MOST_FIELD], agent[:MOST_FIELD]
    return Question(method, target, f"HTTP/{version[0]}.{version[1]}", referer, agent)


class Visit(NamedTuple):
    """A request that has ended.

    Attributes:
        method: empty when the request could not be read.
        target: as it stood on the request line.
        version: such as `HTTP/1.1`.
        sent_bytes: of the body.
        seconds: since it had been read.
    """

    address: str
    method: str
    target: str
    version: str
    status: int
    sent_bytes: int
    seconds: float
    referer: str
    agent: str


def dump_combined(visit: Visit, stamp: str) -> str:
    """One line of the combined log format, with its end; `stamp` is from `stamp_of`."""
    request = _request(visit.method, visit.target, visit.version)
    return f"{visit.address or '-'} - - [{stamp}] {request} {visit.status} {visit.sent_bytes} {_tail(visit[-2:])}"


def dump_json(visit: Visit, moment: str) -> str:
    """One line of JSON, with its end; `moment` is from `moment_of`."""
    document = {
        "at": moment,
        "address": visit.address,
        "method": _cleaned(visit.method),
        "target": _cleaned(mask_secrets(visit.target)),
        "version": visit.version,
        "status": visit.status,
        "bytes": visit.sent_bytes,
        "seconds": round(visit.seconds, 6),
        "referer": _cleaned(mask_secrets(visit.referer)),
        "agent": _cleaned(visit.agent),
    }
    return msgspec.json.encode(document).decode() + "\n"


@lru_cache(8)
def stamp_of(at: int, zone: tzinfo) -> str:
    """The instant as the combined log format has it, whatever the locale: `27/Nov/2026:22:00:01 +0800`."""
    local = datetime.fromtimestamp(at, zone)
    return f"{local.day:02}/{_MONTHS[local.month - 1]}/{local:%Y:%H:%M:%S %z}"


@lru_cache(8)
def moment_of(at: int, zone: tzinfo) -> str:
    """The instant by ISO 8601: `2026-11-27T22:00:01+08:00`."""
    return datetime.fromtimestamp(at, zone).isoformat()


@lru_cache(8)
def day_of(at: int, zone: tzinfo) -> str:
    """The day on which it is, for names of files: `20261127`."""
    return f"{datetime.fromtimestamp(at, zone):%Y%m%d}"


def escape(text: str) -> str:
    r"""Text as printable ASCII in which no quotation mark and no backslash stands for itself: `\x22`, as nginx does."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no HTTP parser makes such text
        data = text.encode("utf-8", "surrogatepass")
    return _NOT_PLAIN.sub(lambda found: b"\\x%02X" % found[0][0], data).decode("ascii")


def mask_secrets(text: str) -> str:
    """Take out of an address what only its owner should know."""
    if "@" in text:
        text = _USER.sub(f"{MASK}@", text)
    if "?" not in text:
        return text
    path, _, query = text.partition("?")
    return f"{path}?{'&'.join(_masked(part) for part in query.split('&'))}"


def _masked(parameter: str) -> str:
    name, has_value, _ = parameter.partition("=")
    return f"{name}={MASK}" if has_value and _SECRET.search(unquote(name)) else parameter


# Terminals ask for the same few files with the same few programs: nearly all of a line was made before.
@lru_cache(2048)
def _request(method: str, target: str, version: str) -> str:
    return f'"{escape(method)} {_shown(target)} {version}"' if method else '"-"'


@lru_cache(2048)
def _tail(texts: tuple[str, str]) -> str:
    referer, agent = (_shown(text) or "-" for text in texts)
    return f'"{referer}" "{agent}"\n'


def _shown(text: str) -> str:
    return escape(mask_secrets(text))


def _cleaned(text: str) -> str:
    return _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
