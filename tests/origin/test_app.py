"""The origin as a whole: init, settings, serving, stopping."""

import asyncio
import json
import shutil
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.media import make_pdf
from support.origins import ManualClock, blob_names, found_origin, request
from support.raw_http import Connection
from support.small_disk import fill, small_disk
from support.storage_contract import store_bytes

from manifests.bundle import decode_bundle, encode_bundle
from manifests.errors import ConfigurationError, InputError, StorageError
from manifests.instants import dump_instant
from origin import app
from origin.clock import system_clock
from origin.metrics import METRICS, Metrics
from origin.publish.renewal import keep_renewed
from origin.settings import Serve
from origin.web.server import MAX_FIELD_BYTES, new_application, running
from origin.web.status import judge

HOUR = 3600


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Read only: an origin with nothing in it."""
    return found_origin(tmp_path_factory.mktemp("made") / "origin")


@pytest.fixture
def fresh(tmp_path) -> Path:
    return tmp_path / "origin"


@pytest.fixture
def root(made, tmp_path) -> Path:
    """An origin of the test's own, without the cost of making one."""
    return Path(shutil.copytree(made, tmp_path / "origin"))


async def init(root, clock=system_clock, **more):
    await app.init_origin(root, "410000", passphrase=None, clock=clock, **more)


async def test_init_makes_everything_and_enrolled_edges_can_start(fresh):
    await init(fresh, root_keys=2, root_threshold=2)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (fresh / "keys").iterdir()}
    assert modes == dict.fromkeys(["root.pem", "root-2.pem", "targets.pem", "snapshot.pem", "timestamp.pem"], 0o600)
    async with app.open_origin(fresh, {}, system_clock) as origin:
        assert origin.settings.publisher.region == "410000"
        bundle = await app.enroll(origin, "410122", ("http://10.1.2.3:8080/",))
        assert decode_bundle(encode_bundle(bundle)) == bundle
        assert (bundle.publisher, bundle.region, bundle.identity is None) == ("410000", "410122", False)
        assert bundle.root == (fresh / "metadata" / "1.root.json").read_text()
        assert (await app.enroll(origin, "410122", ("http://10.1.2.3:8080",), with_key=False)).identity is None
        with pytest.raises(InputError):
            await app.enroll(origin, "410122")
        assert (await app.read_origin_status(origin)).edges == 2


async def test_init_refuses_what_is_there_and_completes_what_was_cut_off(made, fresh):
    with pytest.raises(ConfigurationError, match="already"):
        await init(made)
    fresh.mkdir()
    (fresh / "photo.jpg").touch()
    with pytest.raises(ConfigurationError, match="not empty"):
        await init(fresh)
    (fresh / "photo.jpg").rename(fresh / "origin.toml")  # all that an init that was cut off at once has left
    await init(fresh)
    with pytest.raises(ConfigurationError):
        await init(fresh / "origin.toml")
    with pytest.raises(InputError):
        await app.init_origin(fresh.parent / "other", "41", passphrase=None, clock=system_clock)
    assert not (fresh.parent / "other").exists()


async def test_passphrase_from_the_environment(fresh, tmp_path):
    await app.init_origin(fresh, "410000", passphrase="correct horse", clock=system_clock)
    assert b"ENCRYPTED" in (fresh / "keys" / "targets.pem").read_bytes()
    pdf = make_pdf(tmp_path / "a.pdf")
    async with app.open_origin(fresh, {}, system_clock) as origin:
        before = blob_names(fresh)
        with pytest.raises(ConfigurationError):
            await app.publish(origin, request(pdf))
        assert blob_names(fresh) == before
    later = ManualClock(system_clock() + 2 * HOUR)
    async with app.open_origin(fresh, {}, later) as origin:
        assert await origin.releases.renew()  # what a server does every hour, with nobody there to be asked
    async with app.open_origin(fresh, {app.PASSPHRASE: "correct horse"}, later) as origin:
        assert (await app.publish(origin, request(pdf))).version == 1


async def test_settings_from_file_and_environment(root):
    toml = root / "origin.toml"
    toml.write_text(toml.read_text() + "[trust]\ntimestamp_hours = 48\n")
    env = {"YUANJIAO_TRUST_TIMESTAMP_HOURS": "12", "YUANJIAO_SERVE_PORT": "9000", "YUANJIAO_WINDOW_START": "22:00"}
    async with app.open_origin(root, {}, system_clock) as origin:
        assert origin.settings.trust.timestamp_hours == 48
    async with app.open_origin(root, env, system_clock) as origin:
        assert (origin.settings.trust.timestamp_hours, origin.settings.serve.port) == (12, 9000)


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[serve]\nprot = 1", ["serve.prot"]),
        ("[sevre]\nport = 1", ["sevre"]),
        ("port = 1", ["port"]),
        ("[serve]\nport = 70000\n[publish]\npatch_max_ratio = 2.0", ["serve.port", "publish.patch_max_ratio"]),
        ("[serve\n", ["TOML"]),
        ("[publisher]\nregion = '4'", ["publisher.region"]),
    ],
)
async def test_wrong_settings_are_refused_all_at_once(fresh, toml, named):
    fresh.mkdir()
    (fresh / "origin.toml").write_text(toml)
    with pytest.raises(ConfigurationError) as error:
        async with app.open_origin(fresh, {}, system_clock):
            pass
    assert error.value.exit_code == 2
    assert all(name in error.value.message for name in named)
    assert [path.name for path in fresh.iterdir()] == ["origin.toml"]


