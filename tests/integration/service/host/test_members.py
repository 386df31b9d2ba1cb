"""Members on real tables: what number 0 divides, and what the others make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumers.members.attendance import Attendance
from consumers.members.lease import Holder, Lease
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.lease import PaimonLeases
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.sink import PaimonSink
from consumers.testing import FakeClock
from schemas.shards import Shard
from service.host.members import Member, lease_name
from tests.support.rescaling import cut_off_rescale
from tests.support.warehouse import NAMES, PROFILE, expire_all_but_newest, make_warehouse


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    return make_warehouse(tmp_path / "warehouse")


class Group:
    """Members of consumer ``main``, one clock, and leases that the test renews."""

    def __init__(self, config: CatalogConfig) -> None:
        self.clock = FakeClock()
        self._config = config
        self._leases = PaimonLeases(config, NAMES.control)
        self._beat = 0

    def member(self, index: int) -> Member:
        return Member(
            "main",
            index,
            Rescaler(self._config, NAMES, "main"),
            self._leases,
            self.clock,
            attendance=Attendance(self.clock.monotonic_s(), grow_after_s=20, shrink_after_s=300),
        )

    def let_pass(self, seconds: int, zero: Member, *running: int) -> None:
        """Renew the leases of ``running`` every five seconds, and have member 0 look each time."""
        for _ in range(seconds // 5):
            self.clock.advance(5)
            self._beat += 1
            for index in running:
                holder = Holder(f"m{index}", "node", 1, "", 0)
                now = self.clock.now()
                self._leases.of(lease_name("main", index)).write(Lease(holder, now, now, self._beat, 5.0))
            zero.look()


def start(config: CatalogConfig, shard: str) -> None:
    PaimonSink(config, NAMES, "main", PROFILE, shard=Shard.parse(shard)).open()


def test_division_follows_members_that_come_and_go(config: CatalogConfig) -> None:
    group = Group(config)
    zero, two = group.member(0), group.member(2)
    zero.look()
    two.look()
    assert (zero.shard(), two.shard()) == (Shard(0, 1), None)
    # Nothing is divided before there is a first commit.
    group.let_pass(60, zero, 0, 1, 2)
    assert zero.shard() == Shard(0, 1)
    start(config, "0/1")
    group.let_pass(60, zero, 0, 1, 2)
    two.look()
    assert (zero.shard(), two.shard()) == (Shard(0, 3), Shard(2, 3))
    start(config, "2/3")
    group.let_pass(330, zero, 0, 1)
    two.look()
    assert (zero.shard(), two.shard()) == (Shard(0, 2), None)


def test_members_of_another_consumer_do_not_count(config: CatalogConfig) -> None:
    group = Group(config)
    start(config, "0/1")
    now = group.clock.now()
    PaimonLeases(config, NAMES.control).of("main2.member4").write(
        Lease(Holder("t", "node", 1, "", 0), now, now, 0, 1e6)
    )
    zero = group.member(0)
    group.let_pass(60, zero, 0)
    assert zero.shard() == Shard(0, 1)


def test_change_that_was_cut_off_between_the_tables_is_completed_by_member_0(
    config: CatalogConfig,
) -> None:
    start(config, "0/1")
    cut_off_rescale(config, 2)
    assert Rescaler(config, NAMES, "main").counts() == (2, 1)
    zero = Group(config).member(0)
    zero.look()
    assert zero.shard() == Shard(0, 2)
    start(config, "0/2")


def test_members_of_an_idle_consumer_keep_their_shards_when_all_markers_expire(config: CatalogConfig) -> None:
    group = Group(config)
    start(config, "0/1")
    Rescaler(config, NAMES, "main").rescale(2)
    members = [group.member(0), group.member(1)]
    for member in members:
        member.look()
    PaimonSink(config, NAMES, "other", PROFILE).open()
    for name in (NAMES.ledger, NAMES.curated):
        expire_all_but_newest(config, name)
    for member in members:
        member.look()
    assert [member.shard() for member in members] == [Shard(0, 2), Shard(1, 2)]
