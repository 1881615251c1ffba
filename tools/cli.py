"""The command line `yuanjiao`: the contract's words, exit codes and manners. Commands live in `tools.cli_*`."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from tools import (
    cli_admin,
    cli_city,
    cli_courier,
    cli_drafts,
    cli_edge,
    cli_evict,
    cli_misc,
    cli_origin,
    cli_origin_store,
    cli_promise,
    cli_publish,
    cli_releases,
    cli_reports,
    cli_simulate,
)
from tools.cli_common import (
    EXIT_INTERRUPTED,
    EXIT_PIPE,
    EXIT_TERMINATED,
    Session,
    Terminated,
    session_options,
)
from tools.output import Language, error_line, exit_code_of

PROGRAM = "yuanjiao"
COMPLETE = "_YUANJIAO_COMPLETE"
EXIT_USAGE = 2

EPILOG = """\b
退出码 Exit codes:
  0 完成 done
  1 程序缺陷（内部错误） a bug
  2 用法或配置有误 usage or configuration
  3 内容不可信 content not trusted
  4 传输失败或正被占用，稍后再试 transfer failed or busy, try later
  5 本地存储故障 local storage
  130 被 Ctrl-C 中断 interrupted
"""


@click.group(
    help="远教课件分发：省级源站发布，县级边缘服务器验证并保存，村级站点播放。\n\n"
    "Courseware distribution: a province publishes, county edges prove and keep, village stations watch.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@session_options
def cli() -> None:
    """The program: all commands hang below it."""


_GROUPS = (
    *(cli_origin, cli_publish, cli_origin_store, cli_admin, cli_city, cli_drafts, cli_promise, cli_releases),
    *(cli_edge, cli_evict, cli_courier, cli_reports, cli_misc, cli_simulate),
)
for group in _GROUPS:
    group.register(cli)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit status; no exception leaves, no traceback without --debug."""
    session = Session()
    for stream in (sys.stdout, sys.stderr):
        # A locale that lacks a character must not turn a message into a crash.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(argv, session)
        sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_closed()
    return status


def _run(argv: Sequence[str] | None, session: Session) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if COMPLETE in os.environ:
            cli.main(arguments, PROGRAM, COMPLETE)  # answers the shell and exits
        # Not click's main(): it would turn a closed pipe into status 1, which here means a bug.
        with cli.make_context(PROGRAM, arguments, obj=session) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        click.echo(_usage_line(error, session.language), err=True)
        return EXIT_USAGE
    except (click.Abort, KeyboardInterrupt, EOFError):
        click.echo(err=True)
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the outermost shell: every error becomes one line and a status here
        if session.debug:
            traceback.print_exception(error)
        click.echo(error_line(error, session.language), err=True)
        return exit_code_of(error)
    return 0


def _usage_line(error: click.ClickException, language: Language) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else PROGRAM
    text = " ".join(error.format_message().split())
    if language is Language.ZH:
        return f"错误 用法有误：{text} 提示：请查看 `{command} --help`"
    return f"error: usage: {text} Hint: see `{command} --help`"


def _pipe_closed() -> int:
    # The reader went away; what is still buffered must not raise again when the interpreter flushes at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_PIPE