async def test_what_is_no_origin(fresh, tmp_path):
    for path in (fresh, tmp_path):
        with pytest.raises(ConfigurationError, match="no origin"):
            async with app.open_origin(path, {}, system_clock):
                pass


@asynccontextmanager
async def served(root, clock=system_clock, keepalive_s=75.0, **more):
    settings = Serve(shutdown_s=1, keepalive_s=keepalive_s)
    async with (
        app.open_origin(root, {}, clock) as origin,
        running(app.make_app(origin), "127.0.0.1", 0, settings, origin.metrics, **more) as port,
    ):
        connection = await Connection.open(port)
        yield origin, port, connection
        await connection.close()


async def test_pages_and_content_of_a_running_origin(root, tmp_path):
    async with served(root) as (origin, _, connection):
        done = await app.publish(origin, request(make_pdf(tmp_path / "a.pdf"), title="<b>标题</b>"))
        await app.enroll(origin, "410122", ("http://10.1.2.3:8080",))
        health = json.loads((await connection.request("/healthz")).body)
        assert (health["status"], health["findings"], health["publisher"]) == ("ok", [], "410000")
        assert (health["catalog_version"], health["courseware"], health["edges"]) == (2, 1, 1)
        assert set(health["expires"]) == {"root", "targets", "snapshot", "timestamp"}
        page = await connection.request("/")
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "省级源站" in page.body.decode()
        assert "default-src 'none'" in page.headers["content-security-policy"]
        blob = await connection.request(f"/blobs/{done.files[0].blob}")
        assert blob.body == (tmp_path / "a.pdf").read_bytes()
        catalog = await connection.request("/targets/catalog.json")
        ref, _ = await origin.releases.current_catalog()
        assert catalog.headers["etag"] == f'"{ref.digest}"'
        assert (await connection.request(f"/targets/{ref.digest}.catalog.json")).body == catalog.body
        timestamp = await connection.request("/metadata/timestamp.json")
        missing = await connection.request("/metadata/2.root.json")
        assert timestamp.head_bytes + len(timestamp.body) + missing.head_bytes + len(missing.body) < 1200
        for reply in (page, blob, catalog, timestamp, missing):
            assert "server" not in reply.headers


async def test_every_metric_has_a_definition_and_every_definition_a_metric(root):
    async with served(root) as (_, _, connection):
        await connection.request("/metadata/timestamp.json")
        reply = await connection.request("/metrics")
    families = list(text_string_to_metric_families(reply.body.decode()))
    rows = {row.name.removesuffix("_total"): row for row in METRICS}
    assert {family.name for family in families} == set(rows)
    for family in families:
        assert (family.type, family.documentation) == (rows[family.name].kind, rows[family.name].help)
    samples = {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}
    assert samples["yuanjiao_origin_answers_total", "metadata", "200"] == 1
    assert samples["yuanjiao_origin_release",] == 1
    assert samples["yuanjiao_origin_expires_seconds", "root"] > samples["yuanjiao_origin_expires_seconds", "timestamp"]


async def test_expired_and_ending_signatures_are_told(fresh):
    clock = ManualClock()
    await init(fresh, clock)
    clock.now += 25 * HOUR
    async with served(fresh, clock) as (_, _, connection):
        health = json.loads((await connection.request("/healthz")).body)
        assert (health["status"], health["findings"]) == ("degraded", ["timestamp has expired"])
        assert "需要处理" in (await connection.request("/")).body.decode()


def test_judging():
    good = {"root": 10**9, "targets": 10**9, "snapshot": 200, "timestamp": 200}
    assert judge(good, 10**12, 100) == ()
    assert judge(good, 1000, 100) == ("only 1000 bytes are free",)
    assert judge(good, 10**12, 300) == ("snapshot has expired", "timestamp has expired")
    soon = dump_instant(10**9)
    assert judge(good, 10**12, 10**9 - 86400)[2:] == (f"root expires at {soon}", f"targets expires at {soon}")


async def test_faults_of_the_disk_are_told_without_paths(root):
    async with served(root) as (_, _, connection):
        (root / "metadata" / "timestamp.json").unlink()
        (root / "metadata" / "timestamp.json").mkdir()
        reply = await connection.request("/metadata/timestamp.json")
        assert (reply.status, reply.body) == (507, b"local storage\n")


