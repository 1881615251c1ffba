"""Settings as rows: one declaration, all faults at once, the environment on top."""

from typing import Annotated

import pytest
from msgspec import Struct

from manifests.errors import ConfigurationError
from manifests.settings import load_settings, row, rows_of


class Serve(Struct, frozen=True):
    port: Annotated[int, row("TCP port", "监听端口", ge=1, le=65535)] = 8080
    host: Annotated[str, row("address", "监听地址", min_length=1)] = "127.0.0.1"
    quiet: Annotated[bool, row("no access log", "不记录访问日志")] = False


class Sync(Struct, frozen=True):
    grace_s: Annotated[float, row("patience", "等待时间", unit="s", ge=0.5)] = 2.0
    upstreams: Annotated[tuple[str, ...], row("upstreams, best first", "上游地址")] = ()


class Settings(Struct, frozen=True):
    serve: Serve = Serve()
    sync: Sync = Sync()


def load(text: str = "", env: dict[str, str] | None = None) -> Settings:
    return load_settings(Settings, text, env or {}, "edge.toml")


def test_defaults() -> None:
    assert load() == Settings()


def test_file_then_environment() -> None:
    text = '[serve]\nport = 9000\nquiet = true\n[sync]\ngrace_s = 3\nupstreams = ["a", "b"]\n'
    settings = load(text, {"YUANJIAO_SERVE_PORT": "9001", "YUANJIAO_SYNC_UPSTREAMS": " c, d ,", "PATH": "/bin"})
    assert settings == Settings(Serve(9001, quiet=True), Sync(3.0, ("c", "d")))
    assert isinstance(settings.sync.grace_s, float)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("False", False), ("0", False)])
def test_truth_in_the_environment(text: str, value: bool) -> None:
    assert load(env={"YUANJIAO_SERVE_QUIET": text}).serve.quiet is value


def test_names_that_are_not_ours_are_left_alone() -> None:
    assert load(env={"YUANJIAO_KEYS_PASSPHRASE": "secret", "YUANJIAO_FAILPOINT": "x"}) == Settings()


def test_all_faults_are_told_together() -> None:
    text = 'speed = 1\n[serve]\nport = 0\nprot = 1\nhost = ""\nquiet = "yes"\n[snyc]\na = 1\n'
    text += "[sync]\ngrace_s = nan\nupstreams = [1]\n"
    with pytest.raises(ConfigurationError) as caught:
        load(text, {"YUANJIAO_SERVE_PORT": "x"})
    for fault in (
        "'speed'",
        "serve.port: ",
        "'serve.prot'",
        "serve.host",
        "serve.quiet",
        "'snyc'",
        "sync.grace_s",
        "sync.upstreams",
        "(from YUANJIAO_SERVE_PORT)",
    ):
        assert fault in caught.value.message
        assert fault.removesuffix(": ").removeprefix("(from ").removesuffix(")") in caught.value.zh
    assert caught.value.message.count(";") == caught.value.zh.count("；") == 8
    assert caught.value.exit_code == 2
    assert "edge.toml" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "serve = 1",
        "[serve]\nport = 80.5",
        '[serve]\nport = "80"',
        "[serve]\nport = true",
        "[[serve]]\nport = 1",
        "[serve.port]\na = 1",
    ],
)
def test_wrong_shapes(text: str) -> None:
    with pytest.raises(ConfigurationError, match="serve"):
        load(text)


@pytest.mark.parametrize("text", ["[serve", "port 80", "a = 1\na = 2", "\0"])
def test_text_that_is_no_toml(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"edge\.toml is not TOML"):
        load(text)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "", "2s"])
def test_numbers_from_the_environment(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sync\.grace_s \(from YUANJIAO_SYNC_GRACE_S\)"):
        load(env={"YUANJIAO_SYNC_GRACE_S": value})


def test_rows_carry_what_documents_show() -> None:
    rows = {one.name: one for one in rows_of(Settings)}
    assert list(rows) == ["serve.port", "serve.host", "serve.quiet", "sync.grace_s", "sync.upstreams"]
    grace = rows["sync.grace_s"]
    assert (grace.env, grace.default, grace.unit) == ("YUANJIAO_SYNC_GRACE_S", 2.0, "s")
    assert (grace.help_en, grace.help_zh) == ("patience", "等待时间")
