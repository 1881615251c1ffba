"""The program as an outsider has it: a command line, its two streams and its exit status."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tools import cli

PROGRAM = (sys.executable, "-P", "-c", "import sys; from tools.cli import main; sys.exit(main())")
DEADLINE_S = 90


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on standard output; anything else there fails."""
        return json.loads(self.out)


def spawn(*arguments: str | Path, cwd: Path | None = None, **env: str) -> Done:
    """Run one command to its end, as a process of its own."""
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run(*arguments: str | Path, **env: str) -> Done:
    """Run one command to its end in this process, which saves a second of start-up; all else is the same."""
    out, err = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    handlers, level, environment = list(root.handlers), root.level, dict(os.environ)
    os.environ.update(env)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = cli.main([str(one) for one in arguments])
    finally:
        os.environ.clear()
        os.environ.update(environment)
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    return Done(code, out.getvalue(), err.getvalue())


def succeed(*arguments: str | Path, runner: Callable[..., Done] = run, **env: str) -> Any:
    """Run one command with --json, which must end well; its object."""
    done = runner(*arguments, "--json", **env)
    assert done.code == 0, done.err
    assert done.err == ""
    assert len(done.out.splitlines()) == 1
    return done.json


def wait_until(is_true: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Wait for a fact."""
    end = time.monotonic() + deadline_s
    while not is_true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


@contextmanager
def serving(*arguments: str | Path, **env: str) -> Iterator[str]:
    """Run a server until the block ends; gives the address that it prints. It must end with status 0 on SIGTERM."""
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address.startswith("http://"):
            process.kill()
            raise AssertionError(process.communicate()[1][-2000:])
        yield address
    finally:
        process.terminate()
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
    assert process.returncode == 0, errors[-2000:]


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(url: str, method: str = "GET", **headers: str) -> Answer:
    """Ask once; an error status is an answer too. `If_Range` becomes `If-Range`."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, method=method, headers=fields)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def contents(root: Path) -> dict[str, str]:
    """Digest of every file below a directory, but for what opening a database or asking the province leaves behind."""
    passing = ("-wal", "-shm", ".lock", "ballast")
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(passing) and path.parent.name != "trust"
    }
