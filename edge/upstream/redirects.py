"""Redirects that an edge follows: of blobs only, one hop, to places that its settings name.

An origin over an object store may give a presigned address instead of the bytes. Its query is as good as a key while it
lasts, so no message repeats it. An address is used for all ranges of its blob until the store refuses it: the origin is
asked once for a blob, and its clock and the store's need not be known here. Where the way through the store fails, the
upstream is asked for the bytes themselves for a while. Time is an argument.
"""

from __future__ import annotations

import re
from collections import OrderedDict

from yarl import URL

from manifests.errors import TransferError

FOLLOWED = 307
# Says that a redirect would be followed; without it an origin passes the bytes on.
ASKS = ("Yuanjiao-Redirects", "1")
# The address is good no more; by 400 a store tells so of an account that was lent for a time.
REFUSALS = frozenset({400, 403})

_PLAIN_S = 60.0
_MOST_KEPT = 64  # addresses; few blobs are fetched at a time
_MOST_CHARS = 8192
_CHARS = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+")  # of RFC 3986, without a fragment
_QUERY = re.compile(r"\?[^\s'\"<>]*")


def without_query(text: str) -> str:
    """A text without the queries of addresses in it, which may hold a signature."""
    return _QUERY.sub("?…", text)


def plan_redirect(base: URL, location: str, places: tuple[str, ...]) -> URL:
    """Where to go, if that is allowed.

    Args:
        base: the upstream that answered.
        location: its field, as it came.
        places: `host` (at the scheme's own port) or `host:port`.

    Raises:
        TransferError: bad data; no such redirect is followed.
    """
    if len(location) > _MOST_CHARS or not _CHARS.fullmatch(location):
        raise _refused(base, "its address is malformed", "地址不合规范")
    try:
        to = URL(location, encoded=True)
        shown = to.authority
    except ValueError:
        raise _refused(base, "its address is malformed", "地址不合规范") from None  # it would quote the address
    if to.scheme not in {"http", "https"} or not to.host or to.user is not None:
        raise _refused(base, "its address is malformed", "地址不合规范")
    if base.scheme == "https" and to.scheme != "https":
        raise _refused(base, f"to {shown} without TLS", f"由 https 转到 http（{shown}）")
    if not any(_is_place(to, place) for place in places):
        raise _refused(base, f"{shown} is not in upstream.redirects", f"{shown} 不在 upstream.redirects 之列")
    return to


def _is_place(to: URL, place: str) -> bool:
    named = URL(f"//{place.lower()}", encoded=True)
    if (to.host or "").lower() != named.host:
        return False
    return to.is_default_port() if named.explicit_port is None else to.port == named.explicit_port


def _refused(base: URL, why: str, zh: str) -> TransferError:
    return TransferError(
        f"{base}: redirect refused: {why}",
        zh=f"上游 {base}：拒绝跳转，{zh}",
        hint="if the object store is meant, name its host in upstream.redirects",
        hint_zh="若确为对象存储，请将其主机名填入 upstream.redirects",
    )


class Redirects:
    """What one upstream has redirected so far.

    Args:
        url: the upstream's base address.
        places: where it may send us; empty: nowhere.
    """

    def __init__(self, url: str, places: tuple[str, ...] = ()) -> None:
        self._base = URL(url)
        self._places = places
        self._kept: OrderedDict[str, URL] = OrderedDict()
        self._plain_until_s = 0.0

    def is_asked_for(self, path: str, now_s: float) -> bool:
        """Tell whether to say, in a request for `path`, that a redirect would be followed."""
        return bool(self._places) and path.startswith("/blobs/") and now_s >= self._plain_until_s

    def known(self, path: str, now_s: float) -> URL | None:
        """Where the bytes of `path` were last said to lie."""
        return self._kept.get(path) if now_s >= self._plain_until_s else None

    def take(self, path: str, location: str) -> URL:
        """Keep where the upstream sent us.

        Raises:
            TransferError: bad data; no such redirect is followed.
        """
        to = plan_redirect(self._base, location, self._places)
        self._kept[path] = to
        self._kept.move_to_end(path)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return to

    def forget(self, path: str, address: URL) -> None:
        """Drop an address that was refused, unless another request has brought a newer one meanwhile."""
        if self._kept.get(path) == address:
            del self._kept[path]

    def distrust(self, now_s: float) -> None:
        """Ask for the bytes themselves for a while: the way through the store failed."""
        self._kept.clear()
        self._plain_until_s = now_s + _PLAIN_S
