"""Leases: who is refused, who takes over, and what a process that lost its lease does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import AlreadyRunningError
from consumers.members.lease import Holder, Lease, LeaseKeeper
from consumers.testing import FakeClock, FakeLeaseStore

NOW = FakeClock().now()
ELSEWHERE = Holder("theirs", "node-7", 11, "another boot/pid:[1]", 5)


def keeper(shelf: FakeLeaseStore, sleep: Callable[[float], object] = lambda seconds: None) -> LeaseKeeper:
    return LeaseKeeper(shelf, "consumer films", FakeClock(), interval_s=60.0, sleep=sleep)


def lease_of(holder: Holder, age_s: float = 1.0) -> Lease:
    return Lease(holder, NOW - timedelta(hours=1), NOW - timedelta(seconds=age_s), 7, 5.0)


def test_lease_that_nobody_holds_is_taken_and_given_back() -> None:
    shelf = FakeLeaseStore()
    first = keeper(shelf)
    first.acquire()
    assert shelf.lease is not None
    assert shelf.lease.holder.pid == os.getpid()
    first.close()
    assert shelf.lease is None


def test_second_copy_on_the_same_machine_is_refused_at_once_and_told_who_runs() -> None:
    shelf, waits = FakeLeaseStore(), list[float]()
    first = keeper(shelf)
    first.acquire()
    held = shelf.lease
    with pytest.raises(AlreadyRunningError, match=rf"consumer films: process {os.getpid()} on .*--take-over.*Nothing"):
        keeper(shelf, waits.append).acquire()
    assert (shelf.lease, waits) == (held, [])
    first.close()


def test_holder_on_the_same_machine_that_was_killed_is_replaced_at_once() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from consumers.members.lease import Holder; print(Holder.this_process()); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline().startswith(f"process {child.pid} on ")
    mine = Holder.this_process()
    started = _start_ticks(child.pid)
    holder = replace(mine, pid=child.pid, started=started)
    assert holder.is_alive()
    assert not replace(holder, started=started - 1).is_alive(), "a later process with the same id is another"
    child.kill()
    # Dead, and not yet buried by its parent.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    waits: list[float] = []
    taking = keeper(FakeLeaseStore(lease_of(holder)), waits.append)
    taking.acquire()
    taking.close()
    child.communicate()
    assert waits == []


def _start_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123
        return int(stat.read().rpartition(")")[2].split()[19])


def test_holder_elsewhere_that_renews_is_left_alone() -> None:
    shelf = FakeLeaseStore(lease_of(ELSEWHERE))

    def sleep(seconds: float) -> None:
        assert seconds == 5.0
        assert shelf.lease is not None
        shelf.lease = replace(shelf.lease, beat=shelf.lease.beat + 1)

    with pytest.raises(AlreadyRunningError, match="process 11 on node-7"):
        keeper(shelf, sleep).acquire()
    assert shelf.lease is not None
    assert shelf.lease.holder == ELSEWHERE


def test_holder_elsewhere_that_renews_nothing_for_three_intervals_is_replaced() -> None:
    waits: list[float] = []
    shelf = FakeLeaseStore(lease_of(ELSEWHERE))
    taking = keeper(shelf, waits.append)
    taking.acquire()
    assert waits == [5.0, 5.0, 5.0]
    assert shelf.lease is not None
    assert shelf.lease.holder != ELSEWHERE
    taking.close()


def test_holder_elsewhere_that_has_been_silent_for_long_is_not_waited_for() -> None:
    waits: list[float] = []
    taking = keeper(FakeLeaseStore(lease_of(ELSEWHERE, age_s=101)), waits.append)
    taking.acquire()
    taking.close()
    assert waits == []


def test_holder_that_gives_back_while_it_is_watched_makes_room() -> None:
    shelf = FakeLeaseStore(lease_of(ELSEWHERE))
    taking = keeper(shelf, lambda seconds: shelf.delete())
    taking.acquire()
    taking.close()


def test_take_over_takes_it_from_the_living_who_notices_and_does_not_give_back_what_is_not_his() -> None:
    shelf = FakeLeaseStore()
    first, second = keeper(shelf), keeper(shelf)
    first.acquire()
    assert first.renew()
    second.acquire(take_over=True)
    assert not first.renew()
    first.close()
    assert shelf.lease is not None
    second.close()
    assert shelf.lease is None


def test_of_two_that_start_at_once_the_last_to_write_runs() -> None:
    class Contended(FakeLeaseStore):
        def write(self, lease: Lease) -> None:
            super().write(lease)
            self.lease = lease_of(ELSEWHERE)

    with pytest.raises(AlreadyRunningError, match="node-7"):
        keeper(Contended()).acquire()


def test_store_that_is_away_at_the_end_does_not_keep_a_service_from_ending() -> None:
    shelf = FakeLeaseStore()
    held = keeper(shelf)
    held.acquire()
    shelf.is_away = True
    held.close()


@given(
    st.builds(Holder, st.text(), st.text(), st.integers(), st.text(), st.integers()),
    st.integers(),
    st.floats(0.1, 1e6),
)
def test_lease_survives_storage(holder: Holder, beat: int, interval_s: float) -> None:
    lease = Lease(holder, NOW, NOW, beat, interval_s)
    assert Lease.from_json(lease.to_json()) == lease


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"token": 1}', "null"])
def test_damaged_lease_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a lease"):
        Lease.from_json(text)
