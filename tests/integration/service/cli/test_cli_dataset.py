"""`sluice dataset` and `sluice clips --export`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.errors import ConfigurationError
from consumers.paimon.commit.sink import PaimonSink
from consumers.ports import CommitBatch
from schemas.positions import Position
from service.cli.main import app
from tests.support.command_line import sluice_json
from tests.support.warehouse import NAMES, PROFILE, append_raw, make_warehouse, processed


def _said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_what_was_tagged_is_exported_and_what_came_since_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = make_warehouse(tmp_path / "warehouse")
    (tmp_path / "sluice.toml").write_text(
        f'[catalog]\nwarehouse = "{tmp_path / "warehouse"}"\n[tables]\ndatabase = "{config.database}"\n'
    )
    append_raw(config, "ab")
    assert _said("dataset", "list") == "no tags: make one with `sluice dataset tag NAME`"
    sink = PaimonSink(config, NAMES, "default", PROFILE)
    sink.open()
    sink.commit(CommitBatch((processed(0, 2),), Position(1)))
    made = sluice_json("dataset", "tag", "v1")
    sink.commit(CommitBatch((processed(1, 1),), Position(2)))
    sink.close()
    assert [tag["name"] for tag in sluice_json("dataset", "list")] == [made["name"]] == ["v1"]
    assert f"v1 {made['snapshot_id']}" in _said("dataset", "list")

    assert len(sluice_json("clips", "--tag", "v1")) == 2
    assert _said("clips", "--tag", "v1", "--export", "set") == "2 new clips in set"
    assert _said("clips", "--export", "set") == "1 new clip in set, 2 clips there already"
    assert sluice_json("clips", "--export", "set") == {
        "clips": 3,
        "new": 0,
        "new_without_bytes": 0,
        "folder": "set",
        "index": "set/clips.jsonl",
    }
    lines = [json.loads(line) for line in (tmp_path / "set" / "clips.jsonl").read_text().splitlines()]
    assert len({line["clip_id"] for line in lines}) == 3
    assert all((tmp_path / "set" / line["video_file"]).read_bytes().startswith(b"clip ") for line in lines)
    with pytest.raises(ConfigurationError, match="give --format jsonl, or another folder"):
        sluice_json("clips", "--export", "set", "--format", "parquet")
    report = sluice_json("clips", "--export", "shards", "--format", "parquet", "--webdataset", "--row", "0")
    assert (report["new"], report["index"]) == (2, "shards/clips-*.parquet")
    assert sorted(path.name for path in (tmp_path / "shards").glob("clips-*")) == [
        "clips-000000.parquet",
        "clips-000000.tar",
    ]
