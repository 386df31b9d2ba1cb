"""What every place for a lease keeps, fake and real. A test module subclasses it and gives ``open_store``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from consumers.errors import AlreadyRunningError
from consumers.members.lease import Holder, Lease, LeaseKeeper, LeaseStore
from consumers.testing import FakeClock

NOW = FakeClock().now()
ELSEWHERE = Holder("theirs", "node-7 büro", 11, "another boot/pid:[1]", 5)
LEASE = Lease(ELSEWHERE, NOW, NOW, 7, 5.0)

OpenStore = Callable[[], LeaseStore]


class LeaseStoreContract:
    def test_nothing_is_there_at_first_and_removing_it_is_harmless(self, open_store: OpenStore) -> None:
        store = open_store()
        store.delete()
        assert store.read() is None

    def test_what_one_writes_another_reads_whole(self, open_store: OpenStore) -> None:
        open_store().write(LEASE)
        assert open_store().read() == LEASE

    def test_last_to_write_has_it(self, open_store: OpenStore) -> None:
        for beat in range(20):
            open_store().write(replace(LEASE, beat=beat, holder=replace(ELSEWHERE, token="t" * (20 - beat))))
        found = open_store().read()
        assert found is not None
        assert (found.beat, found.holder.token) == (19, "t")

    def test_removed_lease_is_gone_for_all(self, open_store: OpenStore) -> None:
        first, second = open_store(), open_store()
        first.write(LEASE)
        second.delete()
        assert first.read() is None

    def test_keeper_holds_renews_and_gives_back(self, open_store: OpenStore) -> None:
        keeper = LeaseKeeper(open_store(), "consumer films", FakeClock(), interval_s=60.0)
        keeper.acquire()
        assert keeper.renew()
        held = open_store().read()
        assert held is not None
        assert held.beat == 1
        other = LeaseKeeper(open_store(), "consumer films", FakeClock(), interval_s=60.0)
        with pytest.raises(AlreadyRunningError, match="consumer films: process"):
            other.acquire()
        keeper.close()
        assert open_store().read() is None

    def test_keeper_that_was_overtaken_leaves_the_lease_to_the_other(self, open_store: OpenStore) -> None:
        keeper = LeaseKeeper(open_store(), "consumer films", FakeClock(), interval_s=60.0)
        keeper.acquire()
        open_store().write(LEASE)
        assert not keeper.renew()
        keeper.close()
        assert open_store().read() == LEASE

    def test_dead_holder_elsewhere_is_replaced_after_its_renewals_were_missed(self, open_store: OpenStore) -> None:
        open_store().write(LEASE)
        waited: list[float] = []
        keeper = LeaseKeeper(open_store(), "consumer films", FakeClock(), interval_s=60.0, sleep=waited.append)
        keeper.acquire()
        assert waited == [5.0, 5.0, 5.0]
        held = open_store().read()
        assert held is not None
        assert held.holder != ELSEWHERE
        keeper.close()
