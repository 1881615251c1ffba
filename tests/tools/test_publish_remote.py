"""`yuanjiao publish FILE… --origin URL`: the same words, figures and exit codes as with --origin DIR."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.cutting import line_to
from support.media import make_mp4
from support.origins import found_origin
from support.program import PROGRAM, get, run, serving, succeed, wait_until
from support.uploads import script_at

from origin.accounts.permissions import Role
from origin.publish.failpoints import VARIABLE

TEXT = "# 冬小麦返青期管理\n\n先看苗情，再定水肥。\n"
FLOOR = {"YUANJIAO_UPLOADS_FLOOR_BYTES": "0"}


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = found_origin(tmp_path_factory.mktemp("founded") / "origin")
    token = asyncio.run(script_at(root, "lessons:publish", "lessons:read", "lessons:recall"))
    return root, token


@pytest.fixture
def province(founded: tuple[Path, str], tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """An origin, and the environment of a script that may publish there."""
    root = Path(shutil.copytree(founded[0], tmp_path / "origin"))
    return root, {"YUANJIAO_TOKEN": founded[1], "XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def lesson(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "讲义.md", text: str = TEXT) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def test_over_the_api_it_is_as_on_the_spot(
    province: tuple[Path, dict[str, str]], tmp_path: Path, lesson: Callable[..., Path]
) -> None:
    root, env = province
    here = Path(shutil.copytree(root, tmp_path / "here"))
    files = (
        make_mp4(tmp_path / "麦田.mp4", seconds=2),
        lesson("麦田.zh.srt", "1\n00:00:00,000 --> 00:00:01,000\n看苗\n"),
    )
    words = ("--title", "春季麦田管理", "--column", "农技", "--tag", "小麦", "--priority", "7", "--audience", "410100")
    local = succeed("publish", *files, "--origin", here, *words)
    with serving("origin", "serve", root, "--host", "127.0.0.1", "--port", "0", **FLOOR) as url:
        planned = succeed("publish", *files, "--origin", url, *words, "--dry-run", **env)
        assert planned["id"] == local["id"]
        assert planned["replaces"] is None
        assert not list((root / "uploads").glob("*/*"))
        remote = succeed("publish", *files, "--origin", url, *words, **env)
        assert remote == local
        assert not list((root / "uploads").glob("*/*"))  # what was sent is in the library now
        assert get(f"{url}/blobs/{remote['files'][0]['sha256']}").status == 200
        # The same once more changes nothing; a dry run says what another title would replace.
        assert succeed("publish", *files, "--origin", url, *words, **env) == local
        planned = succeed("publish", *files, "--origin", url, "--title", "别的", "--dry-run", **env)
        assert planned["replaces"] == {"title": "春季麦田管理", "version": 1}
        planned = succeed("recall", local["id"], "--origin", url, "--reason", "内容有误", "--dry-run", **env)
        assert planned == {"id": local["id"], "version": 1, "title": "春季麦田管理", "dry_run": True}
        done = succeed("recall", local["id"], "--origin", url, "--reason", "内容有误", **env)
        assert done == {"id": local["id"], "version": 1, "catalog_version": remote["catalog_version"] + 1}


def test_a_pilot_is_asked_for_over_the_api_too(
    province: tuple[Path, dict[str, str]], lesson: Callable[..., Path]
) -> None:
    root, env = province
    with serving("origin", "serve", root, "--host", "127.0.0.1", "--port", "0", **FLOOR) as url:
        words = ("--title", "看苗", "--id", "kanmiao", "--pilot", "中牟县,410181", "--pilot", "410200")
        planned = succeed("publish", lesson(), "--origin", url, *words, "--dry-run", **env)
        assert planned["pilot"] == [["410122", "410181"], ["410200"]]
        succeed("publish", lesson(), "--origin", url, *words, **env)
        (told,) = succeed("origin", "pilots", root, "--dry-run")["pilots"]
        assert (told["courseware"], told["wave"], told["waves"]) == ("kanmiao", 1, planned["pilot"])


def test_a_line_that_keeps_breaking_is_no_reason_to_give_up(
    province: tuple[Path, dict[str, str]], lesson: Callable[..., Path]
) -> None:
    root, env = province
    path = lesson(text=TEXT * 4000)
    size = path.stat().st_size
    with (
        serving("origin", "serve", root, "--host", "127.0.0.1", "--port", "0", **FLOOR) as url,
        line_to(url, lambda number: 150_000 if number < 2 else None) as line,
    ):
        done = succeed("publish", path, "--origin", line.url, "--title", "小麦", **env)
        assert done["version"] == 1
        assert line.connections >= 3
        assert line.bytes_up < size + 200_000


def test_a_run_that_was_killed_is_taken_up_by_the_next(province: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    root, env = province
    path = make_mp4(tmp_path / "课.mp4", seconds=1)
    with path.open("ab") as file:
        filler = 40 << 20
        file.write(filler.to_bytes(4, "big") + b"free" + bytes(filler - 8))
    size = path.stat().st_size
    with (
        serving("origin", "serve", root, "--host", "127.0.0.1", "--port", "0", **FLOOR) as url,
        line_to(url, lambda _: 36 << 20) as line,
    ):
        line.is_silent = True
        command = [*PROGRAM, "publish", str(path), "--origin", line.url, "--title", "课"]
        process = subprocess.Popen(command, env={**os.environ, **env}, stderr=subprocess.DEVNULL)
        wait_until(line.reached.is_set)
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
        line.limit = lambda _: None
        assert succeed("publish", path, "--origin", line.url, "--title", "课", **env)["version"] == 1
        assert line.bytes_up < size + (10 << 20)


def _fails(code: int, part: str, *arguments: Any, **env: str) -> None:
    done = run(*arguments, **env)
    assert done.code == code, done.err
    assert part in done.err, done.err
    assert len(done.err.splitlines()) == 1


def test_exit_codes_say_what_to_do(
    province: tuple[Path, dict[str, str]], founded: tuple[Path, str], tmp_path: Path, lesson: Callable[..., Path]
) -> None:
    root, env = province
    good, bad = lesson(), lesson("假.mp4")
    secret = tmp_path / "token"
    secret.write_text(founded[1])
    secret.chmod(0o644)
    reader = asyncio.run(script_at(root, "lessons:read", role=Role.VIEWER, login="reader"))
    way = ("--title", "小麦")
    with serving("origin", "serve", root, "--host", "127.0.0.1", "--port", "0", **FLOOR) as url:
        _fails(2, "没有可用的接口令牌", "publish", good, "--origin", url, *way)
        _fails(2, "令牌无效", "publish", good, "--origin", url, *way, YUANJIAO_TOKEN="yj_wrong")
        _fails(2, "没有发布权限", "publish", good, "--origin", url, *way, YUANJIAO_TOKEN=reader)
        _fails(2, "可被其他用户读取", "publish", good, "--origin", url, *way, "--token-file", secret)
        _fails(2, "不符", "publish", bad, "--origin", url, *way, **env)
        _fails(2, "标题", "publish", good, "--origin", url, "--title", " ", **env)
        _fails(2, "受众", "publish", good, "--origin", url, *way, "--audience", "320000", **env)
        _fails(2, "--keys", "publish", good, "--origin", url, *way, "--keys", tmp_path, **env)
        _fails(2, "没有", "recall", "no-such-lesson", "--origin", url, "--reason", "x", **env)
        assert not list((root / "uploads").glob("*/*"))
        secret.chmod(0o600)
        env = {"XDG_STATE_HOME": env["XDG_STATE_HOME"]}
        assert succeed("publish", good, "--origin", url, *way, "--token-file", secret, **env)["version"] == 1
    _fails(4, "无法连接源站", "publish", good, "--origin", url, *way, "--token-file", secret, **env)


def test_when_the_keys_are_away_it_says_where_to_go(
    province: tuple[Path, dict[str, str]], tmp_path: Path, lesson: Callable[..., Path]
) -> None:
    root, env = province
    drawer = tmp_path / "drawer"
    drawer.mkdir()
    shutil.move(root / "keys" / "targets.pem", drawer)
    with serving("origin", "serve", root, "--host", "127.0.0.1", "--port", "0", **FLOOR) as url:
        _fails(2, "--keys", "publish", lesson(), "--origin", url, "--title", "小麦", **env)
        _fails(2, "--keys", "recall", "some-lesson", "--origin", url, "--reason", "x", **env)


@pytest.mark.parametrize("point", ["publish:begun", "publish:timestamp-renamed"])
def test_a_server_that_dies_in_the_middle_takes_the_publish_up_again(
    province: tuple[Path, dict[str, str]], lesson: Callable[..., Path], point: str
) -> None:
    root, env = province
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server = ("origin", "serve", str(root), "--host", "127.0.0.1", "--port", port)
    dying = subprocess.Popen(
        [*PROGRAM, *server],
        env={**os.environ, **FLOOR, VARIABLE: point},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert dying.stdout is not None
    url = dying.stdout.readline().strip()
    command = [*PROGRAM, "publish", str(lesson()), "--origin", url, "--title", "小麦", "--json"]
    publishing = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
    assert dying.wait(60) == -signal.SIGKILL
    with serving(*server, **FLOOR):
        out, _ = publishing.communicate(timeout=90)
        assert publishing.returncode == 0
        done = json.loads(out)
        # Numbers that a release had taken when it died are never used again; nothing was offered under them.
        assert done["version"] == (2 if point == "publish:begun" else 1)
        told = get(f"{url}/api/v1/lessons/{done['id']}", Authorization=f"Bearer {env['YUANJIAO_TOKEN']}")
        assert [one["version"] for one in json.loads(told.body)["versions"]] == [done["version"]]
        assert not list((root / "uploads").glob("*/*"))
        assert not list((root / "uploads").glob("*.lock"))