async def test_an_origin_starts_and_renews_on_a_full_disk(made, tmp_path):
    with small_disk(tmp_path / "disk", "6m") as disk:
        root = Path(shutil.copytree(made, disk / "origin"))
        fill(disk / "filler")
        async with served(root, ManualClock(system_clock() + 2 * HOUR)) as (origin, _, connection):
            assert await origin.releases.renew()
            assert (await connection.request("/metadata/timestamp.json")).status == 200
            findings = json.loads((await connection.request("/healthz")).body)["findings"]
            assert [one.partition(" ")[2].partition(" ")[2] for one in findings] == ["bytes are free"]


async def test_long_headers_and_bodies_are_refused(root):
    async with served(root) as (_, port, connection):
        reply = await connection.request("/healthz", X="y" * (MAX_FIELD_BYTES + 1))
        assert reply.status == 400
        assert await connection.is_closed()
        other = await Connection.open(port)
        assert (await other.request("/healthz?" + "q" * 9000)).status == 400
        await other.close()


async def test_what_clients_send_wrong_is_not_logged_and_our_own_faults_are(root, caplog):
    async with served(root) as (origin, port, _):
        for nonsense in (b"\x16\x03\x01 hello\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n"):
            other = await Connection.open(port)
            await other.send(nonsense)
            assert (await other.reader.read()).startswith(b"HTTP/1.0 400 ")
            await other.close()
        assert caplog.records == []
        other = await Connection.open(port)
        object.__setattr__(origin.paths, "root", None)  # a bug: what follows is no fault that anybody foresaw
        assert (await other.request("/healthz")).status == 500
        await other.close()
        assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_connections_that_ask_nothing_are_closed_and_others_are_not(root):
    async with served(root, first_request_s=0.2) as (origin, port, connection):
        assert (await connection.request("/healthz")).status == 200
        silent, slow = await Connection.open(port), await Connection.open(port)
        await slow.send("GET /healthz HTTP/1.1\r\nHost")
        assert await silent.is_closed()
        assert await slow.is_closed()
        assert (await connection.request("/healthz")).status == 200
        assert origin.metrics.value("idle_closed") == 2


async def test_idle_connections_are_closed(root):
    async with served(root, keepalive_s=1) as (_, _, connection):
        assert (await connection.request("/healthz")).status == 200
        assert await connection.is_closed()


async def test_a_port_in_use_is_a_configuration_error():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="cannot listen"):
        async with running(new_application(), "127.0.0.1", taken.getsockname()[1], Serve(), Metrics()):
            pass


class Scripted:
    """Releases whose renewals end as told; the next one is awaited for ever."""

    def __init__(self, *outcomes) -> None:
        self.outcomes = list(outcomes)
        self.done = asyncio.Event()

    async def renew(self) -> bool:
        if not self.outcomes:
            self.done.set()
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_renewal_goes_on_after_faults():
    releases = Scripted(True, StorageError("disk"), StorageError("disk"), ValueError("a bug"), False, True)
    metrics = Metrics()
    task = asyncio.create_task(keep_renewed(releases, metrics, 0))
    await asyncio.wait_for(releases.done.wait(), 60)
    task.cancel()
    await asyncio.wait({task})
    counts = {outcome: metrics.value("renewals", outcome=outcome) for outcome in ("renewed", "kept", "failed")}
    assert counts == {"renewed": 2, "kept": 1, "failed": 3}


SERVE = """
import asyncio, os, sys
from pathlib import Path
from origin import app
from origin.clock import system_clock

asyncio.run(app.serve(Path(sys.argv[1]), "127.0.0.1", 0, os.environ, system_clock, lambda url: print(url, flush=True)))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_ends_cleanly_and_lets_an_answer_end(root, number):
    blob = b"x" * (24 << 20)  # more than the sockets' buffers hold
    async with app.open_origin(root, {}, system_clock) as origin:
        ref = await store(origin, blob)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(root), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        url = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        connection = await Connection.open(int(url.rpartition(":")[2]), limit=1 << 16)
        await connection.send(f"GET /blobs/{ref.digest} HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await connection.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        process.send_signal(number)
        assert await connection.reader.readexactly(len(blob)) == blob
        assert await connection.is_closed()
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"Traceback" not in await process.stderr.read()
    assert [entry.name for entry in (root / "staging").iterdir()] == [".lock"]


async def store(origin, data):
    staging = origin.paths.staging / "test"
    staging.mkdir()
    ref = await store_bytes(origin.storage, staging, data)
    staging.rmdir()
    return ref


async def test_serving_renews_at_once(fresh):
    clock = ManualClock()
    await init(fresh, clock)
    clock.now += 13 * HOUR
    before = (fresh / "metadata" / "timestamp.json").read_bytes()
    ready = asyncio.Event()
    task = asyncio.create_task(app.serve(fresh, "127.0.0.1", 0, {}, clock, lambda _: ready.set()))
    await asyncio.wait_for(ready.wait(), 60)
    async with asyncio.timeout(60):
        while (fresh / "metadata" / "timestamp.json").read_bytes() == before:
            await asyncio.sleep(0.02)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(task, 60)
