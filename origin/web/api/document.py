"""The OpenAPI 3.1 document, made from the table of operations and the models; nothing in it is written twice."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from origin.web.api.models_drafts import Problem
from origin.web.api.operations import API, Nothing, Operation

_SCHEMAS: Final = "#/components/schemas/{name}"
_PROBLEMS: Final = {
    "400": "refused: the request does not fit; nothing was changed",
    "401": "nobody is signed in, or the token opens nothing",
    "403": "the role or the token lacks the right",
    "404": "there is no such thing, or it is another region's",
    "405": "there is no such method here",
    "409": "not as things stand: a signing key is not on this machine, something is in use, or was changed meanwhile",
    "413": "the body is too long",
    "429": "too many guesses; `wait_s` says how long to wait",
    "503": "busy or not ready; try again",
    "507": "the origin's storage failed",
}


def make_document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """The document as a value to encode."""
    every = tuple(operations)
    kinds = {kind for one in every for kind in (one.body, one.answer, Problem) if kind is not None}
    _, components = msgspec.json.schema_components(sorted(kinds, key=lambda one: one.__name__), ref_template=_SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for one in every:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Yuanjiao origin 远教源站",
            "version": version,
            "description": "Everything that the console does. Instants are UTC, sizes are bytes. "
            "控制台的全部功能；时间为 UTC，大小为字节。",
        },
        "servers": [{"url": API}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "made in the console 在控制台中新建"},
                "session": {"type": "apiKey", "in": "cookie", "name": "yj_session"},
            },
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    right = f" Scope: `{one.action}`." if one.action else ""
    session = " A session is needed; a token is not enough." if one.own_session else ""
    found: dict[str, Any] = {
        "operationId": one.name,
        "summary": f"{one.summary} {one.summary_zh}",
        "description": f"{one.summary}.{right}{session}",
        "tags": [one.path.split("/")[1]],
        "parameters": _parameters(one),
        "responses": {**_success(one), **{code: _problem(text) for code, text in _PROBLEMS.items()}},
    }
    if one.own_session:
        found["security"] = [{"session": []}]
    if one.body is not None:
        content = {"application/json": {"schema": _reference(one.body)}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _parameters(one: Operation) -> list[dict[str, Any]]:
    if one.where is Nothing:
        return []
    _, components = msgspec.json.schema_components((one.where,), ref_template=_SCHEMAS)
    schema = components[one.where.__name__]
    in_path = set(re.findall(r"{(\w+)}", one.path))
    found = []
    for name, field in schema["properties"].items():
        is_path = name in in_path
        # A text that is absent is left out; the null of an optional field has no spelling in an address.
        if "anyOf" in field:
            parts = [part for part in field["anyOf"] if part != {"type": "null"}]
            field = parts[0] if len(parts) == 1 else {**field, "anyOf": parts}
        field = {key: value for key, value in field.items() if not (key == "default" and value is None)}
        where = "path" if is_path else "query"
        found.append({"name": name, "in": where, "required": is_path, "schema": field})
    return found


def _success(one: Operation) -> dict[str, Any]:
    if one.answer is None:
        return {"204": {"description": "done"}}
    content = {"application/json": {"schema": _reference(one.answer)}}
    return {"200": {"description": (one.answer.__doc__ or "").partition("\n")[0], "content": content}}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _reference(Problem)}}}


def _reference(kind: type[Struct]) -> dict[str, str]:
    return {"$ref": _SCHEMAS.format(name=kind.__name__)}
