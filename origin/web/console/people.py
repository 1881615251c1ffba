"""Pages about people: accounts and invitations, and the audit with its export."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

from aiohttp import web

from manifests.errors import InputError, NotFoundError
from manifests.instants import dump_instant
from origin.accounts.permissions import Action, Role
from origin.stations.regions import load_regions
from origin.web.api.models_people import AuditRow, AuditWhere
from origin.web.api.operations import convert
from origin.web.api.people import exported
from origin.web.api.texts import RegionNames
from origin.web.console.pages import go
from origin.web.console.shell import Fields, Shell, Visit

PEOPLE: Final = "/console/people"
_AUDIT_FIELDS: Final = ("actor", "action", "subject", "since", "until", "before")
_HEADINGS: Final = ("number", "at", "actor", "action", "region", "subject", "detail", "before", "after", "address")
# What a spreadsheet takes for a formula; full-width forms too, which some of them fold.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_PORTION_ROWS: Final = 200


class People:
    """Handlers of the pages about people."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page, form = self._shell.page, self._shell.form
        return [
            web.get(PEOPLE, page(self.people)),
            web.post(f"{PEOPLE}/invite", form(self.invite)),
            web.get(f"{PEOPLE}/{{number}}", page(self.person)),
            web.post(f"{PEOPLE}/{{number}}", form(self.change)),
            web.post(f"{PEOPLE}/{{number}}/reset", form(self.reset)),
            web.post("/console/invitations/{number}/revoke", form(self.revoke)),
            web.get("/console/audit", page(self.audit)),
            web.get("/console/audit.csv", page(self.export)),
        ]

    async def people(self, visit: Visit) -> web.StreamResponse:
        """Accounts and open invitations."""
        return await self._people(visit)

    async def invite(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Invite somebody and show the link once."""
        body = {name: fields.get(name, "") for name in ("name", "role", "region")}
        try:
            link = await visit.ask("invitations.create", body)
        except InputError as error:
            return await self._people(visit, error, body)
        return _show_link(visit, link.path, link.expires, body["name"])

    async def person(self, visit: Visit) -> web.StreamResponse:
        """One account."""
        return await self._person(visit)

    async def change(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Change it: fields that the form has; the button that disables or enables names itself."""
        body: dict[str, Any] = {name: fields[name] for name in ("name", "role", "region") if fields.get(name)}
        if fields.get("disabled") in {"true", "false"}:
            body["disabled"] = fields["disabled"] == "true"
        number = visit.request.match_info["number"]
        try:
            await visit.ask("accounts.change", body, number=number)
        except NotFoundError:
            raise
        except InputError as error:
            return await self._person(visit, error)
        return go(PEOPLE, "changed")

    async def reset(self, visit: Visit, _fields: Fields) -> web.StreamResponse:
        """Make a link for a new password and show it once."""
        link = await visit.ask("accounts.reset", number=visit.request.match_info["number"])
        return _show_link(visit, link.path, link.expires, "")

    async def revoke(self, visit: Visit, _fields: Fields) -> web.StreamResponse:
        """Take an invitation back."""
        await visit.ask("invitations.revoke", number=visit.request.match_info["number"])
        return go(PEOPLE, "revoked")

    async def audit(self, visit: Visit) -> web.StreamResponse:
        """A page of the audit."""
        asked = _asked(visit)
        found = await visit.ask("audit.list", **asked)
        shown = {name: asked.get(name, "") for name in _AUDIT_FIELDS}
        actions = sorted(key.partition(".")[2] for key in visit.words.texts if key.startswith("action."))
        return visit.render("audit.html", found=found, asked=shown, actions=actions)

    async def export(self, visit: Visit) -> web.StreamResponse:
        """The audit as a table for a spreadsheet, with the same filter."""
        where: Any = convert(_asked(visit), AuditWhere, strict=False)
        await visit.ask("audit.list", **_asked(visit))  # may they at all, and can the filter be read
        name = f"audit-{dump_instant(visit.desk.clock())[:10]}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Type": "text/csv; charset=utf-8"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(visit.request)
        # Without the mark at the beginning, spreadsheets take UTF-8 for something else.
        portion = ["\ufeff" + csv_line([visit.words(f"audit.{heading}") for heading in _HEADINGS])]
        async for row in exported(visit.desk, visit.actor, where):
            portion.append(csv_line(_cells(row)))
            if len(portion) >= _PORTION_ROWS:
                await response.write("".join(portion).encode())
                portion = []
        await response.write("".join(portion).encode())
        await response.write_eof()
        return response

    async def _people(
        self, visit: Visit, problem: InputError | None = None, form: dict[str, str] | None = None
    ) -> web.StreamResponse:
        accounts = await visit.ask("accounts.list")
        open_ones = await visit.ask("invitations.list")
        return visit.render(
            "people.html",
            status=problem.http_status if problem else 200,
            problem=problem,
            accounts=accounts.accounts,
            invitations=open_ones.invitations,
            form=form or {"name": "", "role": "", "region": ""},
            **_choices(visit),
        )

    async def _person(self, visit: Visit, problem: InputError | None = None) -> web.StreamResponse:
        number = visit.request.match_info["number"]
        every = (await visit.ask("accounts.list")).accounts
        one = next((row for row in every if str(row.number) == number), None)
        if one is None:
            raise NotFoundError("there is no such account", zh="没有这个账号")
        status = problem.http_status if problem else 200
        return visit.render("person.html", status=status, problem=problem, one=one, **_choices(visit))


def _choices(visit: Visit) -> dict[str, Any]:
    """What the forms offer: roles, and the regions inside one's own."""
    regions = RegionNames(load_regions()).choices(visit.account.region)
    may = visit.actor.may(Action.ACCOUNTS_MANAGE, visit.account.region)
    return {"roles": [role.value for role in Role], "regions": regions, "may_invite": may}


def _show_link(visit: Visit, path: str, expires: str, name: str) -> web.StreamResponse:
    scheme = "https" if visit.request.secure else visit.request.scheme
    address = f"{scheme}://{visit.request.host}{path}"
    return visit.render("link.html", address=address, expires=expires, name=name)


def _asked(visit: Visit) -> dict[str, Any]:
    query = visit.request.query
    return {name: query[name] for name in _AUDIT_FIELDS if query.get(name)}


def _cells(row: AuditRow) -> list[str]:
    return [str(getattr(row, heading)) for heading in _HEADINGS]


def csv_line(cells: list[str]) -> str:
    """One line of a table; no cell is taken for a formula by whatever opens it."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(
        [f"'{cell}" if cell.lstrip(" \u3000").startswith(_FORMULA) else cell for cell in cells]
    )
    return out.getvalue()
