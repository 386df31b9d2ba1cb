"""``sluice audit`` at the command line: files, bytes, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consumers.errors import ConfigurationError
from consumers.media.samples import Shot, write_video
from service.cli.main import app


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def _audit(*arguments: str) -> tuple[int, dict[str, Any]]:
    code, output = _run("audit", "--json", *arguments)
    return code, json.loads(output)


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two videos, curated; their clips are re-encoded and copied."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICE_POOL__KIND", "inline")
    monkeypatch.setenv("SLUICE_POOL__REPLICAS", "1")
    (tmp_path / "videos").mkdir()
    shots = [Shot(1.5, seed=1), Shot(1.5, seed=2)]
    for number in range(2):
        write_video(tmp_path / "videos" / f"v{number}.mp4", shots, width=160, height=96, fps=12, gop=24)
    _run("init", "--warehouse", "warehouse", "--allow", "videos")
    _run("ingest", "videos")
    assert _run("run", "--until-caught-up")[0] == 0
    return tmp_path / "warehouse"


def test_deep_audit_decodes_what_was_curated_and_finds_it_whole(warehouse: Path) -> None:
    code, report = _audit("--deep", "--all")
    assert (code, report["ok"], report["rows"], report["details"]) == (0, True, 2, [])
    assert report["clips_checked"] == report["clips"] >= 2
    assert _audit("--deep", "--sample", "1")[1]["clips_checked"] == 1
    assert _audit()[1]["clips_checked"] == 0


def test_bytes_that_are_not_what_was_curated_and_files_that_are_gone_end_with_exit_code_1(warehouse: Path) -> None:
    blobs = list(warehouse.rglob("curated_clips/**/*.blob"))
    for blob in blobs:
        whole = blob.read_bytes()
        blob.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[len(whole) // 2 + 4 :])
    assert _audit()[0] == 0
    code, report = _audit("--deep", "--all")
    assert (code, report["ok"], report["files_missing"]) == (1, False, 0)
    assert report["clips_broken"] >= 1
    assert "table sluice.curated_clips: row 0: clip " in report["details"][0]
    for blob in blobs:
        blob.unlink()
    code, report = _audit()
    assert (code, report["ok"], report["files_missing"]) == (1, False, len(blobs))
    code, output = _run("audit")
    assert code == 1
    assert f"audit: {len(blobs)} files missing" in output


def test_options_that_do_not_go_together_are_refused(warehouse: Path) -> None:
    with pytest.raises(ConfigurationError, match="go with --deep only"):
        _run("audit", "--all")
    with pytest.raises(ConfigurationError, match="give one of them"):
        _run("audit", "--deep", "--all", "--sample", "3")
