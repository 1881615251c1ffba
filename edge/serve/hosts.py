"""What may stand in a `Host` field (RFC 9110 section 7.2); anything else is answered 400 (RFC 9112 section 3.2)."""

from __future__ import annotations

import re
from functools import lru_cache

# uri-host [":" port] by RFC 3986; empty is right for an address without an authority.
_HOST = re.compile(r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?\Z")


# Terminals know their edge by a handful of names.
@lru_cache(1024)
def is_host(text: str) -> bool:
    """Tell whether a field's value names a host."""
    return len(text) <= 300 and _HOST.match(text) is not None
