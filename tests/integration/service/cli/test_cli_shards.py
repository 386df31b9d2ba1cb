"""Shards and changelog tables at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import open_catalog
from service import wiring
from service.cli.main import app, main
from service.settings import load_settings
from tests.support.changelog import KEYED, KeyedTable


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICE_POOL__KIND", "inline")
    return tmp_path / "sluice.toml"


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_shards_work_off_a_table_and_are_rescaled(settings_file: Path, tmp_path: Path) -> None:
    _run("init", "--warehouse", str(tmp_path / "warehouse"), "--allow", str(tmp_path))
    for number in range(4):
        (tmp_path / f"v{number}.mp4").write_text("not a video")
    _run("ingest", *(str(tmp_path / f"v{number}.mp4") for number in range(4)))
    with pytest.raises(ConfigurationError, match="there is no shard 2 of 2"):
        _run("run", "--until-caught-up", "--shard", "2/2")
    with pytest.raises(ConfigurationError, match="has never run"):
        _run("rescale", "2")
    first = json.loads(_run("run", "--until-caught-up", "--shard", "0/2", "--json"))
    assert (first["num_failed"], first["lag"]) == (2, 0)
    assert json.loads(_run("status", "--json"))["lag_rows"] == 2
    with pytest.raises(ConfigurationError, match="`sluice rescale 3`"):
        _run("run", "--until-caught-up", "--shard", "0/3")
    assert "2 -> 1 shards" in _run("rescale", "1")
    assert "has 1 shards already" in _run("rescale", "1")
    assert json.loads(_run("run", "--until-caught-up", "--json"))["num_failed"] == 2
    status = json.loads(_run("status", "--json"))
    assert (status["lag_rows"], status["shards"], status["videos"]["failed"]) == (0, 1, 4)
    said = " ".join(_run("run", "--until-caught-up").split())
    assert (
        "sluice.raw_videos is read by row id: new and deleted rows are seen, an UPDATE of a row's video is not" in said
    )
    assert json.loads(_run("audit", "--json"))["ok"]


def test_table_with_a_primary_key_is_curated_change_by_change(settings_file: Path, tmp_path: Path) -> None:
    keyed = KeyedTable(tmp_path / "warehouse")
    keyed.change("+Ia", "+Ib")
    settings_file.write_text(
        f"""
        [catalog]
        warehouse = "{tmp_path / "warehouse"}"
        [tables]
        database = "{keyed.config.database}"
        raw = "{KEYED.raw}"
        [raw_columns]
        video_id = "id"
        etag = ""
        metadata = []
        """
    )
    assert json.loads(_run("status", "--json"))["lag_rows"] == 2
    assert json.loads(_run("run", "--until-caught-up", "--json"))["num_failed"] == 2
    keyed.change("-Da")
    assert json.loads(_run("status", "--json"))["lag_rows"] == 1
    assert json.loads(_run("run", "--until-caught-up", "--json"))["num_retired"] == 1
    status = json.loads(_run("status", "--json"))
    assert (status["lag_rows"], status["videos"]["retired"], status["videos"]["failed"]) == (0, 1, 2)
    assert "0 rows behind" in _run("status")
    assert json.loads(_run("audit", "--json"))["ok"]
    with pytest.raises(ConfigurationError, match="by one process"):
        wiring.build_sink(load_settings(settings_file, {"consumer": {"shard": "0/2"}}))


def test_raw_table_that_was_made_anew_is_refused_until_it_is_accepted(
    settings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = tmp_path / "warehouse"
    _run("init", "--warehouse", str(warehouse), "--allow", str(tmp_path))
    for number in range(3):
        (tmp_path / f"v{number}.mp4").write_text("not a video")
    _run("ingest", str(tmp_path / "v0.mp4"), str(tmp_path / "v1.mp4"))
    assert json.loads(_run("run", "--until-caught-up", "--json"))["num_failed"] == 2
    open_catalog(wiring.catalog_config(load_settings(settings_file))).drop_table("sluice.raw_videos")
    with pytest.raises(ConfigurationError, match=r"table sluice\.raw_videos does not exist"):
        _run("status")
    _run("init")
    _run("ingest", str(tmp_path / "v2.mp4"))
    monkeypatch.setattr("sys.argv", ["sluice", "run", "--until-caught-up"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "sluice: table sluice.raw_videos: was read up to snapshot" in " ".join(capsys.readouterr().err.split())
    assert json.loads(_run("run", "--until-caught-up", "--accept-new-table", "--json"))["num_failed"] == 1
    again = json.loads(_run("run", "--until-caught-up", "--accept-new-table", "--json"))
    assert (again["num_failed"], again["lag"]) == (0, 0)
    status = json.loads(_run("status", "--json"))
    assert (status["lag_rows"], status["videos"]["failed"]) == (0, 1)
    assert json.loads(_run("audit", "--json"))["ok"]
