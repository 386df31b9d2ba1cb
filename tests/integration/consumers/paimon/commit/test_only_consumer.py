from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.only_consumer import check_only_consumer
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.tables import create_tables
from schemas.positions import Position
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    batch,
    expire_all_but_newest,
    make_warehouse,
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
        sink = PaimonSink(config, NAMES, consumer, PROFILE)
        assert sink.open().position == Position(2)
