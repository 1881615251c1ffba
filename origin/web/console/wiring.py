"""The console and the API put together over an open origin; `origin.app` adds the result to its application."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.names import Region
from origin.accounts.credentials import Passwords
from origin.accounts.sessions import Terms
from origin.accounts.signing_in import SignIns
from origin.clock import Clock
from origin.publish.pilot_plan import terms_of
from origin.publish.release import Releases
from origin.settings import Settings
from origin.web.api.http import Api
from origin.web.api.operations import Desk
from origin.web.console.library import Library
from origin.web.console.own import Own
from origin.web.console.pages import Pages
from origin.web.console.people import People
from origin.web.console.pilots import PilotPages
from origin.web.console.releases import ReleasePages
from origin.web.console.shell import Shell
from origin.web.console.signing_in import SigningIn
from origin.web.gate import Gate, guard


def add_console(
    app: web.Application, settings: Settings, engine: AsyncEngine, releases: Releases, blobs: Path, clock: Clock
) -> None:
    """Add `/console`, `/api/v1` and their header fields to an application."""
    console = settings.console
    terms = Terms(idle_s=console.idle_hours * 3600, most_s=console.session_days * 86400)
    passwords = Passwords()
    desk = Desk(
        engine=engine,
        clock=clock,
        releases=releases,
        publisher=Region(settings.publisher.region),
        blobs=blobs,
        passwords=passwords,
        signins=SignIns(engine, clock, passwords, terms),
        terms=terms,
        invitation_days=console.invitation_days,
        pilot_terms=terms_of(settings.pilots),
    )
    gate = Gate(desk, console.behind_proxy)
    shell = Shell(desk, gate, Pages(gate, settings.publisher.name))
    app.on_response_prepare.append(guard)
    app.add_routes(Api(desk, gate).routes())
    app.add_routes([web.get("/console/static/{name:.+}", shell.pages.static)])
    for part in (SigningIn(shell), Library(shell), ReleasePages(shell), PilotPages(shell), People(shell), Own(shell)):
        app.add_routes(part.routes())
    app.add_routes([web.get("/console/{unknown:.*}", shell.unknown)])
