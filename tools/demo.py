"""`yuanjiao demo`: a province on one machine, with real processes, real lines and real lessons.

An origin and a county's portal are processes of their own; each county's line is a relay that counts what crosses it.
The story: publish, sync two counties, revise a lesson, sync, recall a lesson, sync; then the portal stays open.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import click
from rich.console import Console

from manifests.errors import BusyError, ConfigurationError, TransferError
from origin.app import init_origin, open_origin
from origin.clock import system_clock
from tools.demo_province import County, Province
from tools.demo_table import traffic_table
from tools.doctor_machine import bind_fault
from tools.output import Output, show_progress
from tools.processes import serving
from tools.relay import open_relay
from tools.samples import Sample, make_samples

MARK = ".yuanjiao-demo"
COUNTIES = ("410122", "410225")
REVISED, RECALLED = "kj-dongxiaomai", "kj-cunjicaiwu"
_HOST = "127.0.0.1"
_CHECK_S = 10.0
_LOOK_S = 0.2
_PLAIN_WIDTH = 160  # in a file or a pipe nobody can widen the window
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Publishing the samples takes less than a bar needs to be read."""


def run_demo(directory: Path, port: int, output: Output, *, open_browser: bool) -> None:
    """Play the story and serve the first county's portal until Ctrl-C, SIGTERM or SIGHUP.

    Raises:
        ConfigurationError: environment; the directory is something else's, or the port is taken.
        BusyError: environment; a demo is running in this directory.
    """
    fault = bind_fault(_HOST, port)
    if fault is not None:
        raise ConfigurationError(
            f"port {port} cannot be listened on: {fault}",
            zh=f"端口 {port} 无法监听：{fault}",
            hint="choose another one: --port 0 takes any that is free",
            hint_zh="请换一个端口，--port 0 表示任选空闲端口",
        )
    with fresh_directory(directory):
        asyncio.run(_until_stopped(_Story(directory, port, output, open_browser)))


@contextmanager
def fresh_directory(directory: Path) -> Iterator[None]:
    """Empty an earlier demo's directory and hold it; anything else that is not empty is refused.

    Raises:
        ConfigurationError: caller's mistake; something else is in the directory.
        BusyError: environment; a demo is running there.
    """
    mark = directory / MARK
    directory.mkdir(parents=True, exist_ok=True)
    if not mark.exists() and any(directory.iterdir()):
        raise ConfigurationError(
            f"{directory} is not empty and no earlier demo made it",
            zh=f"{directory} 不是空目录，也不是之前的演示目录",
            hint="choose another one with --dir",
            hint_zh="请用 --dir 另选目录",
        )
    with mark.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(f"a demo is running in {directory}", zh=f"{directory} 中已有演示在运行") from error
        for path in directory.iterdir():
            if path.name == MARK:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        yield


async def _until_stopped(story: _Story) -> None:
    """Run the story; a signal ends it and everything that it started.

    Raises:
        click.Abort: a signal came before the portal was open.
    """
    task = asyncio.ensure_future(story.run())
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        if not story.is_open:
            raise click.Abort from None


