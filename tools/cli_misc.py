"""Commands for whoever stands before the machine: demo, doctor, version, completion."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tools.cli_common import Call, command, command_options


@command(
    "在一台机器上演示一个省：一个源站、两个县和真实样例课件",
    "A province on one machine: an origin, two county edges, real sample courseware",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="存放演示数据的目录，再次运行时重建 Where the demo lives; made anew by each run",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8410, show_default=True, help="门户端口 Portal's port")
@click.option("--no-browser", is_flag=True, help="不打开浏览器 Do not open a browser")
@command_options()
def demo(call: Call, directory: Path, port: int, no_browser: bool) -> None:
    """A province on one machine: an origin, two county edges, real sample courseware."""
    from tools.demo import run_demo

    run_demo(directory, port, call.output, open_browser=not no_browser)


@command(
    "检查一个源站或边缘服务器，并说明每个问题如何处理",
    "Check an origin or an edge, and say what to do about each finding",
)
@click.argument("root", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@command_options(reports=True)
def doctor(call: Call, root: Path) -> None:
    """Check an origin or an edge, and say what to do about each finding."""
    from edge.clock import system_clock
    from tools.doctor import examine, print_examination

    examination = examine(root, os.environ, system_clock)
    print_examination(examination, call.output)
    if examination.error is not None:
        raise examination.error


@command("显示程序和主要部件的版本", "Show the versions of this program and its main parts")
@command_options(reports=True)
def version(call: Call) -> None:
    """Show the versions of this program and its main parts."""
    from tools.versions import part_versions

    versions = part_versions()
    call.output.emit(versions)
    for name, number in versions.items():
        call.output.say(f"{name} {number}", f"{name} {number}")


@command('打印命令行补全脚本，bash 用法：eval "$(yuanjiao completion bash)"', "Print the completion script of a shell")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(root.command, {}, "yuanjiao", "_YUANJIAO_COMPLETE").source())
    sys.stdout.flush()


def register(cli: click.Group) -> None:
    """Add these commands to the program."""
    for one in (demo, doctor, version, completion):
        cli.add_command(one)
