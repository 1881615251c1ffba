"""Logs: for people on a terminal, JSON lines otherwise, secrets in neither.

Our own events (structlog) and those of libraries (standard logging) pass one chain, so that a line has one form
whoever wrote it. Secrets are taken out last, just before the text is made, when nothing can be added any more.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

REDACTED = "[redacted]"
QUIET = logging.CRITICAL + 10  # above every level: one-shot commands speak through their result and their error line

_SECRET_KEY = re.compile(r"(?i)secret|passphrase|password|private|authorization|cookie|credential|(?:^|[_-])token$")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
# `passphrase=…`, `"private_key": "…"`, `Authorization: Bearer …` inside text that somebody else put together.
_SECRET_TEXT = re.compile(
    r"""(?ix)( [\w-]* (?:secret|passphrase|password|private|authorization|cookie|credential) [\w-]* | \b token
        | x-amz-signature | x-amz-security-token )
        (["']? \s* [=:] \s*) (?: "[^"]*" | '[^']*' | (?:bearer|basic)\s+\S+ | [^\s,;)}\]]+ )"""
)
_URL_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_LEAD = ("timestamp", "level", "logger", "event")
# Libraries that report every small step at INFO; their warnings still come through.
_CHATTY = ("alembic", "aiosqlite", "asyncio", "boto3", "botocore", "s3transfer", "tuf", "urllib3", "markdown_it")


def redact_text(text: str) -> str:
    """Take PEM blocks, `key=value` secrets and user parts of addresses out of a text."""
    text = _PEM.sub(REDACTED, text)
    text = _SECRET_TEXT.sub(rf"\1\2{REDACTED}", text)
    return _URL_USER.sub(REDACTED, text)


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor that takes secrets out of an event, at any depth."""
    for key in list(event):
        event[key] = _clean(key, event[key])
    return event


def _lead_with(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put what every line has first, so that a person can read JSON lines too."""
    return {name: event.pop(name) for name in _LEAD if name in event} | dict(event)


def _clean(key: str, value: object) -> object:
    if key and _SECRET_KEY.search(key):
        return REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {str(name): _clean(str(name), one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", one) for one in value]
    if isinstance(value, bytes | bytearray):
        return redact_text(bytes(value).decode("utf-8", "replace"))
    # Anything else would become text in the renderer, past this point: make it text here.
    return redact_text(str(value))


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at that moment, so that a replaced stream is not written to after its end."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError(value)


def configure_logs(stream: TextIO | None = None, *, level: int = logging.INFO, terminal: bool | None = None) -> None:
    """Set up structlog and standard logging for this process.

    Args:
        stream: where lines go; standard error when None.
        level: least level that is shown; `QUIET` shows none.
        terminal: True for people, False for JSON lines; None asks the stream.
    """
    out = stream or sys.stderr
    for_people = out.isatty() if terminal is None else terminal
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a later call in the same process (tests, demo) must take effect
    )
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=out.isatty())
        if for_people
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            _lead_with,
            renderer,
        ],
    )
    handler = _StandardError() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
