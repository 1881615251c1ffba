"""`yuanjiao origin release-draft`: a reviewed draft goes out with keys that are brought along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from manifests.errors import NotFoundError
from tools.cli_common import Call, command, command_options, run
from tools.cli_origin import DIRECTORY, keys_option, opened_origin, origin


@command(
    "发布一份已通过审核的稿件（密钥在离线介质上时使用）",
    "Release a draft that was approved, with keys that are brought along",
    origin,
    name="release-draft",
)
@click.argument("root", metavar="DIR", type=DIRECTORY)
@click.argument("number", metavar="NUMBER", type=click.IntRange(min=1))
@keys_option
@command_options(reports=True, changes=True)
def release_draft(call: Call, root: Path, number: int, keys_dir: Path | None) -> None:
    """Release a draft that was approved, with keys that are brought along."""
    done = run(_release(call, root, number, keys_dir))
    call.output.emit(done)
    if call.dry_run:
        call.output.say(f"将发布稿件《{done['title']}》", f"would release draft {number}")
        return
    call.output.say(
        f"已发布 {done['id']} 第 {done['version']} 版，目录第 {done['catalog_version']} 版",
        f"released {done['id']} version {done['version']}, catalog version {done['catalog_version']}",
    )


async def _release(call: Call, root: Path, number: int, keys_dir: Path | None) -> dict[str, Any]:
    from origin.database.engine import reading
    from origin.drafts.rows import read_draft

    async with opened_origin(str(root), keys_dir) as opened:
        if not call.dry_run:
            draft = await opened.drafts.releasing.release_now(number)
            return {
                "number": number,
                "id": draft.courseware,
                "version": draft.version,
                "catalog_version": draft.catalog_version,
                "dry_run": False,
            }
        async with reading(opened.engine) as connection:
            found = await read_draft(connection, number)
        if found is None:
            raise NotFoundError(f"there is no draft {number}", zh=f"没有编号为 {number} 的稿件")
        return {"number": number, "title": found.document.title, "state": str(found.state), "dry_run": True}


def register(_cli: click.Group) -> None:
    """The command hangs on `origin` already."""
