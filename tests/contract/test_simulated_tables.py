"""The tables that schedules are simulated on keep what pypaimon's do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.paimon.catalog import CatalogConfig
from tests.contract.table_suite import TableContract
from tests.simulation.plan import Plan
from tests.simulation.scene import CONFIG, Scene, played, simulated
from tests.simulation.scheduler import World
from tests.support.warehouse import make_warehouse


class TestPaimonTables(TableContract):
    @pytest.fixture
    def config(self, tmp_path: Path) -> CatalogConfig:
        return make_warehouse(tmp_path / "warehouse")


class TestSimulatedTables(TableContract):
    @pytest.fixture(params=["files", "catalog"])
    def config(self, request: pytest.FixtureRequest) -> Iterator[CatalogConfig]:
        scene = Scene(World(0), Plan(is_catalog=request.param == "catalog"))
        with simulated(), played(scene):
            yield CONFIG
