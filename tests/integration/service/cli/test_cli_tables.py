"""``sluice status`` and ``sluice clips --export`` on tables that the commits of several consumers, or of none, made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from service.cli.main import app
from tests.support.command_line import sluice_json
from tests.support.warehouse import NAMES, PROFILE, append_raw, batch, clip_counts, expire_all_but_newest


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CatalogConfig:
    """A folder with settings, and three raw rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICE_CONSUMER__ID", "films")
    monkeypatch.setenv("SLUICE_TABLES__DATABASE", "db")
    sluice_json("init", "--warehouse", "warehouse")
    config = CatalogConfig({"warehouse": str(tmp_path / "warehouse")}, "db")
    append_raw(config, "abc")
    return config


def _curate(config: CatalogConfig, consumer: str, num_rows: int = 2) -> None:
    sink = PaimonSink(config, NAMES, consumer, PROFILE)
    sink.commit(batch(sink.open().position, range(num_rows)))
    sink.close()


def _status() -> str:
    result = CliRunner().invoke(app, ["status"], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_export_of_two_consumers_is_refused_and_writes_nothing(config: CatalogConfig, tmp_path: Path) -> None:
    for consumer in ("films", "books"):
        _curate(config, consumer)
    with pytest.raises(ConfigurationError, match=r"of the consumers books and films, .*; choose one with --consumer"):
        sluice_json("clips", "--export", "dataset")
    assert not (tmp_path / "dataset").exists()
    assert sluice_json("clips", "--export", "dataset", "--consumer", "books")["clips"] == 2
    lines = (tmp_path / "dataset" / "clips.jsonl").read_text().splitlines()
    assert [json.loads(line)["consumer"] for line in lines] == ["books", "books"]
    assert len(list((tmp_path / "dataset").glob("*.mp4"))) == 2


def test_export_of_one_consumer_asks_for_no_choice(config: CatalogConfig) -> None:
    _curate(config, "films")
    assert sluice_json("clips", "--export", "dataset")["clips"] == 2


def test_status_of_a_consumer_that_has_committed_nothing_says_so(config: CatalogConfig) -> None:
    assert "consumer films: has committed nothing yet; 3 rows of the raw table wait for `sluice run`" in _status()
    _curate(config, "books", 3)
    assert "consumer films: has committed nothing yet; 3 rows of the raw table wait" in _status()
    assert (sluice_json("status")["lag_rows"], sluice_json("status")["sequence"]) == (3, 0)


def test_status_of_a_consumer_whose_marker_has_expired_says_so_and_tells_what_it_did(config: CatalogConfig) -> None:
    _curate(config, "films")
    assert "consumer films: 1 of 3 rows behind, commit #1" in _status()
    PaimonSink(config, NAMES, "books", PROFILE).open()
    for name in (NAMES.ledger, NAMES.curated):
        expire_all_but_newest(config, name)
    said = _status()
    assert "consumer films: its newest commit has expired, or lies far back; the next `sluice run` finds" in said
    assert "videos: 2 curated, 0 rejected, 0 failed" in said
    assert sluice_json("status")["videos"]["curated"] == 2
    _curate(config, "films", 3)
    assert "consumer films: 0 of 3 rows behind" in _status()
    assert clip_counts(config) == {0: 1, 1: 1, 2: 1}
