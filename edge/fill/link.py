"""Where the filler listens and workers call: a name in the kernel, not in the edge's directory.

A socket file would stand in the way of whoever copies or backs up the directory, and needs a disk that takes it. A name
that begins with a zero byte (unix(7), "abstract") goes with its socket and has no owner: so both sides look who it is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path

_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid
_TRUSTED = frozenset({0})


def name_of(root: Path) -> str:
    """The name for the edge in a directory, the same by whatever path it is reached.

    Raises:
        OSError: environment; the directory cannot be looked at.
    """
    stat = root.stat()
    return f"\0yuanjiao-fill-{stat.st_dev:x}-{stat.st_ino:x}"


def is_own(raw: socket.socket) -> bool:
    """Tell whether the other end belongs to this user, or to the system's administrator."""
    found = raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(found)[1] in _TRUSTED | {os.geteuid()}


def listen(root: Path) -> socket.socket:
    """Listen for the workers of the edge in `root`.

    Raises:
        OSError: environment; an earlier filler still listens, or the directory cannot be looked at.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(name_of(root))
        made.listen(64)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


async def call(root: Path, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the filler of the edge in `root`.

    Args:
        root: the edge's directory.
        limit: bytes read ahead.

    Raises:
        OSError: environment; nobody listens, or somebody else does.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, name_of(root))
        _check_own(made)
        return await asyncio.open_unix_connection(sock=made, limit=limit)
    except BaseException:  # cancelled or failed: the descriptor is ours until a transport has it
        made.close()
        raise


def _check_own(raw: socket.socket) -> None:
    if not is_own(raw):
        raise PermissionError("another user's process listens as this edge's filler")
