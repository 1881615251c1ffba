"""The page of one's own uploads: sending files, what became of them, removing them."""

from __future__ import annotations

from aiohttp import web

from origin.web.console.pages import go
from origin.web.console.shell import Fields, Shell, Visit

UPLOADS = "/console/uploads"


class UploadPages:
    """Handlers of the pages below /console/uploads."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The routes to add to an application."""
        return [
            web.get(UPLOADS, self._shell.page(self.uploads)),
            web.post(f"{UPLOADS}/{{id}}/delete", self._shell.form(self.delete)),
        ]

    async def uploads(self, visit: Visit) -> web.StreamResponse:
        """All of one's own."""
        return visit.render("uploads.html", found=await visit.ask("uploads.list"))

    async def delete(self, visit: Visit, _fields: Fields) -> web.StreamResponse:
        """Remove one."""
        await visit.ask("uploads.delete", id=visit.request.match_info["id"])
        return go(UPLOADS, "upload")
