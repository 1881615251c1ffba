"""Signing anew what is due, and releasing anew what is offered: the province's files and those of its cities.

A city whose key is not here does not keep the others from it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from manifests.errors import ConfigurationError
from manifests.instants import Instant
from origin.publish.delegation import publisher_of
from origin.publish.press import Job, Press

_log: Final = structlog.get_logger(__name__)


async def can_sign(press: Press, publisher: str = "") -> bool:
    """Tell whether the keys that a publisher's release takes are here."""
    try:
        await asyncio.to_thread(press.signatory.check_keys, Job("", "", publisher=publisher).roles)
    except ConfigurationError:
        return False
    return True


async def run_anew(press: Press, note: str) -> int:
    """Release what is offered once more, under new numbers in every role; returns the province's catalog's version.

    Raises:
        ConfigurationError: environment; a key of the province is absent or the clock is wrong.
        StorageError: environment; the old release is whole.
    """
    chain = await asyncio.to_thread(press.signatory.chain)
    known = [*chain.cities, *chain.damaged]
    ready = [role for role in known if role in chain.delegated and await can_sign(press, publisher_of(role))]
    waiting = [role for role in known if role not in ready]
    version = await press.run(Job("renew", note, skips=waiting), await press.signing_time())
    for role in ready:
        await press.run(Job("renew", note, publisher=publisher_of(role)), await press.signing_time())
    for role in waiting:
        _log.error("city_not_released_anew", role=role)
    return version


async def run_renewal(press: Press) -> bool:
    """Sign anew what is due; False when nothing was."""
    now = await press.signing_time()
    due = await asyncio.to_thread(press.signatory.due, now)
    files = [role for role in due if role not in {"snapshot", "timestamp"}]
    if True in [await _renew(press, role, now) for role in files]:
        return True  # with its snapshot and its timestamp
    if len(due) == len(files):
        return False
    await press.reissue(now, snapshot="snapshot" in due, extra={})
    return True


async def _renew(press: Press, role: str, now: Instant) -> bool:
    try:
        await asyncio.to_thread(press.signatory.check_keys, (role,))
    except ConfigurationError as error:
        # The key may well lie in a drawer; the next publish signs with it.
        _log.warning("a role is due for renewal but its key is not here", role=role, reason=error.message)
        return False
    note = "signed anew before its expiry"
    await press.run(Job("renew", note, keeps_catalog=True, publisher=publisher_of(role)), now)
    return True
