from pathlib import Path

import pytest

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.control import PaimonControlStore
from consumers.paimon.tables import TableNames, create_tables
from consumers.testing import FakeControlStore
from tests.contract.control_suite import ControlStoreSuite


class TestFakeControlStore(ControlStoreSuite):
    @pytest.fixture
    def store(self) -> FakeControlStore:
        return FakeControlStore()

    @pytest.fixture
    def reopened(self, store: FakeControlStore) -> FakeControlStore:
        return store


class TestPaimonControlStore(ControlStoreSuite):
    @pytest.fixture
    def config(self, tmp_path: Path) -> CatalogConfig:
        config = CatalogConfig({"warehouse": str(tmp_path)})
        create_tables(open_catalog(config), config, TableNames())
        return config

    @pytest.fixture
    def store(self, config: CatalogConfig) -> PaimonControlStore:
        return PaimonControlStore(config, TableNames().control)

    @pytest.fixture
    def reopened(self, config: CatalogConfig) -> PaimonControlStore:
        return PaimonControlStore(config, TableNames().control)
