"""The command line's manners: help, languages, one error line, exit statuses, quick start."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import structlog

from manifests.errors import DigestError
from tools import cli, cli_misc
from tools.cli_common import run

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-c", "import sys; from tools.cli import main; sys.exit(main())"]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("YUANJIAO_LANG", "zh")
    monkeypatch.delenv("YUANJIAO_KEYS_PASSPHRASE", raising=False)
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _commands(child, (*path, name))
    else:
        yield path, command


ALL = dict(_commands(cli.cli))


def test_the_contract_is_here() -> None:
    assert set(ALL) >= {
        ("demo",),
        ("origin", "init"),
        ("origin", "serve"),
        ("origin", "enroll"),
        ("publish",),
        ("recall",),
        ("keys", "rotate"),
        ("edge", "init"),
        ("edge", "sync"),
        ("edge", "serve"),
        ("edge", "scrub"),
        ("edge", "report"),
        ("origin", "accept-key"),
        ("coverage",),
        ("doctor",),
        ("version",),
        ("completion",),
    }


@pytest.mark.parametrize("path", sorted(ALL), ids=" ".join)
def test_help_is_in_both_languages(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert any("\u4e00" <= char <= "\u9fff" for char in text)
    assert "Usage: yuanjiao" in text
    for option in ALL[path].params:
        if isinstance(option, click.Option):
            assert option.help, option.name


ASKING = {
    ("demo",),
    ("doctor",),
    ("version",),
    ("completion",),
    ("promise",),
    ("coverage",),
    ("simulate",),
    ("edge", "why"),
}
CHANGING = [path for path in ALL if path not in ASKING]


@pytest.mark.parametrize("path", CHANGING, ids=" ".join)
def test_what_changes_has_a_dry_run(path: tuple[str, ...]) -> None:
    names = {name for option in ALL[path].params for name in option.opts}
    assert ("--dry-run" in names) is (path[-1] != "serve")
    assert ("--json" in names) is (path[-1] != "serve")


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["publish"],
        ["publish", "a.mp4", "--origin", "x"],
        ["publish", "a.mp4", "--origin", "x", "--title", "t", "--priority", "12"],
        ["origin", "serve", "x", "--port", "70000"],
        ["keys", "rotate", "nobody", "--origin", "x"],
        ["edge", "sync", "x", "--nonsense"],
        ["publish", "a.mp4", "--origin", "http://10.0.0.1", "--title", "t"],
        ["recall", "a", "--origin", "https://10.0.0.1", "--reason", "t"],
        ["origin", "init", "x", "--region", "41"],
        ["origin", "enroll", "x", "county"],
        ["edge", "init", "x", "--bundle", "/nonexistent/bundle"],
    ],
)
def test_usage_errors_are_one_line_and_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("错误 ")
    assert "提示" in err


def test_english(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUANJIAO_LANG", "en")
    assert cli.main(["publish", "a.mp4", "--origin", "http://10.0.0.1", "--title", "t"]) == 2
    assert "no token for the origin's API" in capsys.readouterr().err


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "Commands:" in "".join(capsys.readouterr())


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command `broken` that raises what the test puts into the list."""
    errors: list[BaseException] = []

    @click.command()
    @cli_misc.command_options(reports=True)
    def broken(call: object) -> None:
        raise errors[0]

    monkeypatch.setitem(cli.cli.commands, "broken", broken)
    return errors


def test_a_bug_is_one_line_and_status_1(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(RuntimeError("boom"))
    assert cli.main(["broken"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "内部错误" in err
    assert "RuntimeError: boom" in err
    assert "--debug" in err


@pytest.mark.parametrize("argv", [["broken", "--debug"], ["--debug", "broken"]])
def test_debug_shows_the_traceback(
    argv: list[str], failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(DigestError("piece 3 does not prove", zh="第 3 片不符"))
    assert cli.main(argv) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("错误 内容不可信：第 3 片不符")


def test_ctrl_c_is_status_130(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(KeyboardInterrupt())
    assert cli.main(["broken"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_version_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["yuanjiao"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    assert "_YUANJIAO_COMPLETE" in capsys.readouterr().out


def test_help_starts_without_the_heavy_parts() -> None:
    code = (
        "import sys\nfrom tools.cli import main\nmain(['--help'])\n"
        "heavy = {'tuf', 'av', 'sqlalchemy', 'aiohttp', 'boto3', 'alembic', 'jinja2', 'rich', 'structlog'}\n"
        "sys.stderr.write(','.join(sorted(heavy & set(sys.modules))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    assert "Usage: yuanjiao" in done.stdout


def test_a_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        done = subprocess.run(
            [*PROGRAM, "--help"], cwd=ROOT, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_winds_up_what_was_begun(number: signal.Signals, status: int) -> None:
    code = (
        "import asyncio, sys, click\nfrom tools import cli\nfrom tools.cli_common import run\n"
        "async def work():\n    try:\n        print('begun', flush=True)\n        await asyncio.sleep(60)\n"
        "    finally:\n        print('wound up', flush=True)\n"
        "cli.cli.add_command(click.Command('work', callback=lambda: run(work())))\nsys.exit(cli.main(['work']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("wound up\n", status)
    assert "Traceback" not in err


def test_run_gives_the_result_and_the_error() -> None:
    async def good() -> int:
        return 7

    async def bad() -> int:
        raise DigestError("x")

    assert run(good()) == 7
    with pytest.raises(DigestError):
        run(bad())
