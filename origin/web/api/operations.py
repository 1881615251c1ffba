"""One operation of the API as a value, and what all of them stand on.

`Operation.run` is handed checked values and gives a value back; it knows nothing of HTTP. So the console's pages run
the same operations as scripts do, with the same rights, the same audit and the same refusals.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.errors import DeniedError, InputError
from manifests.names import Region
from origin.accounts.credentials import Passwords
from origin.accounts.people import Actor
from origin.accounts.permissions import Action, needs_second_factor
from origin.accounts.sessions import Terms
from origin.accounts.signing_in import SignIns
from origin.clock import Clock
from origin.drafts.desk import DraftDesk
from origin.drafts.intake import Intake
from origin.drafts.publish_jobs import PublishJobs
from origin.publish.pilot_plan import Terms as PilotTerms
from origin.publish.release import Releases

API: Final = "/api/v1"
MAX_BODY_BYTES: Final = 64 * 1024

Method = Literal["GET", "POST", "PATCH", "DELETE"]


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No fields."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What operations work with.

    Attributes:
        publisher: the province's region: what belongs to the province belongs to it.
        blobs: where blobs lie, for the free space there.
        invitation_days: how long a link is good.
        pilot_terms: what a pilot's waves must come to when nobody says otherwise.
        intake: begins, finds and ends uploads.
        jobs: carries out publishes that scripts ask for.
    """

    engine: AsyncEngine
    clock: Clock
    releases: Releases
    drafts: DraftDesk
    publisher: Region
    blobs: Path
    passwords: Passwords
    signins: SignIns
    terms: Terms
    invitation_days: int
    intake: Intake
    jobs: PublishJobs
    pilot_terms: PilotTerms = field(default_factory=PilotTerms)


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of the table.

    Attributes:
        name: unique; `lessons.list`.
        path: below `/api/v1`, with `{field}` for fields of `where`.
        summary, summary_zh: one sentence each, for the document.
        where: fields of path and query.
        body: what is posted; None for nothing.
        answer: what comes back; None for nothing.
        action: the right it takes, which is also the scope that a token needs; None for one's own account.
        run: does it.
        own_session: a session is needed, a token is not enough: it gives out or takes away secrets.
        without_second_factor: open to those whose role needs a second factor and who have none yet.
        most_bytes: the longest body.
        by_hand: its route is another's, who speaks more than JSON there; the document and the pages know it all the
            same.
    """

    name: str
    method: Method
    path: str
    summary: str
    summary_zh: str
    run: Callable[[Desk, Actor, Any, Any], Awaitable[Any]]
    where: type[Struct] = Nothing
    body: type[Struct] | None = None
    answer: type[Struct] | None = None
    action: Action | None = None
    own_session: bool = False
    without_second_factor: bool = False
    most_bytes: int = MAX_BODY_BYTES
    by_hand: bool = False


def check_second_factor(actor: Actor) -> None:
    """Refuse somebody whose role needs a second factor and who has none yet.

    Raises:
        DeniedError: caller's mistake.
    """
    account = actor.account
    if not account.has_second_factor and needs_second_factor(account.grant.role):
        raise DeniedError(
            "this role needs a second factor, which is not set up yet",
            zh="该角色须先设置双重验证",
            hint="set it up in the console, under your own account",
            hint_zh="请在控制台“我的账号”中设置",
        )


async def perform(operation: Operation, desk: Desk, actor: Actor, where: Struct, body: Struct | None = None) -> Any:
    """Run an operation for somebody, once it is clear that they may.

    Raises:
        DeniedError: caller's mistake; the role or the token lacks the right, or the second factor is missing.
        InputError: bad data; of the operation's own checks.
    """
    account = actor.account
    if not operation.without_second_factor:
        check_second_factor(actor)
    if operation.own_session and actor.session is None:
        raise DeniedError(
            "a token is not enough for this: sign in to the console", zh="此操作不能使用令牌，请登录控制台"
        )
    # Whether the right reaches the thing asked for is for the operation to say: only it knows whose that is.
    if operation.action is not None and not actor.may(operation.action, account.region):
        raise DeniedError(f"the right {operation.action} is missing", zh="没有此项权限")
    return await operation.run(desk, actor, where, body)


def read_where(operation: Operation, fields: dict[str, str]) -> Struct:
    """Turn texts of path and query into the operation's own fields.

    Raises:
        InputError: bad data.
    """
    return convert(fields, operation.where, strict=False)


def convert(value: Any, kind: type[Struct], *, strict: bool) -> Struct:
    """Check a value against a model.

    Raises:
        InputError: bad data; the message names the field.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise refused(error) from error


def refused(error: Exception) -> InputError:
    """A model's refusal as an error of ours."""
    return InputError(f"the request does not fit: {error}"[:300], zh="请求内容不合规，请检查各项填写")
