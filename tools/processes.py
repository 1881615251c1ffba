"""Our own program as child processes: servers that are waited for and ended, commands whose JSON is read."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from manifests.errors import TransferError, YuanjiaoError

PROGRAM = (sys.executable, "-P", "-c", "import sys; from tools.cli import main; sys.exit(main())")
READY_S = 60.0
COMMAND_S = 600.0
STOP_S = 20.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@asynccontextmanager
async def serving(arguments: Sequence[str], log: Path) -> AsyncIterator[str]:
    """Run a server for the time of the block and give the address that it printed.

    It is ended by SIGTERM, and by SIGKILL when that is not enough, whatever ends the block.

    Args:
        arguments: of `yuanjiao`, such as `("edge", "serve", DIR)`.
        log: gets its standard error.

    Raises:
        TransferError: environment; it did not come up. The message tells the end of its log.
    """
    with log.open("ab") as errors:
        process = await _start(arguments, errors)
        try:
            yield await _address(process, arguments, log)
        finally:
            await _end(process)


async def run_json(arguments: Sequence[str]) -> Any:
    """Run a command with --json and return its object.

    Raises:
        TransferError: environment; it failed. The message is its error line.
    """
    process = await _start((*arguments, "--json"), PIPE)
    try:
        out, errors = await asyncio.wait_for(process.communicate(), COMMAND_S)
    finally:
        await _end(process)
    if process.returncode:
        line = errors.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"status {process.returncode}"]
        raise _failed(arguments, line[0])
    return msgspec.json.decode(out)


@asynccontextmanager
async def talking(
    module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str], files: Sequence[int] = ()
) -> AsyncIterator[Process]:
    """Run a module of ours with pipes to it for the time of the block; it is ended as `serving` ends a server.

    Args:
        module: its full name.
        arguments: of it.
        log: gets its standard error.
        env: added to the environment.
        files: numbers of open files that it gets, under the same numbers.
    """
    with log.open("ab") as errors:
        command = (sys.executable, "-P", "-m", module, *arguments)
        process = await _spawn(command, errors, stdin=PIPE, env=env, files=files)
        try:
            yield process
        finally:
            await _end(process)


async def _start(arguments: Sequence[str], errors: IO[bytes] | int) -> Process:
    return await _spawn((*PROGRAM, *arguments), errors)


async def _spawn(
    command: Sequence[str],
    errors: IO[bytes] | int,
    *,
    stdin: int = DEVNULL,
    env: Mapping[str, str] | None = None,
    files: Sequence[int] = (),
) -> Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=stdin,
        stdout=PIPE,
        stderr=errors,
        # A group of its own: Ctrl-C reaches us alone, and we end our children in order.
        process_group=0,
        preexec_fn=_die_with_parent,
        pass_fds=files,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
    )


def _die_with_parent() -> None:
    """In the child: be sent SIGTERM when whoever started it is gone, even by SIGKILL (Linux, prctl(2))."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _address(process: Process, arguments: Sequence[str], log: Path) -> str:
    out = process.stdout
    line = b""
    if out is not None:
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(out.readline(), READY_S)
    if not line.startswith(b"http"):
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        raise _failed(arguments, lines[-1] if lines else "no address was printed")
    return line.decode().strip()


async def _end(process: Process) -> None:
    """End a process that we started, and wait for it; a second interruption does not leave it behind."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_S)
    except TimeoutError:
        await _kill(process)
    except asyncio.CancelledError:
        await _kill(process)
        raise


async def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def _failed(arguments: Sequence[str], reason: str) -> YuanjiaoError:
    what = " ".join(arguments[:2])
    return TransferError(
        f"`yuanjiao {what}` failed: {reason}",
        zh=f"`yuanjiao {what}` 未能完成：{reason}",
        hint="the log beside its directory says more",
        hint_zh="详情请查看其目录旁的日志",
    )
