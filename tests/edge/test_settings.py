"""Every setting of an edge is a row with a default, limits and help in both languages."""

import pytest

from edge.settings import Settings
from manifests.errors import ConfigurationError
from manifests.settings import load_settings, rows_of


def test_defaults() -> None:
    settings = load_settings(Settings, "", {}, "edge.toml")
    assert settings == Settings()
    assert settings.upstream.requests_in_flight == 8
    assert settings.upstream.span_pieces == 16
    assert (settings.trust.stale_after_hours, settings.trust.expired_after_days) == (24, 30)


def test_file_then_environment() -> None:
    text = '[sync]\ncolumns = ["nongye"]\n[serve]\nport = 80\n'
    env = {"YUANJIAO_SERVE_PORT": "8090", "YUANJIAO_UPSTREAM_URLS": "http://a, http://b"}
    settings = load_settings(Settings, text, env, "edge.toml")
    assert settings.sync.columns == ("nongye",)
    assert settings.serve.port == 8090
    assert settings.upstream.urls == ("http://a", "http://b")


def test_all_faults_are_told_together() -> None:
    text = "[serve]\nport = 99999\nprot = 1\n[stroe]\n"
    with pytest.raises(ConfigurationError) as caught:
        load_settings(Settings, text, {"YUANJIAO_TRUST_EXPIRED_AFTER_DAYS": "soon"}, "edge.toml")
    for word in ("serve.port", "serve.prot", "stroe", "YUANJIAO_TRUST_EXPIRED_AFTER_DAYS"):
        assert word in caught.value.message


def test_every_row_has_words_in_both_languages() -> None:
    rows = rows_of(Settings)
    assert len({row.env for row in rows}) == len(rows)
    assert [row.name for row in rows if not (row.help_en and row.help_zh)] == []
