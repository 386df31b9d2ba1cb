"""Options that are stored in a table: where readers begin is not obeyed, and what does not hold is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.reading.audit import audit
from consumers.paimon.source.sources import open_source
from consumers.paimon.tables import RawColumns
from schemas.positions import OffsetRange
from tests.support.changelog import KEYED, KeyedTable, read_all
from tests.support.consuming import consume
from tests.support.warehouse import NAMES, append_raw, make_warehouse, table

_BEGINNINGS = [
    {"scan.mode": "latest"},
    {"scan.mode": "full"},
    {"scan.mode": "from-snapshot", "scan.snapshot-id": "1"},
    {"scan.version": "1"},
    {"scan.tag-name": "nightly"},
    {"scan.timestamp-millis": "1"},
    {"scan.timestamp": "2020-01-01 00:00:00"},
    {"scan.watermark": "5"},
    {"scan.mode": "from-file-creation-time", "scan.file-creation-time-millis": "9999999999999"},
    {"scan.creation-time-millis": "9999999999999"},
    {"incremental-between": "1,2"},
    {"incremental-between-timestamp": "1,2"},
]


def _store(config: CatalogConfig, name: str, options: Mapping[str, str]) -> None:
    """Store options in a table, as another engine would."""
    schema = Path(table(config, name).snapshot_manager().snapshot_dir).parent / "schema" / "schema-0"
    told = json.loads(schema.read_text())
    told["options"].update(options)
    schema.write_text(json.dumps(told))


@pytest.mark.parametrize("options", _BEGINNINGS, ids=lambda options: next(reversed(options)))
def test_where_other_readers_begin_is_nothing_to_a_table_with_a_key(tmp_path: Path, options: Mapping[str, str]) -> None:
    keyed = KeyedTable(tmp_path)
    for change in ("+Ia", "+Ib", "+Ic"):
        keyed.change(change)
    keyed.expire_below(2)
    expected = read_all(keyed.source())
    keyed.set_options(options)
    assert read_all(keyed.source()) == expected
    assert [video.video_id for video in expected] == ["a", "b", "c"]


@pytest.mark.parametrize("options", _BEGINNINGS, ids=lambda options: next(reversed(options)))
def test_where_other_readers_begin_is_nothing_to_the_consumer(tmp_path: Path, options: Mapping[str, str]) -> None:
    config = make_warehouse(tmp_path)
    append_raw(config, ["a", "b", "c"])
    for name in (NAMES.raw, NAMES.ledger, NAMES.curated):
        _store(config, name, options)
    assert consume(config).counts.num_videos_committed == 3
    append_raw(config, ["d", "e"])
    assert consume(config).counts.num_videos_committed == 2
    assert audit(config, NAMES, "main").is_clean


@pytest.mark.parametrize("name", [NAMES.raw, KEYED.raw])
def test_rows_of_another_branch_are_refused(tmp_path: Path, name: str) -> None:
    keyed = KeyedTable(tmp_path)
    _store(keyed.config, name, {"scan.fallback-branch": "trial"})
    columns = RawColumns(video_id=None, size_bytes=None, etag=None, metadata=())
    with pytest.raises(ConfigurationError, match=rf"{name}: option scan\.fallback-branch = 'trial'.*unset"):
        open_source(keyed.config, name, columns)


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("scan.manifest.parallelism", "many", "'many' is not a whole number"),
        ("source.split.target-size", "big", "'big' is not a size"),
        ("deletion-vectors.enabled", "maybe", "'maybe' is not true or false"),
        ("bucket", "x", "its options do not hold"),
    ],
)
def test_option_that_cannot_be_parsed_is_named(tmp_path: Path, option: str, value: str, named: str) -> None:
    keyed = KeyedTable(tmp_path)
    _store(keyed.config, KEYED.raw, {option: value})
    with pytest.raises(ConfigurationError, match=rf"table db\.keyed_videos: .*{named}.*correct"):
        keyed.source()


def test_what_pypaimon_cannot_do_is_no_outage(tmp_path: Path) -> None:
    keyed = KeyedTable(tmp_path)
    keyed.change("+Ia")
    keyed.set_options({"query-auth.enabled": "true"})
    source = keyed.source()
    with pytest.raises(ConfigurationError, match=r"keyed_videos: pypaimon cannot do this: .*auth"):
        list(source.read([OffsetRange(0, source.head().next_offset)]))
