"""Every exit status of the contract, met as an operator would meet it: one line on standard error, in Chinese."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.media import make_mp4, make_pdf
from support.program import Done, run, serving, succeed
from support.small_disk import small_disk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An origin that serves nobody, a bundle of it, and two files to publish. Tests copy what they change."""
    root = tmp_path_factory.mktemp("exits")
    succeed("origin", "init", root / "origin")
    bundle = root / "bundle.json"
    succeed("origin", "enroll", root / "origin", "410122", "--upstream", "http://127.0.0.1:9", "--out", bundle)
    make_mp4(root / "a.mp4", seconds=1)
    make_pdf(root / "a.pdf")
    return root


@pytest.fixture
def edge(made: Path, tmp_path: Path) -> Path:
    """An edge whose only upstream is a closed port."""
    succeed("edge", "init", tmp_path / "edge", "--bundle", made / "bundle.json")
    return tmp_path / "edge"


@pytest.fixture
def url(made: Path) -> Iterator[str]:
    with serving("origin", "serve", made / "origin", "--host", "127.0.0.1", "--port", "0") as address:
        yield address


def _is_one_line(done: Done, code: int) -> bool:
    assert done.code == code, done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert done.err.startswith("错误 ")
    assert "提示：" in done.err
    assert "Traceback" not in done.err
    return True


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("", "a.pdf"),
        ("字" * 201, "a.pdf"),
        ("甲\n乙", "a.pdf"),
        ("甲\u202e乙", "a.pdf"),
        ("好", "none.pdf"),
        ("好", "b.mp4"),
    ],
    ids=["empty title", "long title", "line break", "direction mark", "no such file", "text named mp4"],
)
def test_refused_input_is_2_and_changes_nothing(made: Path, title: str, name: str) -> None:
    (made / "b.mp4").write_text("this is text\n" * 100)
    before = run("recall", "nothing", "--origin", made / "origin", "--reason", "x").code
    done = run("publish", made / name, "--origin", made / "origin", "--title", title)
    assert before == 2
    assert _is_one_line(done, 2)
    assert done.out == ""


def test_every_fault_of_a_configuration_is_told_together(edge: Path) -> None:
    (edge / "edge.toml").write_text("[serve]\nport = 99999\nprot = 1\n[sink]\n", encoding="utf-8")
    for command in (("edge", "sync"), ("edge", "serve"), ("doctor",)):
        done = run(*command, edge)
        assert _is_one_line(done, 2)
        assert all(word in done.err for word in ("port", "prot", "sink"))


@pytest.mark.parametrize(
    "arguments",
    [("origin", "serve"), ("edge", "serve"), ("edge", "sync"), ("edge", "scrub"), ("doctor",), ("origin", "enroll")],
    ids=" ".join,
)
def test_a_directory_that_is_neither_is_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "x").mkdir()
    more = ("410122", "--out", tmp_path / "b", "--upstream", "http://a") if "enroll" in arguments else ()
    assert _is_one_line(run(*arguments, tmp_path / "x", *more), 2)


def test_a_wrong_bundle_is_2(made: Path, tmp_path: Path) -> None:
    for text in ("", "{}", "not json", (made / "bundle.json").read_text()[:-40]):
        (tmp_path / "bundle.json").write_text(text)
        assert _is_one_line(run("edge", "init", tmp_path / "e", "--bundle", tmp_path / "bundle.json"), 2)
        assert not (tmp_path / "e" / "edge.toml").exists()


def test_an_init_does_not_overwrite(made: Path, edge: Path) -> None:
    assert _is_one_line(run("origin", "init", made / "origin"), 2)
    other = made / "410225.json"
    succeed(
        "origin", "enroll", made / "origin", "410225", "--upstream", "http://127.0.0.1:9", "--out", other, "--force"
    )
    assert _is_one_line(run("edge", "init", edge, "--bundle", other), 2)
    assert _is_one_line(run("origin", "enroll", made / "origin", "410122", "--out", made / "bundle.json"), 2)


def test_another_province_is_3(made: Path, tmp_path: Path, url: str) -> None:
    """The upstream serves a release that was signed by keys which this edge's root does not know."""
    succeed("origin", "init", tmp_path / "other")
    bundle = tmp_path / "b.json"
    succeed("origin", "enroll", tmp_path / "other", "410122", "--upstream", url, "--out", bundle)
    succeed("edge", "init", tmp_path / "edge", "--bundle", bundle)
    done = run("edge", "sync", tmp_path / "edge")
    assert _is_one_line(done, 3)
    assert "内容不可信" in done.err


def test_an_upstream_that_is_gone_is_4(edge: Path) -> None:
    done = run("edge", "sync", edge, YUANJIAO_UPSTREAM_RETRIES="0")
    assert _is_one_line(done, 4)
    assert "传输失败" in done.err
    assert _is_one_line(Done(*_without_out(run("doctor", edge))), 4)


def test_a_failed_command_still_prints_its_one_object(edge: Path, tmp_path: Path) -> None:
    done = run("edge", "sync", edge, "--json", YUANJIAO_UPSTREAM_RETRIES="0")
    assert _is_one_line(done, 4)
    assert (done.json["exit_code"], done.json["complete"]) == (4, False)
    assert {"catalog_version", "added", "bytes_fetched", "deferred", "sources", "error_zh"} <= set(done.json)
    done = run("edge", "sync", tmp_path / "none", "--json")
    assert _is_one_line(done, 2)
    assert done.json["exit_code"] == 2
    assert done.json["hint_zh"]


