"""``sluice replay`` straight on the tables, while no service runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.sink import PaimonSink
from consumers.ports import CommitBatch
from schemas.positions import OffsetRange
from service import wiring
from service.cli import replay
from service.settings import load_settings
from tests.support.warehouse import NAMES, PROFILE, append_raw, failed, make_warehouse, processed

app = typer.Typer()
replay.register(app)


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = tmp_path / "sluice.toml"
    path.write_text(f'[catalog]\nwarehouse = "{tmp_path / "warehouse"}"\n[tables]\ndatabase = "db"\n')
    return path


@pytest.fixture
def config(tmp_path: Path, settings_file: Path) -> CatalogConfig:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, [f"v{n}" for n in range(5)])
    sink = PaimonSink(config, NAMES, "default", PROFILE)
    recovered = sink.open()
    videos = (processed(0), failed(1), failed(2), processed(3), failed(4))
    sink.commit(CommitBatch(videos, recovered.position.union([OffsetRange(0, 5)])))
    sink.close()
    return config


def sluice(settings_file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(settings_file)])


def missing(config: CatalogConfig) -> list[OffsetRange]:
    position, _, _ = Repositioner(config, NAMES, "default").current()
    return list(position.missing(5))


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_rows_are_processed_again_and_the_audit_trail_says_who_asked(
    config: CatalogConfig, settings_file: Path
) -> None:
    assert document(sluice(settings_file, "--row", "1", "--row", "4", "--json")) == {"num_accepted": 2}
    assert missing(config) == [OffsetRange(1, 2), OffsetRange(4, 5)]
    (entry,) = wiring.build_control(load_settings(settings_file)).audit_trail("default")
    assert (entry.action, entry.detail["rows"]) == ("replay", "1,4")


def test_all_of_a_class_and_a_time_are_processed_again(config: CatalogConfig, settings_file: Path) -> None:
    told = sluice(settings_file, "--class", "not_a_video", "--since", "2026-03-04", "--until", "2026-03-05")
    assert "3 dead letters are processed again when the consumer next runs" in told.output
    assert missing(config) == [OffsetRange(1, 3), OffsetRange(4, 5)]


@pytest.mark.parametrize("row", ["0", "99"])
def test_a_row_that_is_no_dead_letter_is_refused_and_nothing_changes(
    config: CatalogConfig, settings_file: Path, row: str
) -> None:
    refused = sluice(settings_file, "--row", "1", "--row", row)
    assert isinstance(refused.exception, ConfigurationError)
    assert f"row {row}: no such dead letter" in str(refused.exception)
    assert missing(config) == []
    assert wiring.build_control(load_settings(settings_file)).audit_trail("default") == []


def test_what_matches_nothing_says_so(config: CatalogConfig, settings_file: Path) -> None:
    assert "nothing has changed" in sluice(settings_file, "--until", "2020-01-01").output
    assert missing(config) == []


def test_replay_without_a_choice_is_refused(settings_file: Path) -> None:
    assert sluice(settings_file).exit_code == 2


def test_replay_beside_a_service_that_runs_is_refused_and_changes_nothing(
    settings_file: Path, config: CatalogConfig
) -> None:
    settings = load_settings(settings_file)
    with wiring.lease(settings):
        result = sluice(settings_file, "1")
    assert isinstance(result.exception, ConfigurationError)
    assert "has been running it since" in str(result.exception)
    assert missing(config) == []
    assert wiring.build_control(settings).audit_trail() == []
    assert document(sluice(settings_file, "1", "--json")) == {"num_accepted": 1}
