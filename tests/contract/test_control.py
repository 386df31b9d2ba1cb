from pathlib import Path

import pytest

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.control import PaimonControlStore
from consumers.paimon.tables import TableNames, create_tables
from consumers.testing import FakeControlStore
from tests.contract.control_suite import ControlStoreSuite, entry, paused


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

    @pytest.mark.parametrize("num_after", [0, 1, 2, 3])
    @pytest.mark.parametrize("is_made_anew", [False, True])
    def test_table_that_is_gone_or_another_is_an_error_and_wants_nothing_else(
        self, config: CatalogConfig, store: PaimonControlStore, num_after: int, is_made_anew: bool
    ) -> None:
        for number in range(2):
            store.write(entry(number), paused())
        assert store.desired("c1") == paused()
        open_catalog(config).drop_table(f"{config.database}.{TableNames().control}")
        if is_made_anew:
            create_tables(open_catalog(config), config, TableNames())
            other = PaimonControlStore(config, TableNames().control)
            for number in range(num_after):
                other.write(entry(number))
        sentence = "snapshot 2 was read, and is not in it any more" if is_made_anew else "does not exist in warehouse"
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=rf"table sluice\.sluice_control:? {sentence}"):
                store.version()
            with pytest.raises(ConfigurationError, match=sentence):
                store.desired("c1")
