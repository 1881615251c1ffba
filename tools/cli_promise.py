"""The province's question before it publishes: who would hold the lesson by tomorrow morning?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from manifests.words import show_bytes
from tools.cli_common import Call, command, command_options, run
from tools.cli_origin import FILE, ORIGIN_HELP, local_origin

if TYPE_CHECKING:
    from origin.publish.promise import ProvincePromise
    from origin.publish.request import PublishRequest


@command(
    "预估：如果现在发布，到某一时刻有多少县能具备该课件，其余逐县说明原因",
    "Foretell how many edges would hold a courseware by a time of day were it published now, and the tail by name",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("--origin", "where", required=True, metavar="DIR", help=ORIGIN_HELP)
@click.option("--by", default="06:00", show_default=True, metavar="HH:MM", help="当地时刻 Local time of day")
@click.option("--audience", multiple=True, metavar="CODE", help="面向的行政区划，默认全省 Regions it is meant for")
@click.option("--column", "columns", multiple=True, help="专栏名称或编号，可多次 Column, title or id; repeatable")
@command_options(reports=True)
def promise(
    call: Call, files: tuple[Path, ...], where: str, by: str, audience: tuple[str, ...], columns: tuple[str, ...]
) -> None:
    """Foretell how many edges would hold a courseware by a time of day were it published now."""
    from manifests.names import parse_region
    from origin.publish.promise import parse_by
    from origin.publish.request import PublishRequest
    from tools.plan_table import tail_table

    parse_by(by)
    regions = tuple(parse_region(code) for code in audience)
    request = PublishRequest(files=files, title="promise", columns=columns, audience=regions)
    made = run(_promise(local_origin(where), request, by))
    call.output.emit(made)
    if made.tail:
        call.output.show(lambda: tail_table(made.tail, call.output))
    size = show_bytes(made.bytes)
    call.output.say(f"每县需传输 {size}。{made.summary_zh}", f"{size} for each edge. {made.summary}")


async def _promise(root: Path, request: PublishRequest, by: str) -> ProvincePromise:
    from origin import app
    from origin.clock import system_clock
    from origin.publish import promising

    async with app.open_origin(root, os.environ, system_clock) as opened:
        return await promising.promise(opened.publishing, opened.engine, request, by)


def register(cli: click.Group) -> None:
    """Add this command to the program."""
    cli.add_command(promise)
