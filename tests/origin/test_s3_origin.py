"""An origin whose blobs lie in a bucket: published, served, followed by an edge, recalled, examined."""

import random
import shutil
from pathlib import Path

import aiohttp
import pytest
from support.edges import FAST, PATIENT
from support.media import make_pdf
from support.object_store import environment
from support.origins import found_origin, request

from edge import app as edge_app
from manifests.bundle import encode_bundle
from manifests.errors import ConfigurationError
from origin import app
from origin.clock import system_clock
from origin.web.server import running
from tools.doctor_origin import check_origin


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return found_origin(tmp_path_factory.mktemp("made") / "origin")


@pytest.fixture
async def s3_env(bucket, tmp_path) -> tuple[Path, dict[str, str]]:
    """A new origin whose first release went into the bucket."""
    env = environment(bucket)
    await app.init_origin(tmp_path / "origin", "410000", passphrase=None, clock=system_clock, env=env)
    return tmp_path / "origin", env


def _edge_env() -> dict[str, str]:
    return FAST | {f"YUANJIAO_{name.upper()}": value for name, value in PATIENT.items()}


def big_pdf(path: Path, extra: bytes) -> Path:
    """A document of several pieces."""
    make_pdf(path)
    path.write_bytes(
        path.read_bytes() + b"\n%" + random.Random(1).randbytes(600_000).hex().encode() + extra + b"\n%%EOF\n"
    )
    return path


async def test_publish_serve_follow_and_recall(s3_env, tmp_path):
    root, env = s3_env
    async with app.open_origin(root, env, system_clock) as origin:
        one = await app.publish(origin, request(big_pdf(tmp_path / "一.pdf", b"1"), id="kj-1"))
        two = await app.publish(origin, request(big_pdf(tmp_path / "一.pdf", b"22"), id="kj-1"))
        assert not [path for path in origin.paths.blobs.rglob("*") if path.is_file()]
        assert not [path for path in origin.paths.staging.rglob("*") if path.is_file() and path.name != ".lock"]
        file = two.files[0]
        assert [patch.source for patch in file.patches] == [one.files[0].blob]
        async with running(app.make_app(origin), "127.0.0.1", 0, origin.settings.serve, origin.metrics) as port:
            url = f"http://127.0.0.1:{port}"
            async with aiohttp.ClientSession() as session:
                headers = {"Range": "bytes=300000-300009"}
                async with session.get(f"{url}/blobs/{file.blob}", headers=headers) as answer:
                    assert answer.status == 206
                    assert await answer.read() == (tmp_path / "一.pdf").read_bytes()[300000:300010]
                async with session.get(f"{url}/blobs/{'0' * 64}") as answer:
                    assert answer.status == 404
            bundle = encode_bundle(await app.enroll(origin, "410122", (url,)))
            edge_app.init_edge(tmp_path / "edge", bundle, system_clock)
            async with edge_app.open_edge(tmp_path / "edge", _edge_env(), system_clock) as edge:
                report = await edge_app.sync(edge, now=True)
                assert (report.complete, list(report.added)) == (True, ["kj-1"])
                await app.recall(origin, "kj-1", "内容有误")
                report = await edge_app.sync(edge, now=True)
                assert list(report.removed) == ["kj-1"]


async def test_doctor_looks_into_the_bucket(s3_env, tmp_path):
    root, env = s3_env
    async with app.open_origin(root, env, system_clock) as origin:
        released = await app.publish(origin, request(big_pdf(tmp_path / "一.pdf", b""), id="kj-1"))

        async def content():
            findings = await check_origin(root, env, system_clock())
            return next(one for one in findings if one.id == "content")

        assert (await content()).level == "ok"
        await origin.storage.delete(released.files[0].blob)
        lost = await content()
        assert (lost.level, "kj-1" in lost.what) == ("fail", True)
        env["YUANJIAO_STORAGE_BUCKET"] = "no-such-bucket"
        assert "存储桶不存在" in (await content()).what_zh


async def test_a_bucket_that_is_not_named_is_a_configuration_error(made, tmp_path):
    shutil.copytree(made, tmp_path / "origin")
    with pytest.raises(ConfigurationError, match=r"storage\.bucket"):
        async with app.open_origin(tmp_path / "origin", {"YUANJIAO_STORAGE_KIND": "s3"}, system_clock):
            pass
