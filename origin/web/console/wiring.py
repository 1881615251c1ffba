"""The console and the API put together over an open origin; `origin.app` adds the result to its application."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from manifests.names import Region
from origin.accounts.credentials import Passwords
from origin.accounts.sessions import Terms
from origin.accounts.signing_in import SignIns
from origin.clock import Clock
from origin.drafts.desk import DraftDesk
from origin.drafts.intake import Intake
from origin.drafts.publish_jobs import PublishJobs
from origin.metrics import Metrics
from origin.publish.pilot_plan import terms_of
from origin.publish.release import Releases
from origin.settings import Settings
from origin.web.answers import Answerer
from origin.web.api.http import Api
from origin.web.api.operations import Desk
from origin.web.console.boards import Boards
from origin.web.console.contribute import ContributePages
from origin.web.console.draft_editing import DraftEditing
from origin.web.console.draft_files import DraftFiles
from origin.web.console.draft_pages import DraftPages
from origin.web.console.draft_preview import DraftPreview
from origin.web.console.draft_review import DraftReview
from origin.web.console.inbox import InboxPages
from origin.web.console.library import Library
from origin.web.console.own import Own
from origin.web.console.pages import Pages
from origin.web.console.people import People
from origin.web.console.pilots import PilotPages
from origin.web.console.releases import ReleasePages
from origin.web.console.shell import Shell
from origin.web.console.signing_in import SigningIn
from origin.web.console.uploads import UploadPages
from origin.web.events import Events
from origin.web.gate import Gate, guard
from origin.web.tus import add_uploads


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """What the console works with, of an open origin."""

    releases: Releases
    drafts: DraftDesk
    intake: Intake
    jobs: PublishJobs
    blobs: Path
    metrics: Metrics


def add_console(
    app: web.Application, settings: Settings, engine: AsyncEngine, parts: ConsoleParts, clock: Clock
) -> None:
    """Add `/console`, `/api/v1` and their header fields to an application."""
    console = settings.console
    terms = Terms(idle_s=console.idle_hours * 3600, most_s=console.session_days * 86400)
    passwords = Passwords()
    desk = Desk(
        engine=engine,
        clock=clock,
        releases=parts.releases,
        drafts=parts.drafts,
        publisher=Region(settings.publisher.region),
        blobs=parts.blobs,
        passwords=passwords,
        signins=SignIns(engine, clock, passwords, terms),
        terms=terms,
        invitation_days=console.invitation_days,
        pilot_terms=terms_of(settings.pilots),
        intake=parts.intake,
        jobs=parts.jobs,
    )
    gate = Gate(desk, console.behind_proxy)
    shell = Shell(desk, gate, Pages(gate, settings.publisher.name))
    app.on_response_prepare.append(guard)
    # First, because its HEAD is another than that which comes with each GET of the API.
    add_uploads(app, gate, parts.intake, parts.jobs, settings.serve.stall_s)
    app.add_routes(Api(desk, gate).routes())
    Events(desk, gate).add_to(app)
    app.add_routes([web.get("/console/static/{name:(?:vendor/)?[A-Za-z0-9_.-]+}", shell.pages.static)])
    files = DraftFiles(shell, Answerer(parts.metrics, settings.serve.stall_s))
    contributing = (ContributePages(shell), InboxPages(shell))
    drafting = (*contributing, DraftPages(shell), DraftEditing(shell), DraftReview(shell), DraftPreview(shell), files)
    library = (Library(shell), Boards(shell), ReleasePages(shell), PilotPages(shell))
    for part in (SigningIn(shell), *library, People(shell), Own(shell), UploadPages(shell), *drafting):
        app.add_routes(part.routes())
    app.add_routes([web.get("/console/{unknown:.*}", shell.unknown)])
