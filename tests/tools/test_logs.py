"""Logs: one form for all writers, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from tools.logs import QUIET, REDACTED, configure_logs, redact_text

PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAbc\n-----END PRIVATE KEY-----\n"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_carry_time_level_logger_event() -> None:
    out = io.StringIO()
    configure_logs(out)
    structlog.get_logger("edge.sync.runner").info("sync_done", bytes_fetched=12, region="410122", title="小麦")
    line = json.loads(out.getvalue())
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d+Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "logger": "edge.sync.runner",
        "event": "sync_done",
        "bytes_fetched": 12,
        "region": "410122",
        "title": "小麦",
    }
    assert "小麦" in out.getvalue()


def test_standard_logging_takes_the_same_form() -> None:
    out = io.StringIO()
    configure_logs(out)
    logging.getLogger("aiohttp.server").warning("bad %s", "request")
    line = json.loads(out.getvalue())
    assert (line["event"], line["logger"], line["level"]) == ("bad request", "aiohttp.server", "warning")


def test_people_get_plain_lines() -> None:
    out = io.StringIO()
    configure_logs(out, terminal=True)
    structlog.get_logger("origin.app").warning("signature_due", role="snapshot")
    assert "signature_due" in out.getvalue()
    assert "role=snapshot" in out.getvalue()
    assert not out.getvalue().startswith("{")


@pytest.mark.parametrize(("level", "count"), [(logging.INFO, 1), (logging.DEBUG, 2), (QUIET, 0)])
def test_level(level: int, count: int) -> None:
    out = io.StringIO()
    configure_logs(out, level=level)
    structlog.get_logger("x").debug("a")
    structlog.get_logger("x").info("b")
    assert len(out.getvalue().splitlines()) == count


def _fail() -> None:
    raise RuntimeError(f"cannot read {PEM}")


class _Holder:
    def __repr__(self) -> str:
        return f"Holder(private_key={PEM!r})"


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "fields",
    [
        {"passphrase": "hunter22"},
        {"client_secret": "hunter22"},
        {"private_key": "hunter22"},
        {"token": "hunter22"},
        {"Authorization": "Bearer hunter22"},
        {"headers": {"authorization": "Bearer hunter22"}},
        {"nested": [{"deep": {"password": "hunter22"}}]},
        {"text": "YUANJIAO_KEYS_PASSPHRASE=hunter22 given"},
        {"text": '{"private_key": "hunter22"}'},
        {"text": "Authorization: Bearer hunter22"},
        {"url": "http://user:hunter22@10.1.2.3:8080/blobs"},
        {"url": "http://store/b/x?X-Amz-Expires=9&X-Amz-Signature=hunter22"},
        {"key": PEM.replace("MC4CAQAwBQYDK2VwBCIEIAbc", "hunter22")},
        {"key": PEM.replace("MC4CAQAwBQYDK2VwBCIEIAbc", "hunter22").encode()},
        {"half": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nhunter22"},
    ],
)
def test_no_secret_is_logged(fields: dict[str, object], terminal: bool) -> None:
    out = io.StringIO()
    configure_logs(out, terminal=terminal)
    structlog.get_logger("x").info("event", **fields)
    assert REDACTED in out.getvalue()
    assert "hunter22" not in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_no_secret_comes_through_messages_values_or_tracebacks(terminal: bool) -> None:
    out = io.StringIO()
    configure_logs(out, terminal=terminal)
    logging.getLogger("lib").error("key is %s", PEM)
    structlog.get_logger("x").info("event", holder=_Holder())
    try:
        _fail()
    except RuntimeError:
        structlog.get_logger("x").exception("failed")
        logging.getLogger("lib").exception("failed")
    assert "MC4CAQ" not in out.getvalue()
    assert out.getvalue().count("RuntimeError") >= 2


def test_what_is_no_secret_stays() -> None:
    text = "signed by key 3f2a… private key written to keys/root.pem, 12 tokens left"
    assert redact_text(text) == text
