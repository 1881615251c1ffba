"""Secrets: making them, keeping only their digests, and checking passwords at a bounded pace.

Passwords are hashed by Argon2id with 19 MiB and two passes, which takes a tenth of a second of a core on purpose. So
few are hashed at once, in threads, and those who wait for their turn wait in a bounded queue.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from manifests.errors import BusyError, InputError

MIN_PASSWORD: Final = 10
MAX_PASSWORD: Final = 128
# Memory in KiB, passes, threads. The library's own default takes three times the memory and four times as long.
COST: Final = {"memory_cost": 19456, "time_cost": 2, "parallelism": 1}
TURN_S: Final = 20.0
_AT_ONCE: Final = 2
_MOST_WAITING: Final = 32
_RECOVERY_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read as something else
# Of the many lists of frequent passwords, what ten characters and more leave; digits alone are refused anyway.
_FREQUENT: Final = (
    "password",
    "qwertyuiop",
    "1q2w3e4r",
    "iloveyou",
    "administrator",
    "yuanjiao",
    "woaini",
    "asdfghjkl",
)
_TOO_FEW_DIFFERENT: Final = 5


def new_secret() -> str:
    """256 random bits as text for an address or a cookie."""
    return secrets.token_urlsafe(32)


def new_recovery_code() -> str:
    """79 random bits that a person can copy from paper: `abcd-efgh-jkmn-pqrs`."""
    return "-".join("".join(secrets.choice(_RECOVERY_ALPHABET) for _ in range(4)) for _ in range(4))


def secret_digest(secret: str) -> str:
    """What is kept of a random secret. A plain hash is enough for so many bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def clean_password(text: str) -> str:
    """One spelling for one password, whatever keyboard it came from."""
    return unicodedata.normalize("NFC", text)


def check_password(text: str, login: str, name: str) -> str:
    """Check a new password against the rules; returns it in its one spelling.

    Raises:
        InputError: bad data; too short or long, or what anybody would try first.
    """
    password = clean_password(text)
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InputError(
            f"a password of {len(password)} characters is refused: {MIN_PASSWORD} to {MAX_PASSWORD}",
            zh=f"密码长度应为 {MIN_PASSWORD}–{MAX_PASSWORD} 个字符",
        )
    folded = password.casefold()
    if folded.isdigit() or len(set(folded)) < _TOO_FEW_DIFFERENT or any(word in folded for word in _FREQUENT):
        raise InputError(
            "the password is easy to guess: digits only, few different characters, or a frequent word",
            zh="密码过于简单：纯数字、重复字符过多或含常见弱口令",
        )
    if login.casefold() in folded or (len(name) > 1 and name.casefold() in folded):
        raise InputError("the password contains the name of its account", zh="密码不能包含账号或姓名")
    return password


class Passwords:
    """Hashing and checking, few at once."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(
            memory_cost=COST["memory_cost"], time_cost=COST["time_cost"], parallelism=COST["parallelism"]
        )
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        # Checked against when there is no such account, so that the answer takes as long.
        self._nobody: str | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one of the few places; what is counted and checked inside cannot be raced by a hundred others.

        Raises:
            BusyError: environment; too many wait already, or it took too long.
        """
        if self._waiting >= _MOST_WAITING:
            raise BusyError("too many sign-ins at once", zh="同时登录的人数过多")
        self._waiting += 1
        try:
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        except TimeoutError as error:
            raise BusyError("too many sign-ins at once", zh="同时登录的人数过多") from error
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    async def hash(self, password: str) -> str:
        """Hash a password that was checked against the rules."""
        return await asyncio.to_thread(self._hasher.hash, password)

    async def is_right(self, kept: str | None, password: str) -> bool:
        """Check a password; None for an account that does not exist takes as long and is never right."""
        if self._nobody is None:
            self._nobody = await asyncio.to_thread(self._hasher.hash, secrets.token_hex(16))
        is_match = await asyncio.to_thread(self._verify, kept or self._nobody, clean_password(password))
        return is_match and kept is not None

    def _verify(self, kept: str, password: str) -> bool:
        try:
            return self._hasher.verify(kept, password[:MAX_PASSWORD])
        except (VerificationError, InvalidHashError):
            return False
