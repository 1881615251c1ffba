"""A server that dies between any two steps of an upload: what was counted is there, and the rest is sent again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from support.origins import found_origin
from support.program import PROGRAM
from support.uploads import Sender, script_at

from origin.publish.failpoints import UPLOAD_POINTS, VARIABLE

TEXT = "# 冬小麦返青期管理\n\n先看苗情，再定水肥。\n".encode() * 900
HALF = len(TEXT) // 2


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = found_origin(tmp_path_factory.mktemp("founded") / "origin")
    return root, asyncio.run(script_at(root, "lessons:publish"))


def _serve(root: Path, point: str = "") -> tuple[subprocess.Popen[str], str]:
    command = [*PROGRAM, "origin", "serve", str(root), "--host", "127.0.0.1", "--port", "0"]
    env = {**os.environ, "YUANJIAO_UPLOADS_FLOOR_BYTES": "0", **({VARIABLE: point} if point else {})}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.parametrize("point", UPLOAD_POINTS)
async def test_killed_at_any_point_an_upload_goes_on(founded: tuple[Path, str], tmp_path: Path, point: str) -> None:
    root = Path(shutil.copytree(founded[0], tmp_path / "origin"))
    async with aiohttp.ClientSession() as session:
        process, address = await asyncio.to_thread(_serve, root)
        script = Sender(session, address, founded[1])
        path = await script.begin("讲义.txt", len(TEXT))
        assert (await script.send(path, 0, TEXT[:HALF])).offset == HALF
        process.kill()  # in the quiet: what was answered for is kept
        assert await asyncio.to_thread(process.wait, 30) == -signal.SIGKILL

        process, address = await asyncio.to_thread(_serve, root, point)
        script = Sender(session, address, founded[1])
        assert (await script.head(path)).offset == HALF
        with suppress(aiohttp.ClientError, OSError):
            await script.send(path, HALF, TEXT[HALF:])
        assert await asyncio.to_thread(process.wait, 60) == -signal.SIGKILL

        process, address = await asyncio.to_thread(_serve, root)
        try:
            script = Sender(session, address, founded[1])
            at = (await script.head(path)).offset
            assert at == (len(TEXT) if point in {"upload:counted", "upload:checked"} else HALF)
            if at < len(TEXT):
                assert (await script.send(path, at, TEXT[at:])).offset == len(TEXT)
            found = await script.checked(path)
            assert found["state"] == "ready", found
            assert found["sha256"] == hashlib.sha256(TEXT).hexdigest()
            (file,) = (root / "uploads").glob("*/*")
            assert file.read_bytes() == TEXT
        finally:
            process.terminate()
            assert await asyncio.to_thread(process.wait, 60) == 0
