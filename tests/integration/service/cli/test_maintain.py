"""`sluice maintain`: says what it would do, does it, and leaves the tables to one process at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.clock import SystemClock
from consumers.errors import AlreadyRunningError
from consumers.members.lease import LeaseKeeper
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.lease import PaimonLeases
from consumers.paimon.commit.sink import PaimonSink
from service.cli.main import app
from tests.support.warehouse import NAMES, PROFILE, batch, ledger_counts, make_warehouse, table


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    made = make_warehouse(tmp_path / "warehouse")
    sink = PaimonSink(made, NAMES, "films", PROFILE)
    position = sink.open().position
    for row_id in range(130):
        next_ = batch(position, [row_id])
        sink.commit(next_)
        position = next_.position
    sink.close()
    (tmp_path / "sluice.toml").write_text(
        f'[catalog]\nwarehouse = "{tmp_path / "warehouse"}"\n[tables]\ndatabase = "db"\n'
        "[maintenance]\nkeep_snapshots_min = 10\nkeep_snapshots_max = 100\n"
    )
    return made


def test_dry_run_then_run(config: CatalogConfig, tmp_path: Path) -> None:
    arguments = ["maintain", "--config", str(tmp_path / "sluice.toml")]
    would = json.loads(CliRunner().invoke(app, [*arguments, "--dry-run", "--json"]).output)
    ledger = next(each for each in would["tables"] if each["table"].endswith(NAMES.ledger))
    assert would["dry_run"] is True
    assert ledger["expired"]["num_snapshots"] == 31
    assert ledger["compacted"]["num_before"] == 130
    assert len(table(config, NAMES.ledger).snapshot_manager().list_snapshots()) == 131
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    # A compaction is a snapshot, too.
    assert f"db.{NAMES.ledger}: 130 data files became 1; 32 snapshots with" in result.output
    assert len(table(config, NAMES.ledger).snapshot_manager().list_snapshots()) == 100
    assert len(ledger_counts(config)) == 130


def test_one_at_a_time(config: CatalogConfig, tmp_path: Path) -> None:
    keeper = LeaseKeeper(PaimonLeases(config, NAMES.control).of("maintenance"), "maintenance", SystemClock())
    keeper.acquire()
    try:
        result = CliRunner().invoke(app, ["maintain", "--config", str(tmp_path / "sluice.toml")])
    finally:
        keeper.close()
    assert isinstance(result.exception, AlreadyRunningError)
    assert "another process" in str(result.exception)
