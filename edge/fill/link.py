"""The socket in the edge's directory at which the filler listens and workers call."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path by way of a descriptor of its folder: a socket's name may have 107 bytes only, a path many more."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen(path: Path) -> socket.socket:
    """Listen at `path`, for this user only; what an earlier process left there is replaced.

    Raises:
        OSError: environment; the folder takes no socket.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(made.fileno(), 0o600)  # the name gets this mode, from its first moment on
        with _short(path) as name:
            with suppress(FileNotFoundError):
                path.unlink()
            made.bind(name)
        made.listen(64)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


async def call(path: Path, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to whoever listens at `path`.

    Args:
        path: of the socket.
        limit: bytes read ahead.

    Raises:
        OSError: environment; nobody listens.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        with _short(path) as name:
            await asyncio.get_running_loop().sock_connect(made, name)
        return await asyncio.open_unix_connection(sock=made, limit=limit)
    except BaseException:  # cancelled or failed: the descriptor is ours until a transport has it
        made.close()
        raise