def test_a_lost_bundle_stops_the_nights_and_not_the_serving(edge: Path) -> None:
    (edge / "identity" / "bundle.json").unlink()
    with (
        serving("edge", "serve", edge, "--host", "127.0.0.1", "--port", "0") as address,
        urllib.request.urlopen(f"{address}/", timeout=10) as answer,
    ):
        assert answer.status == 200


def test_a_misspelt_variable_is_2(edge: Path) -> None:
    done = run("edge", "sync", edge, "--dry-run", YUANJIAO_SERVE_PROT="1")
    assert _is_one_line(done, 2)
    assert "YUANJIAO_SERVE_PROT" in done.err


def test_lost_and_damaged_content_is_found(made: Path, tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    shutil.copytree(made / "origin", origin)
    digest = succeed("publish", made / "a.pdf", "--origin", origin, "--title", "好")["files"][0]["sha256"]
    assert "fail" not in {one["level"] for one in succeed("doctor", origin)["findings"]}
    blob = origin / "blobs" / digest[:2] / digest
    data = blob.read_bytes()
    blob.write_bytes(data[:-1])
    assert _failed(origin) == ["content"]
    blob.write_bytes(data)
    targets = json.loads((origin / "metadata" / "2.targets.json").read_bytes())
    name = targets["signed"]["targets"]["catalog.json"]["hashes"]["sha256"]
    catalog = origin / "blobs" / name[:2] / name
    catalog.write_bytes(catalog.read_bytes().replace(b"kj-", b"kk-", 1))
    assert _failed(origin) == ["content"]


def _failed(root: Path) -> list[str]:
    done = run("doctor", root, "--json")
    assert _is_one_line(done, 5)
    return [one["id"] for one in done.json["findings"] if one["level"] == "fail"]


def _without_out(done: Done) -> tuple[int, str, str]:
    return done.code, "", done.err


def test_a_port_in_use_is_2(made: Path, edge: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = str(taken.getsockname()[1])
        for command in (("origin", "serve", made / "origin"), ("edge", "serve", edge)):
            done = run(*command, "--host", "127.0.0.1", "--port", port)
            assert done.code == 2
            assert done.err.splitlines()[-1].startswith("错误 配置错误")


def test_a_full_disk_is_5_at_publish_and_at_sync(made: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "3m") as disk:
        origin = disk / "origin"
        shutil.copytree(made / "origin", origin)
        video = make_mp4(tmp_path / "big.mp4", seconds=4, width=640, height=360, noise=True)
        assert video.stat().st_size > 3 << 20
        done = run("publish", video, "--origin", origin, "--title", "大")
        assert _is_one_line(done, 5)
        assert "本地存储故障" in done.err
        shutil.rmtree(origin)
        succeed("publish", video, "--origin", made / "origin", "--title", "大", "--id", "big")
        with serving("origin", "serve", made / "origin", "--host", "127.0.0.1", "--port", "0") as address:
            succeed("edge", "init", disk / "edge", "--bundle", made / "bundle.json")
            env = {"YUANJIAO_UPSTREAM_URLS": address, "YUANJIAO_STORE_RESERVE_BYTES": "0"}
            done = run("edge", "sync", disk / "edge", "--json", **env)
    assert _is_one_line(done, 5)
    assert done.json["complete"] is False
    assert [one["id"] for one in done.json["deferred"]] == ["big"]
    assert done.json["deferred"][0]["reason"]


def test_no_disk_below_the_directory_is_5_for_doctor(made: Path, edge: Path) -> None:
    done = run(
        "doctor", edge, "--json", YUANJIAO_STORE_RESERVE_BYTES=str(1 << 60), YUANJIAO_UPSTREAM_URLS="http://127.0.0.1:9"
    )
    assert _is_one_line(done, 5)
    failed = {finding["id"] for finding in done.json["findings"] if finding["level"] == "fail"}
    assert failed == {"disk.free", "upstream.1"}
    assert done.json["verdict"] == "fail"


def test_keys_that_others_can_read_are_found(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "origin", tmp_path / "origin")
    (tmp_path / "origin" / "keys" / "snapshot.pem").chmod(0o644)
    done = run("doctor", tmp_path / "origin", "--json")
    assert _is_one_line(done, 2)
    assert [one["id"] for one in done.json["findings"] if one["level"] == "fail"] == ["keys"]
    assert _is_one_line(run("publish", made / "a.pdf", "--origin", tmp_path / "origin", "--title", "好"), 2)


def test_damaged_databases_are_found(made: Path, edge: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "origin", tmp_path / "origin")
    for path in (tmp_path / "origin" / "origin.sqlite", edge / "index.sqlite"):
        if not path.exists():
            continue
        path.write_bytes(b"\x55" * 8192)
        done = run("doctor", path.parent, "--json")
        assert done.code == 5
        assert {"database", "index"} & {one["id"] for one in done.json["findings"] if one["level"] == "fail"}


def test_a_passphrase_protects_the_keys(tmp_path: Path, made: Path) -> None:
    secret = {"YUANJIAO_KEYS_PASSPHRASE": "correct horse"}
    succeed("origin", "init", tmp_path / "origin", "--passphrase", **secret)
    assert b"ENCRYPTED" in (tmp_path / "origin" / "keys" / "root.pem").read_bytes()
    publish = ("publish", made / "a.pdf", "--origin", tmp_path / "origin", "--title", "好")
    assert _is_one_line(run(*publish), 2)
    wrong = run(*publish, YUANJIAO_KEYS_PASSPHRASE="wrong")
    assert _is_one_line(wrong, 2)
    assert "wrong" not in wrong.err
    assert succeed(*publish, **secret)["version"] == 1
