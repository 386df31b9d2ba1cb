"""What every control store keeps to; run over the fake and the real one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from consumers.ports import ControlStore
from schemas.control import AuditEntry, Desired, DesiredState

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def entry(number: int, consumer: str = "c1", action: str = "pause") -> AuditEntry:
    return AuditEntry(
        f"{number:06}",
        action,
        consumer,
        "alice",
        "127.0.0.1",
        NOON + timedelta(seconds=number),
        reason="disk is full",
        detail={"from": "running"},
    )


def paused(reason: str = "disk is full") -> Desired:
    return Desired(DesiredState.PAUSED, "alice", NOON, reason, until=NOON + timedelta(hours=1), generation=2)


class ControlStoreSuite:
    """Subclasses provide the ``store`` fixture, and ``reopened``: the same store seen by another process."""

    def test_store_that_nobody_wrote_to_wants_everything_running(self, store: ControlStore) -> None:
        assert store.desired("c1").state is DesiredState.RUNNING
        assert store.audit_trail() == []
        assert store.version() == 0

    def test_written_state_is_read_back_whole_by_another_process(
        self, store: ControlStore, reopened: ControlStore
    ) -> None:
        store.write(entry(1), paused())
        assert reopened.desired("c1") == paused()
        assert reopened.audit_trail() == [entry(1)]

    def test_last_word_of_two_processes_counts(self, store: ControlStore, reopened: ControlStore) -> None:
        for number in range(3):
            store.write(entry(2 * number), paused(f"first {number}"))
            reopened.write(entry(2 * number + 1), paused(f"second {number}"))
            assert store.desired("c1").reason == reopened.desired("c1").reason == f"second {number}"

    def test_consumers_do_not_touch_each_other(self, store: ControlStore) -> None:
        store.write(entry(1, "c1"), paused())
        store.write(entry(2, "c2", "resume"), Desired(DesiredState.RUNNING, "bob", NOON))
        assert store.desired("c1").state is DesiredState.PAUSED
        assert store.desired("c2").actor == "bob"
        assert [item.consumer for item in store.audit_trail("c2")] == ["c2"]

    def test_entry_without_a_state_leaves_the_state_alone(self, store: ControlStore) -> None:
        store.write(entry(1), paused())
        store.write(entry(2, action="login"))
        assert store.desired("c1") == paused()

    def test_trail_is_newest_first_and_bounded(self, store: ControlStore) -> None:
        for number in range(5):
            store.write(entry(number))
        assert [item.entry_id for item in store.audit_trail(limit=3)] == ["000004", "000003", "000002"]

    def test_trail_reaches_back_as_far_as_it_has_to(self, store: ControlStore) -> None:
        now = datetime.now(UTC)
        days = (0, 0.5, 3, 20, 40, 400)
        written = [entry(number, "c1" if number % 2 else "c2") for number in range(len(days))]
        written = [
            replace(each, entry_id=f"{now - timedelta(days=ago):%Y%m%dT%H%M%S.%f}Z")
            for each, ago in zip(written, days, strict=True)
        ]
        for each in written:
            store.write(each)
        for limit in range(len(days) + 1):
            assert store.audit_trail(limit=limit) == written[:limit]
        assert store.audit_trail("c1", limit=2) == [written[1], written[3]]
        assert store.audit_trail("c1") == written[1::2]

    def test_same_entry_written_twice_stands_once(self, store: ControlStore) -> None:
        store.write(entry(1), paused())
        store.write(entry(1), paused())
        assert store.audit_trail() == [entry(1)]

    def test_every_write_moves_the_version_on(self, store: ControlStore, reopened: ControlStore) -> None:
        before = reopened.version()
        store.write(entry(1))
        assert reopened.version() > before
