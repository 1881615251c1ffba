"""What all commands share: options, the session of one run, and running coroutines to a clean end."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from manifests.errors import ConfigurationError
from tools.output import Language, Output, choose_language

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells say it
EXIT_TERMINATED = 143  # 128 + SIGTERM
EXIT_PIPE = 141  # 128 + SIGPIPE


class Terminated(BaseException):
    """SIGTERM arrived during a command that is no server; what was begun was wound up."""


@dataclass
class Session:
    """One run of the program; options fill it in, `main` reads it when an error comes up."""

    language: Language = field(default_factory=lambda: choose_language(os.environ))
    debug: bool = False
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """What a command is told beside its own arguments."""

    output: Output
    dry_run: bool


def _help(zh: str, en: str) -> tuple[str, str]:
    return f"{zh}。\n\n{en}.", f"{zh}。{en}."


def command(
    zh: str, en: str, parent: click.Group | None = None, name: str | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command with help in both languages, below `parent` when one is given."""
    whole, short = _help(zh, en)
    if parent is None:
        return click.command(name=name, help=whole, short_help=short)
    return parent.command(name=name, help=whole, short_help=short)


def group(zh: str, en: str) -> Callable[[Callable[..., Any]], click.Group]:
    """Make a function a group of commands with help in both languages."""
    whole, short = _help(zh, en)
    return click.group(help=whole, short_help=short)


def _set(name: str) -> Callable[[click.Context, click.Parameter, bool], bool]:
    def callback(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
        if value:
            setattr(ctx.find_object(Session) or Session(), name, True)
        return value

    return callback


def session_options(function: F) -> F:
    """`--debug` and `--verbose`, allowed before and after the command's name."""
    for name, text in (
        ("verbose", "显示运行日志 Show the run's log lines"),
        ("debug", "显示调试日志与错误回溯 Show debug lines, and tracebacks of errors"),
    ):
        function = click.option(
            f"--{name}", is_flag=True, expose_value=False, callback=_set(name), help=text, is_eager=True
        )(function)
    return function


def command_options(*, reports: bool = False, changes: bool = False, serves: bool = False) -> Callable[[F], F]:
    """Give a command the common options; its function receives a `Call` first.

    Args:
        reports: it has `--json`.
        changes: it has `--dry-run`.
        serves: it runs until it is stopped, so its log is shown without asking.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            session = click.get_current_context().find_object(Session) or Session()
            _configure_logs(session, serves)
            output = Output(session.language, bool(kwargs.pop("as_json", False)))
            try:
                return function(Call(output, bool(kwargs.pop("dry_run", False))), *args, **kwargs)
            except Exception as error:  # told as JSON, then raised on to the outermost shell
                output.emit_error(error)
                raise

        wrapped: Any = session_options(wrapper)
        if changes:
            text = "只显示计划，不做任何改动 Print the plan and change nothing"
            wrapped = click.option("--dry-run", is_flag=True, help=text)(wrapped)
        if reports:
            text = "在标准输出打印一个 JSON 对象 Print one JSON object on standard output"
            wrapped = click.option("--json", "as_json", is_flag=True, help=text)(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


def _configure_logs(session: Session, serves: bool) -> None:
    from tools.logs import QUIET, configure_logs

    shown = logging.INFO if serves or session.verbose else QUIET
    configure_logs(level=logging.DEBUG if session.debug else shown)


def check_new(root: Path, name: str) -> None:
    """Refuse a directory in which an init would not start; for --dry-run, init itself checks again.

    Raises:
        ConfigurationError: caller's mistake.
    """
    if root.exists() and any(root.iterdir()):
        is_ours = (root / name).exists()
        raise ConfigurationError(
            f"{root} holds a {name} already" if is_ours else f"{root} is not empty",
            zh=f"{root} 中已有 {name}" if is_ours else f"{root} 不是空目录",
            hint="choose an empty directory",
            hint_zh="请选择一个空目录",
        )


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; SIGTERM cancels it, so that its locks, workers and partial files are wound up.

    Raises:
        Terminated: environment; SIGTERM came.
    """

    async def watched() -> T:
        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True
            task.cancel()

        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        try:
            return await task
        except asyncio.CancelledError:
            if stopped:
                raise Terminated from None
            raise

    return asyncio.run(watched())
