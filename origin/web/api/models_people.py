"""What the API takes and gives about people: accounts, invitations, one's own account, the audit."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from manifests.model import RegionText
from origin.accounts.permissions import Action, Role
from origin.web.api.models import Number, Where

Code = Annotated[str, Meta(max_length=40)]
Secret = Annotated[str, Meta(min_length=1, max_length=200)]
Line = Annotated[str, Meta(min_length=1, max_length=200)]


class Me(Struct, frozen=True):
    """Whoever asks. `scopes` are what may be done in this way, at most, within `region`."""

    login: str
    name: str
    role: Role
    region: str
    has_second_factor: bool
    needs_second_factor: bool
    scopes: tuple[Action, ...]


class AuditWhere(Where, frozen=True):
    """Which changes: by login, action and subject, from a day on, to a day, numbers smaller than `before`."""

    actor: Annotated[str, Meta(max_length=64)] = ""
    action: Annotated[str, Meta(max_length=32)] = ""
    subject: Annotated[str, Meta(max_length=80)] = ""
    since: Annotated[str, Meta(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?\Z")] = ""
    until: Annotated[str, Meta(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?\Z")] = ""
    before: Number | None = None


class AccountRow(Struct, frozen=True):
    """An account."""

    number: int
    login: str
    name: str
    role: Role
    region: str
    region_name: str
    has_second_factor: bool
    created: str
    disabled: str | None
    may_manage: bool


class AccountList(Struct, frozen=True):
    """Accounts of one's region."""

    accounts: tuple[AccountRow, ...]


class AccountBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What to change; what is absent stays."""

    name: Annotated[str, Meta(max_length=200)] | None = None
    role: Role | None = None
    region: RegionText | None = None
    disabled: bool | None = None


class InvitationBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to invite."""

    name: Line
    role: Role
    region: RegionText


class InvitationLink(Struct, frozen=True):
    """A link, shown once; `path` goes after the origin's address."""

    number: int
    path: str
    expires: str


class InvitationRow(Struct, frozen=True):
    """An open invitation; with a login, a new password for that account."""

    number: int
    login: str | None
    name: str
    role: Role
    region: str
    region_name: str
    by: str
    created: str
    expires: str
    may_manage: bool


class InvitationList(Struct, frozen=True):
    """Open invitations of one's region."""

    invitations: tuple[InvitationRow, ...]


class AuditRow(Struct, frozen=True):
    """One change; `actor` is empty for the command line on the origin's machine."""

    number: int
    at: str
    actor: str
    action: str
    region: str
    subject: str
    detail: str
    before: str
    after: str
    address: str


class AuditList(Struct, frozen=True):
    """A page of the audit, newest first; `next` for the following page's `before`."""

    changes: tuple[AuditRow, ...]
    next: int | None


class PasswordBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The present password, and the new one."""

    present: Secret
    new: Secret


class CodeBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A code of the app, or a recovery code; may be empty where there is no second factor yet."""

    code: Code


class Enrolment(Struct, frozen=True):
    """What the app is told, as text and as the address in a QR code."""

    secret: str
    uri: str


class RecoveryCodes(Struct, frozen=True):
    """Each opens the door once when the app is lost; shown once."""

    codes: tuple[str, ...]


class DeviceRow(Struct, frozen=True):
    """A browser that is signed in."""

    number: int
    created: str
    seen: str
    address: str
    agent: str
    is_this: bool


class DeviceList(Struct, frozen=True):
    """One's own sessions."""

    devices: tuple[DeviceRow, ...]


class TokenBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to make; it may do what its scopes and its owner's role both allow."""

    name: Line
    scopes: Annotated[tuple[Action, ...], Meta(min_length=1, max_length=20)]
    days: Annotated[int, Meta(ge=1, le=366)] = 90


class TokenRow(Struct, frozen=True):
    """A token without its secret."""

    number: int
    name: str
    scopes: tuple[str, ...]
    created: str
    expires: str
    used: str | None


class NewToken(Struct, frozen=True):
    """A token with its secret, shown once."""

    token: TokenRow
    secret: str


class TokenList(Struct, frozen=True):
    """One's own tokens."""

    tokens: tuple[TokenRow, ...]
