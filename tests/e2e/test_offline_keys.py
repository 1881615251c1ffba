"""Root and targets keys live in a drawer: the machine publishes only while their medium is there."""

from __future__ import annotations

import json
from pathlib import Path

from support.media import make_pdf
from support.program import run, serving, succeed


def _publish(root: Path, *more: object) -> tuple[object, ...]:
    return ("publish", root / "a.pdf", "--origin", root / "origin", "--title", "明白纸", "--id", "mingbaizhi", *more)


def test_publish_recall_and_rotate_with_keys_on_a_medium(tmp_path: Path) -> None:
    origin, drawer = tmp_path / "origin", tmp_path / "drawer"
    make_pdf(tmp_path / "a.pdf")
    succeed("origin", "init", origin, "--root-keys", "3", "--root-threshold", "2")
    drawer.mkdir()
    for path in sorted((origin / "keys").glob("*.pem")):
        if path.name.startswith(("root", "targets")):
            path.rename(drawer / path.name)

    refused = run(*_publish(tmp_path))
    assert refused.code == 2
    assert "targets" in refused.err
    done = succeed(*_publish(tmp_path, "--keys", drawer))
    assert (done["id"], done["version"]) == ("mingbaizhi", 1)

    succeed("origin", "enroll", origin, "中牟县", "--upstream", "http://127.0.0.1:9", "--out", tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["region"] == "410122"
    with serving("origin", "serve", origin, "--host", "127.0.0.1", "--port", "0") as url:
        succeed("edge", "init", tmp_path / "edge", "--bundle", tmp_path / "b.json")
        settings = tmp_path / "edge" / "edge.toml"
        settings.write_text(f'[upstream]\nurls = ["{url}"]\n', encoding="utf-8")
        succeed("edge", "sync", tmp_path / "edge", "--now")
        for role in ("root", "targets", "snapshot", "timestamp"):
            succeed("keys", "rotate", role, "--origin", origin, "--keys", drawer)
        report = succeed("edge", "sync", tmp_path / "edge", "--now")
        assert (report["complete"], report["freshness"]) == (True, "fresh")
        succeed("recall", "mingbaizhi", "--origin", origin, "--keys", drawer, "--reason", "内容有误")
        report = succeed("edge", "sync", tmp_path / "edge", "--now")
        assert report["recalled"] == ["mingbaizhi"]
