"""What commands print: one JSON object or lines for people on standard output, one error line and bars on the other."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import click

from manifests.errors import ConfigurationError, StorageError, StorageFullError, YuanjiaoError
from manifests.words import show_bytes

__all__ = [
    "Language",
    "Output",
    "Progress",
    "choose_language",
    "error_line",
    "exit_code_of",
    "known_error",
    "show_bytes",
    "show_progress",
]

Progress = Callable[[str, int, int], None]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_STORAGE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})
_PLAIN_WIDTH = 200  # of tables that go to a file or a pipe
_MAX_LINE = 2000  # an error line stays readable whatever a library put into its message


class Language(StrEnum):
    """The language in which a person is spoken to."""

    ZH = "zh"
    EN = "en"


def choose_language(env: Mapping[str, str]) -> Language:
    """`YUANJIAO_LANG` decides; then an English locale gives English; everything else gives Chinese."""
    asked = env.get("YUANJIAO_LANG", "").strip().lower()
    if asked:
        return Language.EN if asked.startswith("en") else Language.ZH
    locale = env.get("LC_ALL") or env.get("LANG") or ""
    return Language.EN if locale.lower().startswith("en") else Language.ZH


@dataclass(slots=True)
class Output:
    """How this run speaks.

    Attributes:
        as_json: one object on standard output and nothing else there.
        has_emitted: that object is out.
    """

    language: Language
    as_json: bool = False
    has_emitted: bool = False

    def pick(self, zh: str, en: str) -> str:
        """The text in this run's language."""
        return zh if self.language is Language.ZH else en

    def say(self, zh: str, en: str) -> None:
        """A line for people; silent under --json."""
        if not self.as_json:
            click.echo(self.pick(zh, en))

    def show(self, make: Callable[[], object]) -> None:
        """A table (or whatever rich prints) for people; silent under --json, and then not even made."""
        if not self.as_json:
            from rich.console import Console

            console = Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)
            console.print(make())

    def emit(self, value: Any) -> None:
        """The one JSON object; silent without --json."""
        if self.as_json:
            import msgspec

            self.has_emitted = True
            click.echo(msgspec.json.encode(value).decode())

    def emit_error(self, error: BaseException) -> None:
        """The one JSON object of a command that failed before it had a result."""
        known = known_error(error)
        if known is not None and not self.has_emitted:
            texts = {"error": known.message, "error_zh": known.zh, "hint": known.hint, "hint_zh": known.hint_zh}
            self.emit({"exit_code": known.exit_code, **texts})


def known_error(error: BaseException) -> YuanjiaoError | None:
    """The family that an exception belongs to; None when it is a bug.

    Errors of the operating system about space, rights and the medium are storage's wherever they surface. A group
    of failed tasks speaks through its first member that has a family.
    """
    if isinstance(error, YuanjiaoError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := known_error(one))), None)
    if isinstance(error, OSError) and error.errno in _FULL | _STORAGE:
        family = StorageFullError if error.errno in _FULL else StorageError
        return family(f"{error.strerror}: {error.filename or 'local storage'}")
    if isinstance(error, OSError) and error.errno in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
        return ConfigurationError(
            f"cannot listen: {error.strerror}",
            zh=f"无法监听该地址或端口：{error.strerror}",
            hint="choose another port, or end the program that uses it (`yuanjiao doctor DIR` tells)",
            hint_zh="请更换端口，或停止占用该端口的程序（可用 `yuanjiao doctor DIR` 查看）",
        )
    return None


def error_line(error: BaseException, language: Language) -> str:
    """The one line that a person reads: family, what happened, what to do."""
    known = known_error(error)
    if known is None:
        detail = f"{type(error).__name__}: {error}"
        known = YuanjiaoError(detail)
    if language is Language.ZH:
        text = f"错误 {known.family_zh}：{known.zh}。提示：{known.hint_zh}"
    else:
        text = f"error: {known.family}: {known.message}. Hint: {known.hint}"
    return " ".join(text.split())[:_MAX_LINE]


def exit_code_of(error: BaseException) -> int:
    """The process's exit status for an error."""
    known = known_error(error)
    return 1 if known is None else known.exit_code


@contextmanager
def show_progress(output: Output) -> Iterator[Progress]:
    """Progress bars on standard error when it is a terminal; nothing otherwise."""
    if output.as_json or not sys.stderr.isatty():
        yield lambda _stage, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Bars(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield report