@dataclass
class _Story:
    """The demo from the first key to the open portal.

    Attributes:
        is_open: the portal's address was printed; from here on, ending is the normal end.
    """

    directory: Path
    port: int
    output: Output
    open_browser: bool
    is_open: bool = False
    began_s: float = field(default_factory=time.monotonic)

    async def run(self) -> None:
        """Play; ends only by being cancelled."""
        root = self.directory / "origin"
        self._tell("制作样例课件并建立源站", "making sample courseware, and an origin")
        samples, _ = await asyncio.gather(
            self._make_samples(), init_origin(root, "410000", passphrase=None, clock=system_clock)
        )
        async with AsyncExitStack() as stack:
            origin = await stack.enter_async_context(open_origin(root, os.environ, system_clock))
            province = Province(origin)
            await self._publish_all(province, samples)
            log = self.directory / "origin.log"
            arguments = ("origin", "serve", str(root), "--host", _HOST, "--port", "0")
            url = await stack.enter_async_context(serving(arguments, log))
            self._tell(f"源站地址 {url}", f"origin at {url}")
            for code in COUNTIES:
                line = await stack.enter_async_context(open_relay(_HOST, urlsplit(url).port or 80))
                county = await province.enroll(code, self.directory / f"edge-{code}", line)
                self._tell(f"{county.name}（{code}）已开通", f"{county.name} ({code}) enrolled")
            await self._sync(province, "首次同步", "first sync")
            portal = await stack.enter_async_context(self._serve_portal(province.counties[0]))
            await self._revise_and_recall(province, samples)
            await check_portal(portal, RECALLED)
            self._open(province, portal)
            await asyncio.Event().wait()

    async def _make_samples(self) -> tuple[Sample, ...]:
        """In a thread; when we are cancelled it ends at its next sign of life."""
        stopped = threading.Event()
        directory = self.directory / "samples"
        directory.mkdir()
        with show_progress(self.output) as progress:

            def check(name: str, done: int, total: int) -> None:
                if stopped.is_set():
                    raise InterruptedError(name)
                progress(name, done, total)

            try:
                return await asyncio.to_thread(make_samples, directory, check)
            except asyncio.CancelledError:
                stopped.set()
                raise

    async def _publish_all(self, province: Province, samples: tuple[Sample, ...]) -> None:
        for sample in samples:
            self._tell(f"发布《{sample.title}》", f"publishing {sample.title}")
            await province.publish(sample, sample.files, _silent)

    async def _revise_and_recall(self, province: Province, samples: tuple[Sample, ...]) -> None:
        revised = next(sample for sample in samples if sample.id == REVISED)
        self._tell(f"发布《{revised.title}》修订版（剪去片头）", f"publishing {revised.title} without its intro")
        await province.publish(revised, revised.revised, _silent)
        await self._sync(province, "一课剪去片头", "one intro trimmed")
        recalled = next(sample for sample in samples if sample.id == RECALLED)
        self._tell(f"撤回《{recalled.title}》", f"recalling {recalled.title}")
        await province.recall(RECALLED, "内容需要核实")
        await self._sync(province, "撤回一课", "one recalled")
        await self._sync(province, "无变化", "nothing new")

    async def _sync(self, province: Province, zh: str, en: str) -> None:
        names = "、".join(county.name for county in province.counties)
        self._tell(f"同步 {names}：{zh}", f"syncing {names}: {en}")
        await province.sync(self.output.pick(zh, en))

    def _serve_portal(self, county: County) -> AbstractAsyncContextManager[str]:
        arguments = ("edge", "serve", str(county.directory), "--host", _HOST, "--port", str(self.port))
        return serving((*arguments, "--workers", "1"), county.directory.with_suffix(".log"))

    def _open(self, province: Province, portal: str) -> None:
        console = Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)
        console.print(traffic_table(province.rows, self.output))
        self._tell(
            f"{province.counties[0].name}门户已就绪，按 Ctrl-C 结束：",
            f"the portal of {province.counties[0].name} is open; Ctrl-C ends the demo:",
        )
        click.echo(f"{portal}/")
        sys.stdout.flush()
        self.is_open = True
        if self.open_browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            webbrowser.open(f"{portal}/")

    def _tell(self, zh: str, en: str) -> None:
        seconds = time.monotonic() - self.began_s
        self.output.say(f"[{seconds:5.1f} s] {zh}", f"[{seconds:5.1f} s] {en}")
        sys.stdout.flush()


async def check_portal(portal: str, recalled: str) -> None:
    """The portal must answer, and must not know the recalled lesson any more.

    Raises:
        TransferError: environment; it does not so within the deadline.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CHECK_S)) as session:
        try:
            async with asyncio.timeout(_CHECK_S), session.get(f"{portal}/healthz") as answer:
                answer.raise_for_status()
            async with asyncio.timeout(_CHECK_S):
                # Polled: the portal is another process and looks for news itself once a second.
                while not await _is_gone(session, f"{portal}/api/courseware/{recalled}"):  # noqa: ASYNC110 - see above
                    await asyncio.sleep(_LOOK_S)
        except (TimeoutError, aiohttp.ClientError) as error:
            raise TransferError(
                f"the portal does not show the last release: {error}", zh=f"门户未能显示最新内容：{error}"
            ) from error


async def _is_gone(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(url) as answer:
        return answer.status in {404, 410}
