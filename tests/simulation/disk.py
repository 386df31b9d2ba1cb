"""Schedules over pypaimon's real tables, with our maintenance at work: each operation on a file is a step.

Slower by a factor of ten than the tables in memory, and so few; what compaction, expiry, merging, purge and orphan
cleaning do to files is only here.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from pypaimon import CatalogFactory
from pypaimon.filesystem.local_file_io import LocalFileIO

from consumers.errors import StoreUnavailableError
from consumers.paimon.commit import merging
from consumers.paimon.commit.publish_disk import HardLinkFolder
from consumers.paimon.maintain.expiry import Retention
from consumers.paimon.maintain.maintainer import Maintainer
from consumers.paimon.scan import stream
from tests.simulation.judge import Judge
from tests.simulation.plan import Plan
from tests.simulation.scene import CONFIG, Scene
from tests.simulation.scheduler import CrashError, World
from tests.simulation.storage import Storage
from tests.support.warehouse import NAMES, make_warehouse

_OPERATIONS = ("new_input_stream", "new_output_stream", "list_status", "exists", "delete", "try_to_write_atomic")
_FAN_IN = 3
"""Files and manifests are merged three by three, so that a short schedule meets it."""


class DiskStorage(Storage):
    """One table's files on disk.

    Args:
        world: the schedule.
        of_memory: what it takes the place of.
        table: gives the pypaimon table.
    """

    def __init__(self, world: World, of_memory: Storage, table: Callable[[], Any]) -> None:
        super().__init__(world, of_memory.name, of_memory.role, of_memory.spec)
        self._table = table

    def ids(self) -> list[int]:
        """Return the ids of the snapshots that there are, in order."""
        folder = Path(self._table().snapshot_manager().snapshot_dir)
        return sorted(int(path.name.removeprefix("snapshot-")) for path in folder.glob("snapshot-*"))

    def snapshot(self, snapshot_id: int) -> Any | None:
        """Return a snapshot, None where there is none."""
        with self.world.aside():
            return self._table().snapshot_manager().get_snapshot_by_id(snapshot_id)

    def latest(self) -> Any | None:
        """Return the newest snapshot."""
        with self.world.aside():
            return self._table().snapshot_manager().get_latest_snapshot()

    def rows(self, snapshot: Any | None, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return the rows of ``snapshot``; no step of anybody."""
        with self.world.aside():
            return [row for part in stream(self._table(), columns, snapshot) for row in part.to_pylist()]

    def note(self, name: str) -> None:
        """Note that the snapshot file ``name`` has come to be."""
        snapshot = self.snapshot(int(name.removeprefix("snapshot-")))
        assert snapshot is not None
        self.published.append(snapshot)
        self._steps[str(snapshot.uuid)] = self.world.num_steps
        self.on_published(self, snapshot)


class DiskScene(Scene):
    """A schedule whose tables are on disk.

    Args:
        world: the schedule.
        plan: what it has in it.
        folder: an empty one, for the warehouse.
    """

    def __init__(self, world: World, plan: Plan, folder: Path) -> None:
        super().__init__(world, plan)
        self._root = str(folder)
        self._catalog = CatalogFactory.create({"warehouse": str(folder), "metastore": "filesystem"})
        make_warehouse(folder)
        self.ledger, self.curated, self.control = (
            DiskStorage(world, storage, partial(self._catalog.get_table, storage.name)) for storage in self.storages
        )

    def table(self, name: str) -> Any:
        """Return the pypaimon table of that full name."""
        return self._catalog.get_table(name)

    def of(self, path: str) -> DiskStorage | None:
        """Return the table that a file belongs to."""
        tail = str(path).partition(f"{self._root}/")[2]
        found = [each for each in self.storages if tail.startswith(f"{each.name.replace('.', '.db/')}/")]
        return found[0] if found and isinstance(found[0], DiskStorage) else None

    @contextmanager
    def stepped(self) -> Iterator[None]:
        """Let each operation on a file be a step."""
        with ExitStack() as stack:
            for name in _OPERATIONS:
                stack.enter_context(patch.object(LocalFileIO, name, self._operation(getattr(LocalFileIO, name), name)))
            for name in ("read", "exists", "names", "delete", "replace"):
                stack.enter_context(
                    patch.object(HardLinkFolder, name, self._folder(getattr(HardLinkFolder, name), name))
                )
            stack.enter_context(patch("consumers.paimon.commit.publish_disk.os", _Os(self)))
            for module in ("consumers.paimon.commit.merging", "consumers.paimon.maintain.row_groups"):
                stack.enter_context(patch(f"{module}.merge_from", partial(merging.merge_from, fan_in=_FAN_IN)))
            yield

    def _operation(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def stepped(file_io: Any, path: str, *values: Any, **named: Any) -> Any:
            storage, act = self.of(path), partial(method, file_io, path, *values, **named)
            return act() if storage is None else storage.operate(f"file_{name}", act)

        return stepped

    def _folder(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def stepped(folder: Any, *values: Any) -> Any:
            storage, act = self.of(f"{folder._folder}/"), partial(method, folder, *values)
            return act() if storage is None else storage.operate(_NAMES.get(name, name), act)

        return stepped


_NAMES = {"read": "read_back", "delete": "take_back", "replace": "hint"}


class _Os(SimpleNamespace):
    """The module ``os``, in which a link is the step at which a snapshot is published."""

    def __init__(self, scene: DiskScene) -> None:
        super().__init__(**{name: getattr(os, name) for name in ("scandir", "fsync", "open", "close", "O_RDONLY")})
        self._scene = scene

    def link(self, source: Path, target: Path) -> None:
        storage = self._scene.of(str(target))
        assert storage is not None

        def publish() -> None:
            os.link(source, target)
            storage.note(target.name)

        storage.operate("publish", publish)


class Maintenance:
    """Our maintenance, one process after the other.

    Args:
        scene: the schedule.
        chance: its own draws.
        judge: told of stores that are said to be away.
        times: so many rounds.
    """

    def __init__(self, scene: Scene, chance: random.Random, judge: Judge, times: int) -> None:
        self._scene, self._chance, self._judge, self._times = scene, chance, judge, times
        scene.num_busy += 1

    def __call__(self) -> None:
        """Do them, whatever happens meanwhile."""
        world = self._scene.world
        try:
            for _ in range(self._times):
                for _ in range(self._chance.randint(0, 20)):
                    world.rest()
                try:
                    maintain(world, self._chance.randint(1, 4))
                except CrashError:
                    world.reborn()
                except StoreUnavailableError as error:
                    world.note(f"not maintained: {error}")
                    self._judge.unavailable(error)
        finally:
            self._scene.num_busy -= 1


def maintain(world: World, num_kept: int, after: timedelta = timedelta(0)) -> None:
    """Do one round; all but so many snapshots are due.

    Args:
        world: the schedule.
        num_kept: snapshots that stay.
        after: so much later than it is: files that are new become old.
    """
    clock = SimpleNamespace(now=lambda: world.now() + after)
    retention = Retention(timedelta(0), num_kept, 1000)
    Maintainer(CONFIG, NAMES, retention, clock, purge_within=timedelta(0)).run()  # type: ignore[arg-type]
