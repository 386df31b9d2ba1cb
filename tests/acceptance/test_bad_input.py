"""Input that does not fit: one clear line on what, where and what to do; exit code 2; nothing half-created."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pypaimon import CatalogFactory, Schema

from service.cli.main import main

Sluice = Callable[..., tuple[int, str]]


@pytest.fixture
def sluice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sluice:
    """Run the command line in a folder of its own; return exit code and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sluice", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return int(code) if code is not None else 0, capsys.readouterr().err

    return run


def test_warehouse_that_does_not_exist_is_named(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text('[catalog]\nwarehouse = "/no/such/place"\n')
    for command in (["init"], ["run"], ["status"], ["audit"], ["clips"], ["ingest", "."]):
        code, message = sluice(*command)
        if command[0] == "ingest":
            assert "no video file there" in message
        else:
            assert message == (
                "sluice: warehouse /no/such/place: does not exist; make the folder, or set another warehouse\n"
            )
        assert code == 2


def test_warehouse_that_is_a_file_is_refused_and_no_settings_are_written(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, message = sluice("init", "--warehouse", "file")
    assert code == 2
    assert "is not a folder" in message
    assert not (tmp_path / "sluice.toml").exists()


def test_no_settings_at_all_says_what_is_missing_and_how_to_start(sluice: Sluice) -> None:
    code, message = sluice("run")
    assert code == 2
    assert "sluice.toml: there is no such settings file; name one with --config, or make one with" in message
    assert "sluice: setting catalog: is missing; set it in sluice.toml or as SLUICE_CATALOG" in message


def test_settings_file_that_exists_is_not_overwritten(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text("# mine\n")
    code, message = sluice("init", "--warehouse", "w")
    assert code == 2
    assert "sluice.toml: exists already" in message
    assert (tmp_path / "sluice.toml").read_text() == "# mine\n"
    assert not (tmp_path / "w").exists()


def test_unknown_and_mistyped_settings_are_all_named_at_once(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "sluice.toml").write_text('[catalog]\nwarehouse = "."\n[pool]\nkinds = "ray"\nreplicas = "two"\n')
    code, message = sluice("status")
    assert code == 2
    assert "sluice: setting pool.kinds: there is no such setting" in message
    assert "sluice: setting pool.replicas: input should be a valid integer" in message


def test_media_that_do_not_exist_or_are_not_allowed_add_no_row(sluice: Sluice, tmp_path: Path) -> None:
    assert sluice("init", "--warehouse", "warehouse")[0] == 0
    code, message = sluice("ingest", "missing.mp4")
    assert code == 2
    assert "missing.mp4: does not exist" in message
    (tmp_path / "outside.mp4").write_bytes(b"x")
    code, message = sluice("ingest", "outside.mp4")
    assert code == 2
    assert "outside.mp4" in message
    assert "add its folder or prefix to allow in [input]" in message
    assert not list(tmp_path.glob("warehouse/sluice.db/raw_videos/snapshot/snapshot-*"))


def test_table_that_does_not_fit_is_named_and_nothing_is_created(sluice: Sluice, tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    catalog = CatalogFactory.create({"warehouse": str(tmp_path / "warehouse")})
    catalog.create_database("sluice", True)
    wrong = pa.schema([pa.field("consumer", pa.string(), nullable=False), pa.field("status", pa.int64())])
    catalog.create_table("sluice.curation_ledger", Schema.from_pyarrow_schema(wrong), False)
    code, message = sluice("init", "--warehouse", "warehouse")
    assert code == 2
    assert "table sluice.curation_ledger: source_table: found no such column, needed STRING NOT NULL" in message
    assert [path.name for path in (tmp_path / "warehouse" / "sluice.db").iterdir()] == ["curation_ledger"]
    assert not (tmp_path / "sluice.toml").exists()


def test_unknown_pool_and_missing_demo_folder_are_refused(sluice: Sluice) -> None:
    code, message = sluice("demo", "--media", "nowhere")
    assert (code, message) == (2, "sluice: --media nowhere: there is no such folder\n")
    code, message = sluice("demo", "--pool", "cloud")
    assert code == 2
    assert "setting pool.kind: input should be 'ray' or 'inline'" in message


def test_listing_of_an_empty_table_says_where_to_look(sluice: Sluice) -> None:
    assert sluice("init", "--warehouse", "warehouse")[0] == 0
    for command in ("clips", "status", "audit"):
        assert sluice(command)[0] == 0


def test_unknown_option_is_a_usage_error(sluice: Sluice) -> None:
    code, message = sluice("run", "--no-such-option")
    assert code == 2
    assert "--no-such-option" in message
