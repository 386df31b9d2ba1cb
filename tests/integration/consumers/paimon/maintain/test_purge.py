"""What was taken down leaves the store byte by byte, by its deadline, and its certificate says how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consumers.clock import SystemClock
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.takedown import TakedownStore, new_takedown
from consumers.paimon.maintain.expiry import Retention
from consumers.paimon.maintain.maintainer import Maintainer, TableReport
from consumers.paimon.maintain.row_groups import UnknownLayoutError
from consumers.paimon.reading.audit import audit
from consumers.paimon.reading.takedowns import Certificate, TakedownReader
from schemas.positions import Position
from tests.support.warehouse import NAMES, PROFILE, append_raw, batch, clip_counts, make_warehouse, table

KEEP, WITHIN = timedelta(days=3), timedelta(days=4)
TAKEN = 7


class LaterClock(SystemClock):
    """The real time, and what it was moved on by."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)


class Shop:
    """A warehouse with twelve videos, one of which is taken down, and a clock that can be moved on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: CatalogConfig = make_warehouse(folder)
        append_raw(self.config, [f"v{number}" for number in range(20)])
        self.clock = LaterClock()
        self.sink: PaimonSink | None = None

    def start(self) -> None:
        self.stop()
        self.sink = PaimonSink(self.config, NAMES, "films", PROFILE)
        self.position = self.sink.open().position

    def stop(self) -> None:
        if self.sink is not None:
            self.sink.close()

    def commit(self, *rows: int) -> None:
        assert self.sink is not None
        made = batch(self.position, rows)
        self.sink.commit(made)
        self.position = made.position

    def take_down(self) -> None:
        uri = f"file:///videos/v{TAKEN}.mp4"
        takedown = new_takedown(uri, "ann", "here", self.clock.now(), None, uris=(uri,))
        TakedownStore(self.config, NAMES.control).add(takedown)
        self.start()

    def maintain(self, **options: bool) -> TableReport:
        retention = Retention(KEEP, 100, 1000)
        reports = Maintainer(self.config, NAMES, retention, self.clock, purge_within=WITHIN).run(**options)
        return next(report for report in reports if report.table.endswith(NAMES.curated))

    def has_bytes(self) -> list[str]:
        wanted = f"clip {TAKEN}/1".encode()
        paths = [Path(where) / name for where, _, names in os.walk(self.folder) for name in names]
        return [str(path.relative_to(self.folder)) for path in paths if wanted in path.read_bytes()]

    def certificate(self) -> Certificate:
        [found] = TakedownReader(self.config, NAMES, WITHIN).certificates()
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "warehouse")
    made.start()
    for row in range(12):
        made.commit(row)
    return made


@pytest.mark.parametrize("is_merged", [False, True])
def test_bytes_are_off_the_store_once_the_old_snapshots_have_expired(shop: Shop, is_merged: bool) -> None:
    if is_merged:
        assert shop.maintain().compacted.num_after
    shop.take_down()
    before = shop.certificate()
    assert (before.clips_standing, before.rewritten_at, before.gone_at) == (0, None, None)
    assert before.due_at == before.takedown.at + WITHIN
    foretold = shop.maintain(dry=True)
    assert shop.certificate().rewritten_at is None
    done = shop.maintain()
    assert foretold.purged == done.purged
    assert done.purged.num_rows == 1
    assert len(done.takedowns.waiting) == 1
    assert shop.certificate().rewritten_at is not None
    assert shop.has_bytes()
    # A consumer that goes on has its newest marker in a snapshot without them.
    shop.commit(12)
    shop.clock.advance(KEEP.total_seconds() + 60)
    report = shop.maintain()
    assert report.expired.num_snapshots
    assert report.takedowns.waiting == ()
    assert not shop.has_bytes()
    certificate = shop.certificate()
    assert certificate.gone_at is not None
    assert not certificate.has_old_snapshots
    assert not certificate.is_overdue(shop.clock.now() + WITHIN)
    assert shop.maintain().takedowns.waiting == ()
    assert clip_counts(shop.config) == {row: 1 for row in range(13) if row != TAKEN}
    assert audit(shop.config, NAMES, "films").is_clean


def test_what_holds_snapshots_holds_the_bytes_and_is_named_when_they_are_overdue(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.take_down()
    shop.maintain()
    shop.clock.advance(WITHIN.total_seconds() + 60)
    report = shop.maintain()
    # The consumer has committed nothing since it obeyed.
    assert report.expired.held_by is not None
    assert "newest marker of consumer films" in report.expired.held_by
    assert report.expired.resting == "films"
    assert len(report.takedowns.overdue) == 1
    assert "its bytes are still on the store: snapshots stay for the newest marker" in caplog.text
    assert shop.certificate().is_overdue(shop.clock.now())
    shop.start()
    assert shop.maintain().takedowns.overdue == ()
    assert not shop.has_bytes()


def test_a_tag_keeps_the_bytes_and_the_certificate_does_not_say_otherwise(shop: Shop) -> None:
    found = table(shop.config, NAMES.curated)
    found.create_tag("before", found.snapshot_manager().get_latest_snapshot().id)
    shop.take_down()
    shop.maintain()
    shop.commit(12)
    shop.clock.advance(WITHIN.total_seconds() + 60)
    assert len(shop.maintain().takedowns.overdue) == 1
    assert shop.has_bytes()
    assert shop.certificate().gone_at is None
    table(shop.config, NAMES.curated).delete_tag("before")
    shop.clock.advance(timedelta(days=1).total_seconds())
    assert shop.maintain().takedowns.waiting == ()
    assert not shop.has_bytes()


def test_leftovers_of_a_cut_off_expiry_are_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.take_down()
    shop.maintain()
    shop.commit(12)
    shop.clock.advance(KEEP.total_seconds() + 60)

    def nothing(self: Any, path: str) -> None:
        if "/snapshot/" in path:
            self._files.file_io.delete(path)

    with monkeypatch.context() as patch:
        patch.setattr("consumers.paimon.maintain.expiry.Expiry._delete", nothing)
        assert len(shop.maintain(sweep=False).takedowns.waiting) == 1
    assert shop.has_bytes()
    assert shop.certificate().gone_at is None
    assert shop.maintain().takedowns.waiting == ()
    assert not shop.has_bytes()


def test_clips_that_a_consumer_retires_later_are_followed_up_as_well(shop: Shop) -> None:
    other = PaimonSink(shop.config, NAMES, "others", PROFILE)
    position = other.open().position
    other.commit(batch(position, [TAKEN]))
    other.close()
    shop.take_down()
    shop.maintain()
    assert shop.certificate().clips_standing == 1
    assert shop.certificate().rewritten_at is None
    again = PaimonSink(shop.config, NAMES, "others", PROFILE)
    assert again.open().position == Position().union(batch(position, [TAKEN]).position.ranges())
    shop.maintain()
    assert shop.certificate().rewritten_at is not None
    again.close()


def test_files_of_an_unknown_kind_keep_no_snapshot_from_expiring(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*arguments: Any) -> None:
        raise UnknownLayoutError("file x.vector.lance has no row ids")

    shop.take_down()
    shop.clock.advance(KEEP.total_seconds() + 60)
    monkeypatch.setattr("consumers.paimon.maintain.tracked.row_groups", unknown)
    Maintainer(shop.config, NAMES, Retention(KEEP, 10, 1000), shop.clock, purge_within=WITHIN).run()
    assert "file x.vector.lance has no row ids" in caplog.text
    assert len(table(shop.config, NAMES.curated).snapshot_manager().list_snapshots()) == 10
    assert shop.certificate().rewritten_at is None


def test_nothing_is_read_for_takedowns_that_are_done_with(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.take_down()
    shop.maintain()
    shop.commit(12)
    shop.clock.advance(KEEP.total_seconds() + 60)
    shop.maintain()
    never: Callable[..., Any] = lambda *arguments: pytest.fail("read again")  # noqa: E731
    monkeypatch.setattr("consumers.paimon.maintain.purge.Purge._standing", never)
    monkeypatch.setattr("consumers.paimon.maintain.orphans.Orphans.find_data", never)
    assert shop.maintain().takedowns.waiting == ()
