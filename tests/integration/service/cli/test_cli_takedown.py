"""`sluice takedown` on the tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.takedown import TakedownStore
from service import wiring
from service.cli.main import app
from service.settings import load_settings
from tests.support.consuming import consume
from tests.support.warehouse import NAMES, append_raw, clip_counts, make_warehouse

RUNNER = CliRunner()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CatalogConfig:
    for name in ("SLUICE_URL", "SLUICE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLUICE_CATALOG__WAREHOUSE", str(tmp_path / "warehouse"))
    monkeypatch.setenv("SLUICE_TABLES__DATABASE", "db")
    monkeypatch.setenv("SLUICE_CONSUMER__ID", "main")
    monkeypatch.chdir(tmp_path)
    made = make_warehouse(tmp_path / "warehouse")
    append_raw(made, ["a", "b", "a"])
    consume(made)
    append_raw(made, ["c"])
    return made


@pytest.mark.parametrize("target", ["file:///videos/a.mp4", "/videos/a.mp4", "a", "0", "2"])
def test_video_is_taken_down_however_it_is_named(config: CatalogConfig, target: str) -> None:
    result = RUNNER.invoke(app, ["takedown", target, "--reason", "asked by its owner", "--json"])
    assert result.exit_code == 0, result.output
    certificate = json.loads(result.stdout)
    assert (certificate["clips_standing"], certificate["has_old_snapshots"]) == (0, True)
    [obeyed] = certificate["obeyed"]
    assert (obeyed["consumer"], obeyed["num_rows"], obeyed["num_clips"]) == ("main", 2, 4)
    assert clip_counts(config) == {1: 2}
    listed = json.loads(RUNNER.invoke(app, ["takedown", "--status", "--json"]).stdout)
    assert listed == [certificate]
    [entry] = wiring.build_control(load_settings()).audit_trail("main", 5)
    assert (entry.action, entry.reason) == ("takedown", "asked by its owner")


def test_row_that_was_not_processed_yet_is_never_kept(config: CatalogConfig) -> None:
    assert RUNNER.invoke(app, ["takedown", "3"]).exit_code == 0
    append_raw(config, ["c"])
    consume(config)
    assert clip_counts(config) == {0: 2, 1: 2, 2: 2}


def test_row_that_does_not_exist_is_refused_and_nothing_is_changed(config: CatalogConfig) -> None:
    result = RUNNER.invoke(app, ["takedown", "99"])
    assert result.exit_code != 0
    assert "row 99: neither the ledger nor table db.raw_videos has it" in str(result.exception)
    assert TakedownStore(config, NAMES.control).read() == []
    assert wiring.build_control(load_settings()).audit_trail("main", 5) == []


def test_while_a_service_runs_the_consumer_it_is_refused(config: CatalogConfig) -> None:
    with wiring.lease(load_settings()):
        result = RUNNER.invoke(app, ["takedown", "a"])
    assert result.exit_code != 0
    assert TakedownStore(config, NAMES.control).read() == []
