"""A rescale that dies between the tables."""

from __future__ import annotations

import pytest

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.rescale import Rescaler
from consumers.testing import SimulatedCrashError
from schemas.shards import Shard
from tests.support.warehouse import NAMES


def cut_off_rescale(config: CatalogConfig, count: int) -> None:
    """Divide consumer ``main`` anew in the ledger, and not in the curated table."""
    rescaler = Rescaler(config, NAMES, "main")
    divide = rescaler._divide

    def die_at_curated(found: object, first: Shard) -> tuple[int, int]:
        if found is rescaler._curated:
            raise SimulatedCrashError
        return divide(found, first)

    rescaler._divide = die_at_curated  # type: ignore[method-assign]
    with pytest.raises(SimulatedCrashError):
        rescaler.rescale(count)
