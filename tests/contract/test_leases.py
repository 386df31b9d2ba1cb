from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from consumers.members.lease import LeaseStore
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.lease import FOLDER, PaimonLeases
from consumers.testing import FakeLeaseStore
from tests.contract.lease_suite import LEASE, LeaseStoreContract, OpenStore
from tests.support.stores import warehouse_of
from tests.support.warehouse import NAMES, make_warehouse, table


class TestFakeLeaseStore(LeaseStoreContract):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        store = FakeLeaseStore()
        return lambda: store


class TestPaimonLease(LeaseStoreContract):
    @pytest.fixture(params=["disk", "s3", "rest"])
    def open_store(self, request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
        config = warehouse_of(request, tmp_path)

        def opened() -> LeaseStore:
            return PaimonLeases(config, NAMES.control).of("films.0of1")

        return opened


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    return make_warehouse(tmp_path / "warehouse")


def test_leases_are_found_by_what_their_names_begin_with(config: CatalogConfig) -> None:
    leases = PaimonLeases(config, NAMES.control)
    assert leases.all("films.") == {}
    for name in ("films.member0", "films.member1", "filmstrips.member0"):
        leases.of(name).write(LEASE)
    assert leases.all("films.") == {"films.member0": LEASE, "films.member1": LEASE}


@pytest.mark.parametrize("text", ["", "{", "null", json.dumps({"token": "t"})])
def test_lease_that_a_dead_process_left_half_written_is_none(config: CatalogConfig, text: str) -> None:
    folder = Path(table(config, NAMES.control).table_path.removeprefix("file:")) / FOLDER
    folder.mkdir()
    (folder / "films.0of1.json").write_text(text)
    assert PaimonLeases(config, NAMES.control).of("films.0of1").read() is None


def test_reader_never_meets_a_lease_in_pieces_while_it_is_renewed(config: CatalogConfig) -> None:
    leases = PaimonLeases(config, NAMES.control)
    leases.of("films.0of1").write(LEASE)
    ended = threading.Event()

    def renew() -> None:
        while not ended.is_set():
            leases.of("films.0of1").write(LEASE)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        assert all(leases.of("films.0of1").read() == LEASE for _ in range(300))
    finally:
        ended.set()
        thread.join()
