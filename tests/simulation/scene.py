"""Tables, raw rows and settings of one schedule, which the actors share."""

from __future__ import annotations

import logging
import random
import uuid
from collections import defaultdict
from collections.abc import Container, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from pypaimon.catalog.catalog_factory import CatalogFactory
from pypaimon.schema.data_types import PyarrowFieldParser

from consumers.paimon.catalog import CatalogConfig
from schemas.records import RawVideo
from schemas.tables import CONTROL, CURATED, LEDGER
from tests.simulation.plan import Plan
from tests.simulation.scheduler import World
from tests.simulation.storage import Storage
from tests.simulation.tables import Catalog, SimulatedTable
from tests.simulation.work import Raw
from tests.support.warehouse import NAMES

CONFIG = CatalogConfig({"warehouse": "sim://warehouse", "metastore": "simulated"}, "db")
MAIN, OTHER = "main", "other"


class Scene:
    """What the actors of one schedule share.

    Args:
        world: the schedule.
        plan: what it has in it.

    Attributes:
        count: into how many shards the services believe the main consumer divided.
        wanted_count: into how many a person wants it divided.
        num_busy: actors whose work has an end.
        taken_down: ids of videos that a person took down, once that was stored or may have been.
        restarts: how often a person has restarted the services.
        skipped: rows that a person left out, or may have.
        replayed: for each row that a person had processed again, how many runs there have to be at least.
        was_set_back: a table was rolled back.
        is_for_a_backup: what was rolled back cannot be mended by rolling back more.
        num_divided: rescales that have begun.
        is_dividing: a rescale has begun and is not known to be complete.
    """

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.plan = world, plan
        self.ledger, self.curated, self.control = (
            Storage(world, f"db.{name}", spec.role, spec, is_catalog=plan.is_catalog)
            for name, spec in ((NAMES.ledger, LEDGER), (NAMES.curated, CURATED), (NAMES.control, CONTROL))
        )
        self.raw = Raw(plan.is_keyed, random.Random(world.seed + 1))
        self.raw.land(plan.num_rows)
        self.count = self.wanted_count = 1
        self.num_busy = 0
        self.taken_down: set[str] = set()
        self.restarts = 0
        self.skipped: set[int] = set()
        self.replayed: defaultdict[int, int] = defaultdict(int)
        self.was_set_back = self.is_for_a_backup = False
        self.is_dividing = False
        self.num_divided = 0

    @property
    def storages(self) -> tuple[Storage, Storage, Storage]:
        """The three tables."""
        return self.ledger, self.curated, self.control

    def table(self, name: str) -> Any:
        """Return the table of that full name, as our code gets it from a catalog."""
        storage = next(storage for storage in self.storages if storage.name == name)
        return SimulatedTable(storage.operate("load", lambda: storage))

    @property
    def is_over(self) -> bool:
        """Whether all that was to happen has happened."""
        return self.num_busy == 0

    def rows_of(self, consumer: str) -> dict[int, tuple[int, str, frozenset[str]]]:
        """Return by raw row the ledger's latest run: its number, status and kept clips."""
        latest: dict[int, tuple[int, str, frozenset[str]]] = {}
        columns = ("consumer", "source_row_id", "run", "status", "clips")
        for row in self.ledger.rows(self.ledger.latest(), columns):
            if row["consumer"] == consumer and row["run"] > latest.get(row["source_row_id"], (0, "", frozenset()))[0]:
                kept = frozenset(clip["clip_id"] for clip in row["clips"] or () if clip["kept"])
                latest[row["source_row_id"]] = row["run"], row["status"], kept
        return latest

    def is_superseded(self, video: RawVideo, known: Container[int]) -> bool:
        """Return whether a later row of the same key is there, and was not left out; ``known`` are in the ledger."""
        return video.key is not None and any(
            row.key == video.key
            and row.row_id > video.row_id
            and (row.row_id in known or row.row_id not in self.skipped)
            for row in self.raw.rows.values()
        )


_playing: list[Scene] = []


def _table(name: str) -> Any:
    return _playing[-1].table(name)


_random_uuid4 = uuid.uuid4


def _uuid4() -> uuid.UUID:
    # Tables on disk are made before they are played with.
    return _playing[-1].world.uuid4() if _playing else _random_uuid4()


def _time() -> float:
    return _playing[-1].world.time()


def _sleep(seconds: float) -> None:
    _playing[-1].world.rest(seconds)


@contextmanager
def simulated() -> Iterator[None]:
    """Let pypaimon's catalogs be those of the scene that is played, and its clock and ids be the schedule's."""
    catalogs = {**CatalogFactory.CATALOG_REGISTRY, "simulated": lambda options: Catalog(_table)}
    from_paimon_schema = PyarrowFieldParser.from_paimon_schema
    schemas: dict[int, tuple[object, object]] = {}

    def arrow_schema(fields: object) -> object:
        # Every table of a kind has the same fields here.
        if id(fields) not in schemas:
            schemas[id(fields)] = fields, from_paimon_schema(fields)
        return schemas[id(fields)][1]

    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            patch.object(CatalogFactory, "CATALOG_REGISTRY", catalogs),
            patch.object(uuid, "uuid4", _uuid4),
            patch("pypaimon.write.file_store_commit.time", SimpleNamespace(time=_time, sleep=_sleep)),
            # The tables are as our code makes them; what fits is tested elsewhere, and took half of the time here.
            patch("consumers.paimon.commit.sink.check_table", lambda table, spec: None),
            patch("consumers.paimon.commit.takedown.check_table", lambda table, spec: None),
            patch.object(PyarrowFieldParser, "from_paimon_schema", staticmethod(arrow_schema)),
        ):
            yield
    finally:
        logging.disable(disabled)


@contextmanager
def played(scene: Scene) -> Iterator[None]:
    """Play ``scene``, inside of :func:`simulated`."""
    _playing.append(scene)
    try:
        yield
    finally:
        _playing.pop()
