"""What a person takes down is gone from the curated table, and stays so, whatever comes later and whoever dies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.side import STEPS
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.takedown import Takedown, TakedownStore, Tombstones, new_takedown
from consumers.paimon.reading.audit import audit
from consumers.paimon.tables import create_tables
from consumers.ports import CommitBatch
from consumers.testing import SimulatedCrashError
from schemas.positions import OffsetRange, Position
from schemas.records import BlobReference
from schemas.shards import Shard
from tests.support.changelog import KEYED, KeyedTable
from tests.support.consuming import consume
from tests.support.stores import warehouse_of
from tests.support.warehouse import (
    AT,
    NAMES,
    PROFILE,
    append_raw,
    batch,
    clip_counts,
    expire_all_but_newest,
    failed,
    make_warehouse,
    rows_of,
)

A, B = "file:///videos/a.mp4", "file:///videos/b.mp4"


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> CatalogConfig:
    return warehouse_of(request, tmp_path)


def take_down(config: CatalogConfig, actor: str = "ann", **what: object) -> Takedown:
    takedown = new_takedown("as typed", actor, "here", AT, "asked by its owner", **(what or {"uris": (A,)}))
    TakedownStore(config, NAMES.control).add(takedown)
    return takedown


def obey(config: CatalogConfig, die_at: str | None = None, shard: Shard | None = None) -> None:
    def on_step(step: str) -> None:
        if step == die_at:
            raise SimulatedCrashError

    sink = PaimonSink(config, NAMES, "main", PROFILE, shard=shard or Shard(), on_step=on_step)
    sink.open()
    sink.close()


def story(config: CatalogConfig) -> dict[int, list[str]]:
    """Return the status of each run of each source row."""
    rows = rows_of(config, NAMES.ledger, ["source_row_id", "run", "status"])
    assert len({(row["source_row_id"], row["run"]) for row in rows}) == len(rows)
    found: dict[int, list[str]] = {}
    for row in sorted(rows, key=lambda row: row["run"]):
        found.setdefault(row["source_row_id"], []).append(row["status"])
    return found


def assert_clean(config: CatalogConfig) -> None:
    report = audit(config, NAMES, "main")
    assert report.is_clean, report


@pytest.mark.parametrize("config", ["disk", "s3"], indirect=True)
def test_object_that_was_registered_three_times_loses_the_clips_of_all_three(config: CatalogConfig) -> None:
    append_raw(config, ["a", "b", "a", "a"])
    consume(config)
    takedown = take_down(config)
    obey(config)
    assert clip_counts(config) == {1: 2}
    assert story(config) == {row: ["curated", "retired"] for row in (0, 2, 3)} | {1: ["curated"]}
    [done] = TakedownStore(config, NAMES.control).obeyed()
    assert (done.takedown_id, done.consumer, done.shard) == (takedown.takedown_id, "main", "0/1")
    assert (done.num_rows, done.num_clips) == (3, 6)
    assert_clean(config)
    # Once more changes nothing.
    obey(config)
    assert story(config)[0] == ["curated", "retired"]


def test_registering_it_again_brings_nothing_back(config: CatalogConfig) -> None:
    append_raw(config, ["a"])
    consume(config)
    take_down(config)
    obey(config)
    append_raw(config, ["a", "b"])
    consume(config)
    assert story(config) == {0: ["curated", "retired"], 1: ["retired"], 2: ["curated"]}
    assert clip_counts(config) == {2: 2}
    assert_clean(config)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("has_expired", [False, True])
def test_process_that_dies_at_any_step_leaves_it_to_the_next(
    config: CatalogConfig, step: str, has_expired: bool
) -> None:
    append_raw(config, ["a", "b", "a"])
    consume(config)
    take_down(config)
    with pytest.raises(SimulatedCrashError):
        obey(config, die_at=step)
    if has_expired:
        PaimonSink(config, NAMES, "other", PROFILE).open()
        for name in (NAMES.ledger, NAMES.curated):
            expire_all_but_newest(config, name)
    obey(config)
    assert clip_counts(config) == {1: 2}
    assert story(config) == {0: ["curated", "retired"], 1: ["curated"], 2: ["curated", "retired"]}
    assert_clean(config)


def test_result_that_comes_after_it_is_retired_at_once_or_by_the_next_incarnation(config: CatalogConfig) -> None:
    append_raw(config, ["v0", "v1", "v2"])
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    position = sink.open().position
    first = batch(position, [0])
    sink.commit(first)
    take_down(config, uris=("file:///videos/v1.mp4", "file:///videos/v2.mp4"))
    # It was asked for before, and this incarnation knows nothing of the takedown yet.
    second = batch(first.position, [1])
    sink.commit(second)
    assert clip_counts(config) == {0: 1, 1: 1}
    successor = PaimonSink(config, NAMES, "main", PROFILE)
    assert successor.open().position == second.position
    assert clip_counts(config) == {0: 1}
    successor.commit(batch(second.position, [2]))
    assert clip_counts(config) == {0: 1}
    assert story(config) == {0: ["curated"], 1: ["curated", "retired"], 2: ["retired"]}
    assert_clean(config)


def test_dead_letter_with_a_replay_pending_stays_down(config: CatalogConfig) -> None:
    append_raw(config, ["v0", "v1"])
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    done = Position().with_range(OffsetRange(0, 2))
    sink.open()
    sink.commit(CommitBatch((failed(0), failed(1)), done))
    repositioner = Repositioner(config, NAMES, "main")
    repositioner.make(repositioner.again([0]))
    take_down(config, video_ids=("v0", "v1"), uris=())
    consume(config)
    assert clip_counts(config) == {}
    assert story(config)[1] == ["failed", "retired"]
    assert story(config)[0][0] == "failed"
    assert set(story(config)[0][1:]) == {"retired"}
    assert_clean(config)


def test_two_who_take_the_same_down_at_the_same_time_both_have_their_certificate(config: CatalogConfig) -> None:
    append_raw(config, ["a", "b"])
    consume(config)
    threads = [Thread(target=take_down, args=(config, name)) for name in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    obey(config)
    store = TakedownStore(config, NAMES.control)
    assert {each.actor for each in store.read()} == {"ann", "bob"}
    assert sorted(each.num_clips for each in store.obeyed()) == [0, 2]
    assert story(config) == {0: ["curated", "retired"], 1: ["curated"]}


def test_clips_from_before_the_table_was_made_anew_go_too(config: CatalogConfig) -> None:
    append_raw(config, ["a", "b"])
    consume(config)
    catalog = open_catalog(config)
    catalog.drop_table(f"{config.database}.{NAMES.raw}", False)
    create_tables(catalog, config, NAMES)
    append_raw(config, ["b", "a"])
    consume(config, generation=2)
    take_down(config)
    obey(config)
    assert [row["source_uri"] for row in rows_of(config, NAMES.curated, ["source_uri"])] == [B] * 4
    [done] = TakedownStore(config, NAMES.control).obeyed()
    assert (done.num_rows, done.num_clips) == (2, 4)


def test_each_shard_does_its_own(config: CatalogConfig) -> None:
    append_raw(config, ["a", "a", "b", "a"])
    for index in range(2):
        consume(config, shard=Shard(index, 2))
    take_down(config)
    obey(config, shard=Shard(0, 2))
    assert clip_counts(config) == {1: 2, 2: 2, 3: 2}
    obey(config, shard=Shard(1, 2))
    assert clip_counts(config) == {2: 2}


def test_video_of_a_table_with_a_key_stays_down_when_it_is_replaced(tmp_path: Path) -> None:
    keyed = KeyedTable(make_warehouse(tmp_path / "warehouse"))
    keyed.change("+Ia", "+Ib")
    from tests.integration.consumers.paimon.commit.test_takedowns import Consumer, audited, standing

    consumer = Consumer(keyed)
    consumer.commit(*consumer.left())
    takedown = new_takedown("a", "ann", "here", AT, None, video_ids=("a",))
    TakedownStore(keyed.config, KEYED.control).add(takedown)
    consumer = Consumer(keyed)
    assert standing(keyed) == {"b@1": 2}
    audited(keyed)
    keyed.change("+Ua")
    consumer.commit(*consumer.left())
    assert standing(keyed) == {"b@1": 2}
    audited(keyed)


def test_tombstone_of_an_object_knows_its_other_spellings_and_its_parts() -> None:
    tombstones = Tombstones.of(
        [replace(new_takedown("t", "ann", "here", AT, None), uris=("/videos/a b.mp4", "s3://x/y"))]
    )
    for uri in ("file:///videos/a%20b.mp4", "file:/videos/a%20b.mp4", "s3a://x/y", "s3n://x/y"):
        assert tombstones.cover("v", BlobReference(uri))
        assert tombstones.cover("v", BlobReference(uri, 5, 7))
    assert not tombstones.cover("v", BlobReference("s3://x/yz"))
    assert not tombstones.cover("v", None)


def test_tombstone_of_a_part_of_an_object_spares_the_others() -> None:
    part = BlobReference("s3://x/container.blob", 5, 7)
    tombstones = Tombstones.of([new_takedown("t", "ann", "here", AT, None, parts=(part,))])
    assert tombstones.cover("v", part)
    assert not tombstones.cover("v", replace(part, offset_bytes=12))
    assert not tombstones.cover("v", BlobReference(part.uri))
