"""Settings as rows: one frozen Struct per side, read from TOML text and environment, all faults told together.

A side declares `class Settings(Struct)` whose fields are sections, each again a Struct whose fields are settings:
`port: Annotated[int, Setting("TCP port", "监听端口", unit="", ge=1)] = 8080`. The same declaration gives the type,
the default, the limits, the README's table and the environment's name (`YUANJIAO_SERVE_PORT` for `serve.port`).
"""

from __future__ import annotations

import math
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from manifests.errors import ConfigurationError

PREFIX = "YUANJIAO_"

T = TypeVar("T", bound=Struct)


def row(help_en: str, help_zh: str, *, unit: str = "", **limits: Any) -> Meta:
    """Describe one setting; `limits` are msgspec's (`ge`, `le`, `pattern`, `min_length`, `max_length`)."""
    return Meta(description=help_en, extra={"zh": help_zh, "unit": unit}, **limits)


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as documents show it."""

    name: str
    env: str
    default: Any
    unit: str
    help_en: str
    help_zh: str
    type: Any


def rows_of(settings: type[Struct]) -> tuple[Row, ...]:
    """All settings of one side, in the order of declaration."""
    found: list[Row] = []
    sections = typing.get_type_hints(settings, include_extras=True)
    for section in settings.__struct_fields__:
        struct = sections[section]
        hints = typing.get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            hint = hints[field.name]
            meta = next(arg for arg in typing.get_args(hint) if isinstance(arg, Meta))
            extra: dict[str, str] = dict(meta.extra or {})
            default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
            found.append(
                Row(
                    name=f"{section}.{field.name}",
                    env=f"{PREFIX}{section}_{field.name}".upper(),
                    default=default,
                    unit=extra.get("unit", ""),
                    help_en=meta.description or "",
                    help_zh=extra.get("zh", ""),
                    type=hint,
                )
            )
    return tuple(found)


class _Fault(NamedTuple):
    en: str
    zh: str


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def load_settings(settings: type[T], text: str, env: Mapping[str, str], where: str) -> T:
    """Build settings from TOML text, then environment overrides on top.

    Args:
        settings: the side's Struct; every section and field has a default.
        text: contents of origin.toml or edge.toml.
        env: environment; a name of one of this side's sections must be a setting, others are left alone.
        where: the file's name, for messages.

    Raises:
        ConfigurationError: bad data; every fault in one message, one after another.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"{where} is not TOML: {error}", zh=f"{where} 不是有效的 TOML 文件（{error}）"
        ) from error
    rows = {one.name: one for one in rows_of(settings)}
    faults: list[_Fault] = []
    values: dict[str, dict[str, Any]] = {section: {} for section in settings.__struct_fields__}
    for section, body in document.items():
        if section not in values:
            faults.append(_Fault(f"unknown section or key {section!r}", f"未知的配置节或配置项 {section!r}"))
        elif not isinstance(body, dict):
            faults.append(_Fault(f"{section!r} must be a section [{section}]", f"{section} 应写成配置节 [{section}]"))
        else:
            for key, value in body.items():
                _take(rows, values, f"{section}.{key}", value, True, faults)
    for one in rows.values():
        if one.env in env:
            _take(rows, values, one.name, env[one.env], False, faults)
    faults += _misspelt(rows.values(), values, env)
    if faults:
        raise ConfigurationError(
            f"{where}: " + "; ".join(fault.en for fault in faults),
            zh=f"{where} 配置有误：" + "；".join(fault.zh for fault in faults),
            hint="correct these keys (`README.md`, Settings, lists all of them)",
            hint_zh="请改正以上配置项（README.md 的“Settings 设置”一节列出了全部配置项）",
        )
    parts = {
        section: typing.get_type_hints(settings)[section](**values[section]) for section in settings.__struct_fields__
    }
    return settings(**parts)


def _misspelt(rows: Iterable[Row], sections: Iterable[str], env: Mapping[str, str]) -> list[_Fault]:
    known = {one.env for one in rows}
    prefixes = tuple(f"{PREFIX}{section}_".upper() for section in sections)
    return [
        _Fault(f"unknown variable {name!r} in the environment", f"未知的环境变量 {name}")
        for name in sorted(env)
        if name.startswith(prefixes) and name not in known
    ]


def _take(
    rows: Mapping[str, Row],
    values: dict[str, dict[str, Any]],
    name: str,
    value: Any,
    strict: bool,
    faults: list[_Fault],
) -> None:
    known = rows.get(name)
    if known is None:
        faults.append(_Fault(f"unknown key {name!r}", f"未知的配置项 {name!r}"))
        return
    if not strict and typing.get_origin(typing.get_args(known.type)[0]) in {tuple, list}:
        value = [part.strip() for part in str(value).split(",") if part.strip()]
    source = "" if strict else f" (from {known.env})"
    source_zh = " " if strict else f"（来自环境变量 {known.env}）"
    try:
        section, key = name.split(".", 1)
        taken = msgspec.convert(value, known.type, strict=strict)
    except msgspec.ValidationError as error:
        faults.append(_Fault(f"{name}{source}: {error}", f"{name}{source_zh}的值 {_shown(value)} 不合要求（{error}）"))
        return
    if isinstance(taken, float) and not math.isfinite(taken):
        # nan passes every limit
        fault = f"{name}{source}: {taken} is not a number to work with"
        faults.append(_Fault(fault, f"{name}{source_zh}的值 {taken} 不是可用的数"))
        return
    values[section][key] = taken
