"""How the number of shards follows the processes that run."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from consumers.members.attendance import Attendance
from consumers.members.lease import Holder, Lease
from consumers.testing import FakeClock


def leases(beats: Mapping[int, int], token: str = "t") -> dict[int, Lease]:
    now = FakeClock().now()
    return {
        index: Lease(Holder(f"{token}{index}", "pod", 1, "", 0), now, now, beat, 5.0) for index, beat in beats.items()
    }


class Group:
    """Members that renew every five seconds while they run, watched as often."""

    def __init__(self, running: int) -> None:
        self.now_s = 100.0
        self.beat = 0
        self.attendance = Attendance(self.now_s, grow_after_s=10, shrink_after_s=300)
        self.running = set(range(running))
        self.stale: dict[int, int] = {}
        self.count = 1

    def let_pass(self, seconds: float) -> int:
        for _ in range(int(seconds / 5)):
            self.now_s += 5
            self.beat += 1
            self.attendance.look(leases({**self.stale, **dict.fromkeys(self.running, self.beat)}), self.now_s)
            self.count = self.attendance.wanted(self.count, self.now_s)
        return self.count


def test_members_that_come_get_shards_at_once_and_in_one_step() -> None:
    group = Group(1)
    assert group.let_pass(60) == 1
    group.running = {0, 1, 2}
    assert group.let_pass(5) == 1
    assert group.let_pass(10) == 3


def test_member_that_moves_to_another_node_finds_its_shard_again() -> None:
    group = Group(3)
    assert group.let_pass(600) == 3
    group.running = {0, 1}
    assert group.let_pass(120) == 3
    group.running = {0, 1, 2}
    assert group.let_pass(600) == 3


def test_members_that_went_for_good_leave_their_shards_to_the_others() -> None:
    group = Group(4)
    group.let_pass(600)
    group.running = {0, 1}
    assert group.let_pass(295) == 4
    assert group.let_pass(15) == 2


def test_killed_member_whose_lease_stays_behind_is_gone_as_well() -> None:
    group = Group(2)
    group.let_pass(600)
    group.running, group.stale = {0}, {1: group.beat}
    assert group.let_pass(290) == 2
    assert group.let_pass(15) == 1


def test_one_missing_in_the_middle_keeps_its_number() -> None:
    group = Group(3)
    group.let_pass(600)
    group.running = {0, 2}
    assert group.let_pass(3600) == 3


def test_whoever_starts_to_watch_takes_nobody_for_gone_at_once() -> None:
    attendance = Attendance(0.0, shrink_after_s=300)
    attendance.look({}, 1.0)
    assert attendance.wanted(5, 299.0) == 5
    assert attendance.wanted(5, 301.0) == 1


def test_lease_left_by_a_dead_process_is_no_new_member() -> None:
    group = Group(1)
    group.stale = {7: 3}
    # Seen for the first time it might live; it renews nothing, and is forgotten before anything is divided.
    group.attendance = Attendance(group.now_s, grow_after_s=20, shrink_after_s=300)
    assert group.let_pass(600) == 1


@given(st.lists(st.tuples(st.frozensets(st.integers(0, 6)), st.integers(1, 60)), max_size=30))
def test_number_is_never_below_one_nor_above_the_members_ever_seen(history: list[tuple[frozenset[int], int]]) -> None:
    group = Group(1)
    highest = 0
    for running, steps in history:
        group.running = set(running) | {0}
        highest = max(highest, *group.running)
        assert 1 <= group.let_pass(steps * 5) <= highest + 1
