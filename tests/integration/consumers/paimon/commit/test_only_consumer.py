from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.only_consumer import check_only_consumer
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.tables import TableNames, create_tables
from schemas.positions import Position
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    batch,
    expire_all_but_newest,
    make_warehouse,
    table,
)


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, "ab")
    return config


def _run(config: CatalogConfig, consumer: str, num_rows: int = 0) -> None:
    sink = PaimonSink(config, NAMES, consumer, PROFILE)
    done = sink.open().position
    if num_rows:
        sink.commit(batch(done, range(num_rows)))
    sink.close()


def test_first_consumer_and_the_same_again_are_welcome(config: CatalogConfig) -> None:
    check_only_consumer(config, NAMES, "films")
    _run(config, "films", 2)
    check_only_consumer(config, NAMES, "films")


@pytest.mark.parametrize("num_rows", [0, 2])
def test_second_consumer_of_a_source_is_refused_with_what_to_do(config: CatalogConfig, num_rows: int) -> None:
    _run(config, "films", num_rows)
    with pytest.raises(
        ConfigurationError,
        match=r"^consumer books: table db\.curated_clips holds the clips of db\.raw_videos by consumer films already, "
        r".*twice; run that one, or name other .* `sluice run --second-consumer` insists$",
    ):
        check_only_consumer(config, NAMES, "books")


def test_second_consumer_is_known_by_its_rows_when_every_marker_has_expired(config: CatalogConfig) -> None:
    _run(config, "films", 2)
    _run(config, "books")
    expire_all_but_newest(config, NAMES.ledger)
    with pytest.raises(ConfigurationError, match="by consumer books, films already"):
        check_only_consumer(config, NAMES, "posters")
    check_only_consumer(config, NAMES, "books")
    check_only_consumer(config, NAMES, "films")


def test_consumer_of_another_raw_table_is_no_second_one(config: CatalogConfig) -> None:
    _run(config, "films", 2)
    other = replace(NAMES, raw="other_videos")
    create_tables(open_catalog(config), config, other)
    check_only_consumer(config, other, "books")


def test_two_that_were_there_before_go_on(config: CatalogConfig) -> None:
    for consumer in ("films", "books"):
        _run(config, consumer, 2)
    for consumer in ("films", "books"):
        check_only_consumer(config, NAMES, consumer)
        sink = PaimonSink(config, NAMES, consumer, PROFILE, is_only=True)
        assert sink.open().position == Position(2)


# Looking is one thing and committing another: what was not there when a consumer looked may be there when it commits.


def _marked(config: CatalogConfig, names: TableNames = NAMES) -> set[str]:
    """Return the consumers with a commit in ledger or curated table."""
    found: set[str] = set()
    for name in (names.ledger, names.curated):
        manager = table(config, name).snapshot_manager()
        head = manager.get_latest_snapshot()
        for snapshot_id in range(1, 0 if head is None else head.id + 1):
            found.add(manager.get_snapshot_by_id(snapshot_id).properties["sluice.consumer"])
    return found


@pytest.mark.parametrize("step", ["before_ledger_claim", "after_ledger_claim", "after_curated_claim"])
def test_second_consumer_that_begins_while_the_first_does_is_refused(config: CatalogConfig, step: str) -> None:
    refused: list[str] = []

    def begin_another(reached: str) -> None:
        if reached == step:
            other = PaimonSink(config, NAMES, "books", PROFILE, is_only=True)
            try:
                other.open()
            except ConfigurationError:
                refused.append("books")
            other.close()

    sink = PaimonSink(config, NAMES, "films", PROFILE, is_only=True, on_step=begin_another)
    try:
        sink.open()
    except ConfigurationError:
        refused.append("films")
    sink.close()
    # Whoever is the first in the ledger.
    assert refused == (["films"] if step == "before_ledger_claim" else ["books"])
    assert _marked(config) == {"films", "books"} - set(refused)


def test_of_many_consumers_that_begin_at_the_same_instant_one_goes_on(config: CatalogConfig) -> None:
    names = [f"consumer{number}" for number in range(4)]
    start = Barrier(len(names))

    def begin(name: str) -> str | None:
        sink = PaimonSink(config, NAMES, name, PROFILE, is_only=True)
        check_only_consumer(config, NAMES, name)
        start.wait()
        try:
            sink.open()
        except ConfigurationError as error:
            return str(error)
        finally:
            sink.close()
        return None

    with ThreadPoolExecutor(len(names)) as threads:
        told = dict(zip(names, threads.map(begin, names), strict=True))
    [winner] = [name for name, error in told.items() if error is None]
    assert all(f"by consumer {winner} already" in error for error in told.values() if error is not None)
    assert _marked(config) == {winner}
    check_only_consumer(config, NAMES, winner)


def test_consumer_with_a_ledger_of_its_own_is_refused_by_the_curated_table(config: CatalogConfig) -> None:
    _run(config, "films")
    other = replace(NAMES, ledger="other_ledger")
    create_tables(open_catalog(config), config, other)
    with pytest.raises(ConfigurationError, match="by consumer films already"):
        check_only_consumer(config, other, "books")
    sink = PaimonSink(config, other, "books", PROFILE, is_only=True)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="by consumer films already"):
            sink.open()
    sink.close()
