"""Publishing and recalling over an origin's API: what `publish` and `recall` do when they are given an address."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manifests.errors import (
    InputError,
    NotFoundError,
    StorageError,
    TransferError,
    UntrustedError,
    YuanjiaoError,
)
from manifests.names import Region, parse_courseware_id, parse_reason
from tools.cli_common import Call
from tools.output import Progress, show_progress
from tools.remote import Remote, open_remote, read_token
from tools.remote_upload import Sending, notes_of

if TYPE_CHECKING:
    from manifests.names import CoursewareId
    from origin.publish.publish import PublishPlan, PublishRequest

    Foreseen = tuple[PublishPlan, CoursewareId, tuple[str, int] | None]

_ASK_S: Final = 1.0
_FAMILIES: Final = {2: InputError, 3: UntrustedError, 4: TransferError, 5: StorageError}


async def foresee(where: str, token_file: Path | None, request: PublishRequest) -> Foreseen:
    """What a publish would come to: looked into here, as the origin would with its usual settings. Changes nothing.

    Raises:
        YuanjiaoError: as the local command does; also when the origin does not answer.
    """
    async with open_remote(where, read_token(token_file, os.environ)) as remote:
        plan, id_ = await _plan(await _region(remote), request)
        return plan, id_, await _offered(remote, id_)


async def publish(call: Call, where: str, token_file: Path | None, request: PublishRequest) -> dict[str, Any]:
    """Look into the files, send them, have the origin publish them; what the origin says of the result.

    Raises:
        YuanjiaoError: as the local command does; also when the origin does not answer.
    """
    async with open_remote(where, read_token(token_file, os.environ)) as remote:
        # First here: what the origin would refuse need not travel.
        await _plan(await _region(remote), request)
        with show_progress(call.output) as progress:
            sending = Sending(remote, notes_of(os.environ), progress)
            sent = [await sending.send(path) for path in request.files]
            asked = await remote.ask("POST", "/api/v1/publishes", _body(request, [one.id for one in sent]))
            done = await _published(remote, asked["id"], progress)
            for one in sent:
                sending.forget(one)
            return done


async def recall(call: Call, where: str, token_file: Path | None, courseware_id: str, reason: str) -> dict[str, Any]:
    """Recall a courseware, or under --dry-run say what would be recalled.

    Raises:
        YuanjiaoError: as the local command does; also when the origin does not answer.
    """
    name, why = parse_courseware_id(courseware_id), parse_reason(reason)
    async with open_remote(where, read_token(token_file, os.environ)) as remote:
        if call.dry_run:
            found = await remote.ask("GET", f"/api/v1/lessons/{name}")
            if found["offered_version"] is None:
                raise InputError(f"courseware {name!r} is not in the catalog", zh=f"目录中没有课件 {name!r}")
            return {"id": name, "version": found["offered_version"], "title": found["title"], "dry_run": True}
        done = await remote.ask("POST", f"/api/v1/lessons/{name}/recall", {"reason": why})
        return {key: done[key] for key in ("id", "version", "catalog_version")}


async def _region(remote: Remote) -> Region:
    """Whom the token publishes for; the first thing that is asked, so that a wrong token costs nothing."""
    told = await remote.ask("GET", "/api/v1/me")
    if "lessons:publish" not in told["scopes"]:
        raise InputError(
            "the token may not publish",
            zh="该令牌没有发布权限",
            hint="make a token with the scope lessons:publish",
            hint_zh="请新建带有“发布课件”权限的令牌",
        )
    return Region(told["region"])


async def _plan(publisher: Region, request: PublishRequest) -> tuple[PublishPlan, CoursewareId]:
    from origin.clock import system_clock
    from origin.publish.findings import find_out
    from origin.publish.ladder import parse_ladder
    from origin.publish.publish import foresee_id
    from origin.publish.request import check_request
    from origin.publish.treatment import plan_publish
    from origin.settings import Publish

    settings = Publish()
    head = check_request(request, publisher, system_clock())
    findings = await find_out(request.files, settings.probe_deadline_s)
    ladder = parse_ladder(settings.renditions, settings.renditions_from_s) if request.hls else None
    plan = plan_publish(head, findings, ladder)
    return plan, await asyncio.to_thread(foresee_id, plan, findings)


async def _offered(remote: Remote, id_: str) -> tuple[str, int] | None:
    """Title and version of what is offered under an id now."""
    try:
        found: dict[str, Any] = await remote.ask("GET", f"/api/v1/lessons/{id_}")
    except NotFoundError:
        return None
    return None if found["offered_version"] is None else (found["title"], found["offered_version"])


def _body(request: PublishRequest, sent: list[str]) -> dict[str, Any]:
    return {
        "title": request.title,
        "uploads": sent,
        "id": request.id,
        "columns": request.columns,
        "audience": request.audience,
        "publisher": request.publisher or None,
        "priority": request.priority,
        "summary": request.summary,
        "tags": request.tags,
        "expires": request.expires,
        "hls": request.hls,
        "credit": request.credit,
        "pilot": request.pilot.waves if request.pilot is not None else (),
    }


async def _published(remote: Remote, job: str, progress: Progress) -> dict[str, Any]:
    while True:
        told = await remote.ask_again("GET", f"/api/v1/publishes/{job}")
        if told["stage"]:
            progress(told["stage"], told["done_bytes"], told["total_bytes"])
        if told["state"] == "done":
            result: dict[str, Any] = told["result"]
            return result
        if told["state"] == "failed":
            raise _failure(told["problem"])
        await asyncio.sleep(_ASK_S)


def _failure(told: dict[str, Any]) -> YuanjiaoError:
    family = _FAMILIES.get(told["exit_code"], YuanjiaoError)
    return family(told["error"], zh=told["error_zh"], hint=told["hint"], hint_zh=told["hint_zh"])
