"""Commands publish and recall: on the origin's own machine (--origin DIR), or over its API (--origin URL)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manifests.errors import ConfigurationError, InputError
from tools.cli_common import Call, command, command_options, run
from tools.cli_origin import FILE, keys_option, opened_origin
from tools.output import show_bytes, show_progress

if TYPE_CHECKING:
    from origin.publish.publish import PublishPlan, PublishRequest

_KINDS = {"video": "视频", "article": "文章", "document": "文档", "recording": "录音录像"}
WHERE_HELP = "源站目录，或源站网址（须有令牌） The origin's directory, or its address (takes a token)"
_PLANNED = ("role", "name", "media_type", "size", "treatment", "reason", "reason_zh")

token_option = click.option(
    "--token-file",
    type=FILE,
    default=None,
    help="--origin 为网址时的接口令牌文件，默认取环境变量 YUANJIAO_TOKEN File with the API token, for --origin URL",
)


@dataclass(frozen=True, slots=True)
class Old:
    """What is offered under an id now."""

    title: str
    version: int


@command(
    "发布一个课件（一个或多个文件），或发布其新版本",
    "Publish one courseware made of any number of files, or a new version of it",
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option("--origin", "where", required=True, metavar="DIR|URL", help=WHERE_HELP)
@click.option("--title", required=True, help="标题 Title, one line of up to 200 characters")
@click.option("--id", "courseware_id", default=None, help="课件编号，默认由内容得出 Courseware id")
@click.option("--column", "columns", multiple=True, help="专栏名称或编号，可多次 Column, title or id; repeatable")
@click.option("--audience", multiple=True, metavar="CODE", help="面向的行政区划，默认全省 Regions it is meant for")
@click.option("--priority", type=click.IntRange(0, 9), default=5, show_default=True, help="优先级 0–9，大者先传")
@click.option("--summary", default="", help="简介 Summary")
@click.option("--credit", default="", help="署名 Who made it, shown with it")
@click.option("--tag", "tags", multiple=True, help="标签，可多次 Tag; repeatable")
@click.option("--expires", default=None, metavar="INSTANT", help="到期时间，如 2027-01-01T00:00:00Z Expiry")
@click.option("--publisher", default="", metavar="CITY", help="以该市名义发布到其目录 Publish into this city's catalog")
@click.option("--pilot", multiple=True, metavar="CODES", help="试点：先面向这些地区，可多次（逐批） A wave of a pilot")
@click.option("--no-hls", is_flag=True, help="视频不提供 HLS No renditions: videos play as MP4 only")
@token_option
@keys_option
@command_options(reports=True, changes=True)
def publish(
    call: Call, where: str, keys_dir: Path | None, token_file: Path | None, pilot: tuple[str, ...], **fields: Any
) -> None:
    """Publish one courseware made of any number of files, or a new version of it."""
    from tools.cli_releases import pilot_wish

    # Over the API the origin's own settings say what a wave must come to.
    request = _request(pilot=pilot_wish(None if is_address(where) else Path(where), pilot), **fields)
    _check_way(where, keys_dir, token_file)
    if not is_address(where):
        run(_publish_here(call, where, keys_dir, request))
        return
    from tools import cli_remote

    if call.dry_run:
        plan, id_, old = run(cli_remote.foresee(where, token_file, request))
        _show_plan(call, plan, id_, None if old is None else Old(*old))
    else:
        _show_done(call, request.title, run(cli_remote.publish(call, where, token_file, request)))


def is_address(where: str) -> bool:
    """Tell whether DIR|URL names an origin by its address."""
    return "://" in where


def _check_way(where: str, keys_dir: Path | None, token_file: Path | None) -> None:
    """Refuse keys beside an address and a token beside a directory: somebody means another thing than they say."""
    if is_address(where) and keys_dir is not None:
        raise ConfigurationError(
            "--keys goes with the origin's directory; over the API the origin signs",
            zh="--keys 仅用于源站目录；通过网址发布时由源站签名",
        )
    if not is_address(where) and token_file is not None:
        raise ConfigurationError("--token-file goes with an address", zh="--token-file 仅用于网址")


def _request(
    *,
    files: tuple[Path, ...],
    courseware_id: str | None,
    columns: tuple[str, ...],
    audience: tuple[str, ...],
    no_hls: bool,
    **rest: Any,
) -> PublishRequest:
    from manifests.names import parse_region
    from origin.publish.publish import PublishRequest

    regions = tuple(parse_region(code) for code in audience)
    return PublishRequest(files=files, id=courseware_id, columns=columns, audience=regions, hls=not no_hls, **rest)


async def _publish_here(call: Call, where: str, keys_dir: Path | None, request: PublishRequest) -> None:
    from origin import app

    async with opened_origin(where, keys_dir) as opened:
        if call.dry_run:
            seen = await app.foresee(opened, request)
            _show_plan(
                call, seen.plan, seen.id, Old(seen.replaced.title, seen.replaced.version) if seen.replaced else None
            )
            return
        with show_progress(call.output) as progress:
            done = await app.publish(opened, request, progress)
    files = [
        {"role": file.role, "name": file.name, "sha256": file.blob, "size": file.size, "media_type": file.media_type}
        for file in done.files
    ]
    result = {"id": done.id, "version": done.version, "catalog_version": done.catalog_version, "files": files}
    _show_done(call, request.title, result)


def _show_done(call: Call, title: str, done: dict[str, Any]) -> None:
    call.output.emit(done)
    id_, version, catalog_version = done["id"], done["version"], done["catalog_version"]
    call.output.say(
        f"已发布《{title}》：编号 {id_}，第 {version} 版，目录第 {catalog_version} 版",
        f"published {title!r}: id {id_}, version {version}, catalog version {catalog_version}",
    )


def _show_plan(call: Call, plan: PublishPlan, id_: str, old: Old | None) -> None:
    call.output.emit(
        {
            "id": id_,
            "replaces": asdict(old) if old else None,
            "title": plan.headline.title,
            "kind": plan.kind,
            "columns": plan.headline.columns,
            "audience": plan.headline.audience,
            "pilot": plan.headline.pilot.waves if plan.headline.pilot else None,
            "files": [{name: getattr(file, name) for name in _PLANNED} for file in plan.all_files],
            "dry_run": True,
        }
    )
    title, kind = plan.headline.title, _KINDS[plan.kind]
    call.output.say(f"将发布《{title}》（{kind}），编号 {id_}", f"would publish {title!r} ({plan.kind}), id {id_}")
    if old:
        call.output.say(
            f"  将替换同编号的《{old.title}》第 {old.version} 版；若是另一课，请用 --id 另取编号",
            f"  replaces {old.title!r} version {old.version} of the same id; another lesson needs another --id",
        )
    for en, zh in plan.notes:
        call.output.say(f"  {zh}", f"  {en}")
    for file in plan.all_files:
        size = show_bytes(file.size) if file.size else call.output.pick("大小待定", "size not known yet")
        call.output.say(
            f"  {file.name}({file.role},{size}):{file.reason_zh}", f"  {file.name} ({file.role}, {size}): {file.reason}"
        )


@command(
    "撤回一个课件：各边缘下次联系源站后几分钟内即不可见",
    "Recall a courseware: gone within minutes of each edge next hearing from the origin",
)
@click.argument("courseware_id", metavar="ID")
@click.option("--origin", "where", required=True, metavar="DIR|URL", help=WHERE_HELP)
@click.option("--reason", required=True, help="撤回原因 Why; shown to operators")
@token_option
@keys_option
@command_options(reports=True, changes=True)
def recall(
    call: Call, courseware_id: str, where: str, reason: str, keys_dir: Path | None, token_file: Path | None
) -> None:
    """Recall a courseware: gone within minutes of each edge next hearing from the origin."""
    _check_way(where, keys_dir, token_file)
    if is_address(where):
        from tools import cli_remote

        done = run(cli_remote.recall(call, where, token_file, courseware_id, reason))
    else:
        done = run(_recall_here(call, where, keys_dir, courseware_id, reason))
    call.output.emit(done)
    id_, version = done["id"], done["version"]
    if call.dry_run:
        call.output.say(f"将撤回《{done['title']}》第 {version} 版", f"would recall {id_} {version}")
        return
    catalog_version = done["catalog_version"]
    call.output.say(
        f"已撤回 {id_}（第 {version} 版及以前），目录第 {catalog_version} 版",
        f"recalled {id_} (version {version} and before), catalog version {catalog_version}",
    )


async def _recall_here(
    call: Call, where: str, keys_dir: Path | None, courseware_id: str, reason: str
) -> dict[str, Any]:
    from manifests.names import parse_courseware_id, parse_reason
    from origin import app

    name, why = parse_courseware_id(courseware_id), parse_reason(reason)
    async with opened_origin(where, keys_dir) as opened:
        if call.dry_run:
            _, catalog = await opened.releases.current_catalog(await opened.releases.owner(name) or "")
            item = next((one for one in catalog.courseware if one.id == name), None)
            if item is None:
                raise InputError(f"courseware {name!r} is not in the catalog", zh=f"目录中没有课件 {name!r}")
            return {"id": name, "version": item.version, "title": item.title, "dry_run": True}
        done = await app.recall(opened, name, why)
    return {"id": done.id, "version": done.version, "catalog_version": done.catalog_version}


def register(cli: click.Group) -> None:
    """Add these commands to the program."""
    for one in (publish, recall):
        cli.add_command(one)
