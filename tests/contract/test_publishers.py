"""Whatever the storage: a commit that was acknowledged is in the table, and no commit is there twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.paimon.catalog import CatalogConfig
from tests.support.faulty_store import Fault, FaultyStore, random_faults
from tests.support.rest_catalog import RestCatalogServer, make_rest_warehouse
from tests.support.s3_server import S3Server, make_s3_warehouse
from tests.support.warehouse import NAMES, make_warehouse, rows_of, table

_NUM_WRITERS, _NUM_COMMITS = 3, 5


@pytest.fixture(scope="module")
def writers() -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "tests.support.publishing_writer"]
    started = [
        subprocess.Popen(
            [*command, str(writer), str(_NUM_COMMITS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for writer in range(_NUM_WRITERS)
    ]
    yield started
    for writer in started:
        writer.communicate(timeout=30)


_LOSSES = {Fault.CUT_AFTER: 0.2, Fault.ERROR_AFTER: 0.2, Fault.REFUSE: 0.1, Fault.DELAY: 0.1}


@pytest.fixture(params=["disk", "s3", "s3_that_loses_answers", "rest", "rest_that_loses_answers"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CatalogConfig]:
    kind, _, loses_answers = request.param.partition("_that_")
    if kind == "disk":
        yield make_warehouse(tmp_path / "warehouse")
        return
    name = f"publishers-{request.param.replace('_', '-')}"
    server: S3Server | RestCatalogServer
    if kind == "s3":
        server = request.getfixturevalue("s3_server")
        where = server.endpoint
        make, place = make_s3_warehouse, server.make_bucket(name)
    else:
        server = request.getfixturevalue("rest_catalog")
        where = server.uri
        make, place = make_rest_warehouse, server.make_warehouse(name)
    if not loses_answers:
        yield make(where, place)
        return
    with FaultyStore(server.port, delay_s=0.05) as store:
        made = make(store.endpoint, place)
        store.plan = random_faults(7, _LOSSES, lambda asked: asked.is_publish)
        yield made
        assert store.counts[Fault.CUT_AFTER] + store.counts[Fault.ERROR_AFTER] > 3


def test_processes_that_append_at_the_same_time_lose_nothing_they_were_promised(
    config: CatalogConfig, writers: list[subprocess.Popen[str]]
) -> None:
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(json.dumps(dict(config.options)) + "\n")
        writer.stdin.flush()
    answers = [json.loads(writer.stdout.readline()) for writer in writers if writer.stdout is not None]
    acknowledged = {row_id for done, _ in answers for row_id in done}
    uncertain = {row_id for _, unknown in answers for row_id in unknown}

    found = Counter(row["source_row_id"] for row in rows_of(config, NAMES.ledger, ["source_row_id"]))
    assert set(found.values()) == {1}
    assert acknowledged <= set(found) <= acknowledged | uncertain
    assert not uncertain
    latest = table(config, NAMES.ledger).snapshot_manager().get_latest_snapshot()
    assert latest.id == len(found) == _NUM_WRITERS * _NUM_COMMITS
