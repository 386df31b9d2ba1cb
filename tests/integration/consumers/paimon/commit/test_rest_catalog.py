"""Exactly once with a REST catalog: its compare-and-swap is the publisher, and the rest of the protocol goes on top."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from consumers.errors import ConfigurationError, FencedError, StoreUnavailableError
from consumers.media.samples import write_samples
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import audit
from schemas.positions import Position
from tests.support.command_line import sluice_json
from tests.support.faulty_store import Fault, FaultyStore, Request
from tests.support.rest_catalog import RestCatalogServer, catalog_options, make_rest_warehouse
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    batch,
    clip_counts,
    delete_rows,
    expire_all_but_newest,
    ledger_counts,
)

_ROOT = Path(__file__).resolve().parents[5]
_names = itertools.count()


@pytest.fixture
def warehouse(rest_catalog: RestCatalogServer) -> str:
    return rest_catalog.make_warehouse(f"rest-{next(_names)}")


@pytest.fixture
def config(rest_catalog: RestCatalogServer, warehouse: str) -> CatalogConfig:
    return make_rest_warehouse(rest_catalog.uri, warehouse)


def _sink(config: CatalogConfig) -> PaimonSink:
    return PaimonSink(config, NAMES, "main", PROFILE)


def _clean(config: CatalogConfig, num_rows: int) -> None:
    report = audit(config, NAMES, "main")
    assert report.is_clean, report
    assert (report.rows, report.ledger_rows, report.clips, report.pending) == (num_rows, num_rows, num_rows, 0)


def test_process_killed_between_the_tables_is_continued_by_the_next(config: CatalogConfig) -> None:
    append_raw(config, (f"v{n}" for n in range(3)))
    options = json.dumps(dict(config.options))
    command = [
        sys.executable,
        "-m",
        "tests.integration.consumers.paimon.commit.racing_consumer",
        options,
        "main",
        "3",
        "after_ledger_publish",
    ]
    assert subprocess.run(command, cwd=_ROOT, timeout=60, check=False).returncode == -signal.SIGKILL
    assert ledger_counts(config) == Counter({(row_id, 1): 1 for row_id in range(3)})
    assert clip_counts(config) == Counter()
    sink = _sink(config)
    recovered = sink.open()
    assert (recovered.position, recovered.ledgered) == (Position(), Position(3))
    sink.commit(batch(Position(), range(3)))
    _clean(config, 3)


def test_older_copy_is_fenced_and_an_empty_commit_keeps_the_position(config: CatalogConfig) -> None:
    append_raw(config, (f"v{n}" for n in range(4)))
    older, newer = _sink(config), _sink(config)
    older.open()
    older.commit(batch(Position(), [0, 1]))
    assert newer.open().position == Position(2)
    with pytest.raises(FencedError, match="a newer copy"):
        older.commit(batch(Position(2), [2, 3]))
    newer.commit(batch(Position(2), [2, 3], num_kept=0))
    assert _sink(config).open().position == Position(4)
    report = audit(config, NAMES, "main")
    assert report.is_clean, report
    assert (report.ledger_rows, report.clips, report.pending) == (4, 2, 0)


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.ERROR_AFTER, Fault.REFUSE])
def test_commit_whose_answer_is_lost_is_done_once(
    rest_catalog: RestCatalogServer, config: CatalogConfig, fault: Fault
) -> None:
    append_raw(config, (f"v{n}" for n in range(2)))
    with FaultyStore(rest_catalog.port) as proxy:
        sink = _sink(CatalogConfig({**config.options, "uri": proxy.endpoint}, "db"))
        position = sink.open().position
        hits = itertools.count()

        def plan(request: Request) -> Fault:
            return fault if request.is_publish and next(hits) % 2 == 0 else Fault.NONE

        proxy.plan = plan
        sink.commit(batch(position, [0, 1]))
        assert proxy.counts[fault] >= 1
    _clean(config, 2)


def test_position_is_recovered_and_deletes_hold_after_everything_expired(config: CatalogConfig) -> None:
    append_raw(config, (f"v{n}" for n in range(3)))
    sink = _sink(config)
    sink.open()
    sink.commit(batch(Position(), [0, 2]))
    PaimonSink(config, NAMES, "other", PROFILE).open()
    for name in (NAMES.ledger, NAMES.curated):
        expire_all_but_newest(config, name)
    successor = _sink(config)
    position = successor.open().position
    assert [gap.start for gap in position.missing(3)] == [1]
    successor.commit(batch(position, [1]))
    _clean(config, 3)
    delete_rows(config, NAMES.curated, [0])
    assert sum(clip_counts(config).values()) == 2


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"token": "stolen"}, ConfigurationError, "refuses the token.*set 'token.provider' and 'token'"),
        ({"token.provider": ""}, ConfigurationError, "'token.provider'"),
        ({"uri": ""}, ConfigurationError, "set the catalog option 'uri'"),
        ({"warehouse": "nowhere"}, ConfigurationError, "has no warehouse 'nowhere'.*set 'warehouse' to the name"),
    ],
)
def test_options_that_do_not_fit_are_named(
    rest_catalog: RestCatalogServer, options: dict[str, str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        open_catalog(CatalogConfig({**catalog_options(rest_catalog.uri, "any"), **options}, "db"))


def test_catalog_that_is_away_may_be_asked_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(StoreUnavailableError, match=r"REST catalog http://127.* did not answer: Connection"):
            open_catalog(CatalogConfig(catalog_options(uri, "any"), "db"))


def test_main_job_runs_from_init_to_audit(
    rest_catalog: RestCatalogServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    warehouse = rest_catalog.make_warehouse("films")
    media = tmp_path / "media"
    write_samples(media, count=2)
    options = {name: value for name, value in catalog_options(rest_catalog.uri, "").items() if name != "warehouse"}
    monkeypatch.setenv("SLUICE_CATALOG__OPTIONS", json.dumps(options))

    created = sluice_json("init", "--warehouse", warehouse, "--allow", str(media))
    assert len(created["created"]) == 4
    added = sluice_json("ingest", str(media))["added"]
    assert sluice_json("run", "--until-caught-up", "--pool", "inline")["lag"] == 0
    report = sluice_json("audit")
    assert (report["rows"], report["missing"], report["duplicated"], report["unaccounted"]) == (added, 0, 0, 0)
    assert report["clips"] > 0
    sluice_json("clips", "--export", "dataset")
    assert len(list(Path("dataset").rglob("*.mp4"))) == report["clips"]
