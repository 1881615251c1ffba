"""The API as scripts see it: its document is true, whatever is sent, and every refusal has one form."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from support.console import COUNTY, PROVINCE, Browser, Console
from support.drafts import make_draft
from support.receipts import article, make_edge

from origin.accounts.permissions import Role
from origin.web.api.document import make_document
from origin.web.api.table import OPERATIONS

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]
# What would end the session that all other requests are made with comes last.
LAST = ("me.devices.end",)


def _drive(url: str, headers: dict[str, str]) -> set[int]:
    """Send to each operation what its document allows, and what it does not; gives the statuses that came back."""
    schema = schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")
    statuses: set[int] = set()
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == len(OPERATIONS)
    for operation in sorted(operations, key=lambda one: one.definition.raw["operationId"] in LAST):
        strategy = operation.as_strategy()

        @settings(
            max_examples=4,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def check(case: Any) -> None:
            answer = case.call(headers=headers, timeout=60)
            statuses.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        check()
    return statuses


async def test_nothing_that_is_sent_makes_the_api_fail_and_the_document_is_true(
    console: Console, tmp_path: Path
) -> None:
    await article(console.origin, tmp_path, "xiaomai")
    await make_edge(console.origin, console.url, tmp_path / "edge", COUNTY)
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE)
    await console.person("viewer", Role.VIEWER, COUNTY)
    await make_draft(admin, title="第一稿", article="<p>x</p>")
    cookie = f"yj_session={admin.cookie('yj_session')}"
    statuses = await asyncio.to_thread(_drive, console.url, {"Cookie": cookie, "Origin": console.url})
    assert {200, 400} <= statuses


def test_the_document_names_every_operation_with_what_it_takes_and_gives() -> None:
    document = make_document(OPERATIONS, "1")
    assert document["openapi"] == "3.1.0"
    for one in OPERATIONS:
        told = document["paths"][one.path][one.method.lower()]
        assert told["operationId"] == one.name
        assert ("requestBody" in told) == (one.body is not None)
        named = {parameter["name"]: parameter["in"] for parameter in told["parameters"]}
        assert named.keys() == set(one.where.__struct_fields__)
        assert {name for name, where in named.items() if where == "path"} == {
            part.strip("{}") for part in one.path.split("/") if part.startswith("{")
        }
    text = json.dumps(document)
    names = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])


async def _refused(browser: Browser, path: str) -> tuple[int, dict[str, Any]]:
    page = await browser.get(f"/api/v1{path}")
    return page.status, json.loads(page.text)


async def test_refusals_say_what_happened_and_what_to_do_in_both_languages(console: Console) -> None:
    viewer = await console.person("viewer", Role.VIEWER, COUNTY)
    for path, status in (
        ("/accounts", 403),
        ("/lessons?page=0", 400),
        ("/lessons?nothing=1", 400),
        ("/lessons/NOT-AN-ID", 400),
        ("/lessons/nothing-here", 404),
        ("/edges/410122-9", 404),
    ):
        found, told = await _refused(viewer, path)
        assert found == status, path
        assert all(told[name] for name in ("error", "error_zh", "hint", "hint_zh"))
    assert (await _refused(console.browser(), "/me"))[0] == 401


async def test_a_role_without_its_second_factor_may_set_it_up_and_nothing_else(console: Console) -> None:
    admin = await console.person("admin", Role.PROVINCE_ADMIN, PROVINCE, enrol=False)
    assert (await _refused(admin, "/me"))[0] == 200
    for path in ("/overview", "/accounts", "/audit", "/lessons"):
        status, told = await _refused(admin, path)
        assert status == 403
        assert "second factor" in told["error"]
