"""Java's ``compact_manifest`` copies the properties of the snapshot before it, and with them a consumer's marker."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.fence import Fence
from consumers.paimon.commit.markers import newest_marker
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import audit
from consumers.paimon.tables import check_table
from consumers.ports import CommitBatch
from schemas.positions import Position
from schemas.shards import Shard
from schemas.tables import CURATED, LEDGER
from tests.support.interop import JavaTable, compact_manifests_as_java_does, requires_interop
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    batch,
    clip_counts,
    ledger_counts,
    make_warehouse,
    processed,
    table,
)

_OURS = (NAMES.ledger, NAMES.curated)


def _copy_both(config: CatalogConfig) -> None:
    for name in _OURS:
        compact_manifests_as_java_does(config, name)


def _forget_commit_users(config: CatalogConfig) -> None:
    """Leave the markers as earlier versions wrote them."""
    for name in _OURS:
        for path in Path(table(config, name).snapshot_manager().snapshot_dir).glob("snapshot-*"):
            snapshot = json.loads(path.read_text())
            snapshot["properties"].pop("sluice.commit_user")
            path.write_text(json.dumps(snapshot))


@pytest.mark.parametrize("is_old", [False, True])
def test_running_consumer_goes_on_past_copies_of_its_marker(tmp_path: Path, is_old: bool) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, ["v0", "v1", "v2"])
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(batch(Position(), [0]))
    if is_old:
        _forget_commit_users(config)
    _copy_both(config)
    sink.commit(batch(Position(1), [1]))
    _copy_both(config)
    _copy_both(config)
    successor = PaimonSink(config, NAMES, "main", PROFILE)
    recovered = successor.open()
    assert (recovered.position, recovered.epoch) == (Position(2), 2)
    successor.commit(batch(Position(2), [2]))
    assert ledger_counts(config) == Counter({(row_id, 1): 1 for row_id in range(3)})
    assert clip_counts(config) == Counter(range(3))
    assert audit(config, NAMES, "main").is_clean


def test_copies_of_a_division_and_of_a_repositioning_fence_nobody(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, ["v0", "v1", "v2", "v3"])
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(batch(Position(), [0]))
    Rescaler(config, NAMES, "main").rescale(2)
    _copy_both(config)
    shards = [PaimonSink(config, NAMES, "main", PROFILE, shard=Shard(index, 2)) for index in (0, 1)]
    positions = [shard.open().position for shard in shards]
    _copy_both(config)
    for index, (shard, position) in enumerate(zip(shards, positions, strict=True)):
        shard.commit(batch(position, [index + 2] if index == 0 else [1, 3]))
    mover = Repositioner(config, NAMES, "main", Shard(0, 2))
    mover.make(mover.to_offset(4))
    _copy_both(config)
    shards[1].commit(batch(positions[1].union(Position(4).ranges()), []))
    again = PaimonSink(config, NAMES, "main", PROFILE, shard=Shard(0, 2))
    assert again.open().position.covers(3)
    assert clip_counts(config) == Counter(range(4))


@requires_interop
def test_consumer_goes_on_where_java_compacted_manifests_and_altered_its_tables(tmp_path: Path) -> None:
    config = JavaTable("own_tables_manifests_compacted_and_altered", tmp_path).config
    for name, spec in ((NAMES.ledger, LEDGER), (NAMES.curated, CURATED)):
        check_table(table(config, name), spec)
        manager = table(config, name).snapshot_manager()
        latest = manager.get_latest_snapshot()
        assert latest.commit_kind == "COMPACT"
        newest = newest_marker(manager, "default", latest, 0, 100).marker
        assert newest is not None
        assert newest.snapshot_id < latest.id
        running = Fence("default", newest.commit_user, f"sluice.{name}")
        running.seen(manager.get_snapshot_by_id(latest.id - 1))
        running.check(manager, latest)
    append_raw(config, ["v3"])
    sink = PaimonSink(config, NAMES, "default", PROFILE)
    assert sink.open().position == Position(3)
    sink.commit(CommitBatch((processed(3, source="sluice.raw_videos"),), Position(4)))
    assert sum(ledger_counts(config).values()) == 4
    assert audit(config, NAMES, "default").is_clean
