"""Time-based one-time passwords (RFC 6238): SHA-1, 30 seconds, six digits, as all apps have them. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from typing import Final
from urllib.parse import quote

from manifests.instants import Instant

STEP_S: Final = 30
DIGITS: Final = 6
SECRET_BYTES: Final = 20
# One step to either side: phones' clocks are off by seconds, people type slowly.
_SLACK: Final = 1


def code_at(secret: str, step: int) -> str:
    """The code of one step.

    Args:
        secret: in base32, without padding.
        step: number of 30-second steps since the epoch.
    """
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", step), hashlib.sha1).digest()
    start = digest[-1] & 0x0F
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def matching_step(secret: str, code: str, now: Instant, last_step: int) -> int | None:
    """The step that a code belongs to; None when it is wrong, too old, or was used already.

    Args:
        secret: in base32.
        code: as typed, without blanks.
        now: the present instant.
        last_step: the last step whose code was taken; that one and those before it open nothing.
    """
    found = None
    present = now // STEP_S
    for step in range(present - _SLACK, present + _SLACK + 1):
        is_same = hmac.compare_digest(code_at(secret, step).encode(), code.encode())
        if is_same and step > last_step:
            found = step
    return found


def enrolment_uri(secret: str, login: str, issuer: str) -> str:
    """What the QR code says to the app."""
    label = f"{quote(issuer, safe='')}:{quote(login, safe='')}"
    return f"otpauth://totp/{label}?secret={secret}&issuer={quote(issuer, safe='')}&digits={DIGITS}&period={STEP_S}"
