"""Pages of releases: the list, and what restoring one would change, before the button that does it."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from manifests.errors import InputError
from manifests.names import Region
from origin.accounts.permissions import Action
from origin.web.api.models import ReleaseRow
from origin.web.api.models_releases import RestorePlan
from origin.web.console.pages import go
from origin.web.console.shell import Fields, Shell, Visit


def restorable(visit: Visit, releases: Sequence[ReleaseRow], *, is_first: bool) -> frozenset[int]:
    """Numbers of those releases that somebody may restore; on the first page, each publisher's newest left out."""
    newest = {one.publisher: one.number for one in reversed(releases)} if is_first else {}
    mine = (one for one in releases if visit.actor.may(Action.RELEASES_MANAGE, Region(one.publisher)))
    return frozenset(one.number for one in mine if one.state == "published").difference(newest.values())


class ReleasePages:
    """Handlers of these pages."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        page, form = self._shell.page, self._shell.form
        return [
            web.get("/console/releases", page(self.releases)),
            web.get("/console/releases/{number}", page(self.release)),
            web.post("/console/releases/{number}/restore", form(self.restore)),
        ]

    async def releases(self, visit: Visit) -> web.StreamResponse:
        """Releases, newest first."""
        before = visit.request.query.get("before") or None
        found = await visit.ask("releases.list", before=before)
        numbers = restorable(visit, found.releases, is_first=before is None)
        return visit.render("releases.html", found=found, before=before, restorable=numbers)

    async def release(self, visit: Visit) -> web.StreamResponse:
        """What restoring a release would change."""
        return await self._release(visit, " ".join(visit.request.query.getall("recalled", [])).split())

    async def restore(self, visit: Visit, fields: Fields) -> web.StreamResponse:
        """Restore it."""
        number, back = visit.request.match_info["number"], fields.get("recalled", "").split()
        body = {"newest": fields.get("newest"), "recalled": back, "partly": bool(fields.get("partly"))}
        try:
            await visit.ask("releases.restore", body, number=number)
        except InputError as error:
            if error.http_status in {403, 404}:
                raise
            return await self._release(visit, back, error)
        return go("/console/releases", "restored")

    async def _release(self, visit: Visit, back: list[str], problem: InputError | None = None) -> web.StreamResponse:
        number = visit.request.match_info["number"]
        plan: RestorePlan = await visit.ask("releases.plan_restore", number=number, recalled=",".join(back))
        # Those that are undone stand among the others now; they can still be left recalled again.
        chosen = [one for one in plan.items if one.id in back and one.fate == "back"]
        status = problem.http_status if problem else 200
        return visit.render("release.html", status=status, problem=problem, plan=plan, chosen=chosen, back=back)
