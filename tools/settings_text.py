"""Changing sections of a settings file as text, so that a person's comments and order stay."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_HEADER = re.compile(r"^\s*\[\s*([A-Za-z_]+)\s*\]\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z_]+)\s*=")


def with_sections(text: str, sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Set keys of sections; other lines stay as they are. Who calls it checks what the text now means.

    Args:
        text: TOML whose values stand on one line each, as a person writes settings.
        sections: new values (texts, numbers, truths) by section and key.
    """
    lines = text.splitlines()
    for section, values in sections.items():
        lines = _with_section(lines, section, values)
    return "\n".join(lines) + "\n"


def _with_section(lines: list[str], section: str, values: Mapping[str, Any]) -> list[str]:
    new = [f"{key} = {_value(value)}" for key, value in values.items()]
    kept: list[str] = []
    inside = found = False
    for line in lines:
        header = _HEADER.match(line)
        if header is not None:
            inside = header[1] == section
        key = _KEY.match(line)
        if inside and key is not None and key[1] in values:
            continue
        kept.append(line)
        if inside and header is not None:
            kept += new
            found = True
    return kept if found else [*kept, "", f"[{section}]", *new]


def _value(value: object) -> str:
    # A JSON text is a TOML text too, and so are its numbers and truths.
    return json.dumps(value, ensure_ascii=False)
