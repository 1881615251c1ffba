"""An origin over HTTP: its API as a script uses it, with a token. Refusals come back as the errors that they are."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from manifests.bundle import check_upstream
from manifests.errors import (
    ConfigurationError,
    DeniedError,
    InputError,
    NotFoundError,
    SignInError,
    ThrottledError,
    TransferError,
    YuanjiaoError,
)

TOKEN: Final = "YUANJIAO_TOKEN"  # noqa: S105 - the variable's name, not a token
DELAYS_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
_CONNECT_S: Final = 15.0
_ANSWER_S: Final = 60.0
_MOST_ANSWER_BYTES: Final = 8 << 20
_REFUSALS: Final[Mapping[int, type[InputError]]] = {401: SignInError, 403: DeniedError, 404: NotFoundError}


class _Problem(Struct, frozen=True):
    error: str = ""
    error_zh: str = ""
    hint: str = ""
    hint_zh: str = ""
    wait_s: int = 0


def read_token(path: Path | None, env: Mapping[str, str]) -> str:
    """The token from a file, else from the environment: never from the command line, which others can read.

    Raises:
        ConfigurationError: environment; there is none, or others may read the file.
    """
    if path is None:
        token = env.get(TOKEN, "").strip()
    else:
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise ConfigurationError(
                    f"{path} may be read by others",
                    zh=f"令牌文件 {path} 可被其他用户读取",
                    hint=f"chmod 600 {path}",
                    hint_zh=f"请运行 chmod 600 {path}",
                )
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path} cannot be read", zh=f"无法读取令牌文件 {path}") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            "no token for the origin's API",
            zh="没有可用的接口令牌",
            hint=f"make one in the console, under your own account, and put it into {TOKEN} or a file (--token-file)",
            hint_zh=f"请在控制台“我的账号”中新建令牌，写入环境变量 {TOKEN} 或文件（--token-file）",
        )
    return token


class Remote:
    """One origin."""

    def __init__(self, session: aiohttp.ClientSession, base: str, token: str) -> None:
        self._session = session
        self._fields = {"Authorization": f"Bearer {token}"}
        self.base = base

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask once; the answer's JSON, None when there is none.

        Raises:
            InputError: bad data; the origin's own words.
            TransferError: environment; it could not be reached, or is in trouble.
        """
        fields, data = {}, None
        if body is not None:
            fields, data = {"Content-Type": "application/json"}, msgspec.json.encode(body)
        status, _, text = await self.send(method, path, data, fields)
        if status >= 300:
            raise refusal(status, text)
        try:
            return msgspec.json.decode(text) if text else None
        except msgspec.DecodeError as error:
            raise TransferError(f"{self.base} answered with no JSON", zh="源站返回的内容无法识别") from error

    async def ask_again(self, method: str, path: str, delays_s: tuple[float, ...] = DELAYS_S) -> Any:
        """Ask for something that may be asked for twice, until it is answered or patience ends.

        Raises:
            YuanjiaoError: as `ask` does.
        """
        for delay_s in delays_s:
            try:
                return await self.ask(method, path)
            except TransferError:
                await asyncio.sleep(delay_s)
        return await self.ask(method, path)

    async def send(
        self, method: str, path: str, data: Any, fields: Mapping[str, str], *, asks_first: bool = False
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request; status, header fields and body of the answer, whatever it is.

        Args:
            method: of the request.
            path: below the base address, with its query.
            data: its body; None for none.
            fields: header fields beside the token's.
            asks_first: the body leaves when the origin has said that it wants it.

        Raises:
            TransferError: environment; no answer came.
        """
        url = URL(f"{self.base}{path}", encoded=True)
        try:
            # No redirects: the token is for this origin and for nobody whom it names.
            async with self._session.request(
                method,
                url,
                data=data,
                headers={**self._fields, **fields},
                allow_redirects=False,
                expect100=asks_first,
            ) as answer:
                text = await answer.content.read(_MOST_ANSWER_BYTES)
                return answer.status, answer.headers, text
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise TransferError(
                f"{self.base} does not answer: {reason}"[:300],
                zh=f"无法连接源站 {self.base}",
                hint="check the address and the line, then run the command again: it goes on where it stopped",
                hint_zh="请检查地址和网络后重新运行，将从中断处继续",
            ) from error


def refusal(status: int, text: bytes) -> YuanjiaoError:
    """An answer that is no success, as an error."""
    try:
        told = msgspec.json.decode(text, type=_Problem)
    except (msgspec.DecodeError, UnicodeError):
        told = _Problem()
    if status == 429:
        return ThrottledError(told.wait_s)
    words = told.error or f"the origin answered with status {status}"
    words_zh = told.error_zh or f"源站返回状态 {status}"
    if status >= 500 or status == 408:
        return TransferError(f"the origin is in trouble: {words}", zh=f"源站异常：{words_zh}")
    if 300 <= status < 400:
        return ConfigurationError(
            "the origin's address leads elsewhere", zh="源站地址发生跳转", hint="name the address it leads to"
        )
    family = _REFUSALS.get(status, InputError)
    return family(words, zh=words_zh, hint=told.hint, hint_zh=told.hint_zh)


@asynccontextmanager
async def open_remote(where: str, token: str) -> AsyncIterator[Remote]:
    """An origin by its address.

    Raises:
        InputError: bad data; no address.
    """
    base = check_upstream(where)
    timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_read=_ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Remote(session, base, token)
