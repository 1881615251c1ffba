"""Publishing from uploads: asked for in one go, carried out by the origin, asked about until it is done."""

from __future__ import annotations

import msgspec

from manifests.errors import DeniedError
from manifests.instants import dump_instant
from manifests.names import Region
from origin.accounts.people import Actor
from origin.accounts.permissions import Action
from origin.drafts.publish_jobs import Job, Wanted
from origin.publish.cities import check_city_may_publish
from origin.web.api.lessons import KeysAwayError
from origin.web.api.models_publishing import ByPublish, PublishBody, PublishState
from origin.web.api.operations import Desk, Nothing, Operation


async def _publish(desk: Desk, actor: Actor, _where: Nothing, body: PublishBody) -> PublishState:
    city = body.publisher or ""
    city = "" if city == desk.publisher else city
    if not actor.may(Action.LESSONS_PUBLISH, Region(city or desk.publisher)):
        raise DeniedError(
            "lessons of the province are published by the province, those of a city by that city",
            zh="省级课件由省级人员发布，市级课件由该市人员发布",
        )
    check_city_may_publish(await desk.releases.rights(), city)
    if not await desk.releases.can_sign(city):
        raise KeysAwayError(
            "the key that signs the catalog is not on this machine, or is under a passphrase",
            zh="目录签名密钥不在本机，或设有口令，无法直接发布",
            hint="on the origin's machine, with the keys: yuanjiao publish FILE… --origin DIR --keys DIR",
            hint_zh="请携带密钥，在源站服务器上运行 yuanjiao publish 文件 --origin 目录 --keys 介质目录",
        )
    asked = msgspec.structs.asdict(body) | {"publisher": city}
    wanted = Wanted(**asked, pilot_terms=desk.pilot_terms, pilot_by=actor.account.login)
    return _state(await desk.jobs.ask(actor, wanted))


async def _look(desk: Desk, actor: Actor, where: ByPublish, _body: Nothing) -> PublishState:
    return _state(await desk.jobs.get(actor, where.id))


def _state(job: Job) -> PublishState:
    return PublishState(
        id=job.id,
        state=job.state,
        stage=job.stage,
        done_bytes=job.done_bytes,
        total_bytes=job.total_bytes,
        asked=dump_instant(job.created_at),
        result=job.result,
        problem=job.problem,
    )


OPERATIONS = (
    Operation(
        "lessons.publish",
        "POST",
        "/publishes",
        "Publish a courseware made of uploads, or a new version of it; it is carried out by the origin",
        "用已上传的文件发布课件或其新版本，由源站执行",
        _publish,
        body=PublishBody,
        answer=PublishState,
        action=Action.LESSONS_PUBLISH,
    ),
    Operation(
        "publishes.get",
        "GET",
        "/publishes/{id}",
        "How a publish stands that one asked for",
        "查询自己提交的发布任务",
        _look,
        where=ByPublish,
        answer=PublishState,
        action=Action.LESSONS_PUBLISH,
    ),
)
