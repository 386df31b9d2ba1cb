"""What other engines and people do to the snapshots and files of a table."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from consumers.paimon.commit.markers import read_division
from consumers.paimon.commit.table_committer import TableCommitter
from schemas.tables import PROPERTY_CONSUMER
from tests.simulation.scene import MAIN, OTHER, Scene
from tests.simulation.storage import SNAPSHOT, Add, FileRef, Remove, Rows, Storage, Tree
from tests.simulation.tables import SimulatedTable


@dataclass
class Engines:
    """What is done beside our code, each in steps of its own.

    Args:
        scene: the schedule.
        chance: its own draws.
    """

    scene: Scene
    chance: random.Random

    def expire(self) -> None:
        """An engine expires all snapshots but the newest few, whoever needs them."""
        for storage in self.chance.choice(((self.scene.ledger,), (self.scene.curated,), self.scene.storages[:2])):
            self._expire(storage, self.chance.randint(1, 3), needed=None)

    def expire_but_markers(self) -> None:
        """Snapshots expire, but none from the oldest of the consumers' newest markers on."""
        for storage in self.scene.storages[:2]:
            needed = self._oldest_needed(storage)
            if needed is not None:
                self._expire(storage, self.chance.randint(1, 3), needed)

    def _oldest_needed(self, storage: Storage) -> int | None:
        table = SimulatedTable(storage)
        ids = []
        for consumer in (MAIN, OTHER):
            division, _ = read_division(table.snapshot_manager(), consumer, storage.latest(), 1000)
            ids += [] if division is None else [marker.snapshot_id for marker in division.markers.values()]
        return min(ids, default=None)

    def _expire(self, storage: Storage, num_kept: int, needed: int | None) -> None:
        ids = storage.ids()
        expired = [each for each in ids[:-num_kept] if needed is None or each < needed]
        for name in (f"{SNAPSHOT}{snapshot_id}" for snapshot_id in expired):
            storage.operate("expire", partial(storage.folder.pop, name, None))
        storage.operate("clean", lambda: _clean(storage, max(expired, default=0)))

    def copy_markers(self) -> None:
        """Java compacts the manifests of a table, and copies the properties of the newest snapshot."""
        storage = self.chance.choice(self.scene.storages[:2])
        storage.operate("java", lambda: _copy_marker(storage))

    def compact(self) -> None:
        """Small files of the ledger become one."""
        storage = self.scene.ledger
        files = list(storage.operate("plan", storage.newest_files))[-4:]
        if len(files) < 2:
            return
        merged = storage.operate("read", lambda: _merged(storage, files))
        user = f"sluice-maintenance-{storage.world.uuid4()}"
        committer = TableCommitter(SimulatedTable(storage), user, lambda manager, latest: None)
        try:
            committer.replace([*map(Remove, files), Add(merged)], 1, {"sluice.maintenance": "compact"})
        except Exception as error:
            storage.world.note(f"not compacted: {error}")

    def set_back(self, what: str) -> None:
        """A person rolls tables back."""
        scene = self.scene
        curated, ledger = scene.curated, scene.ledger
        # The first that goes with every consumer: earlier ones are for a backup.
        firsts = [_first_of(curated, consumer) for consumer in (MAIN, OTHER)]
        first = max((each for each in firsts if each is not None), default=None)
        if first is None:
            return
        ids = [each for each in curated.ids() if each >= first]
        if len(ids) < 2:
            return
        scene.was_set_back = True
        kept = self.chance.choice(ids[:-1]) if what != "ledger" else ids[0]
        # The ledger, which is written first, is to have every commit that the curated table has.
        step = curated.step_of(curated.snapshot(kept))
        needed = max((each for each in ledger.ids() if ledger.step_of(ledger.snapshot(each)) < step), default=0)
        if what != "ledger":
            roll_back(curated, kept)
        ledger_ids = [each for each in ledger.ids() if each >= needed]
        if what != "curated" and len(ledger_ids) > 1:
            roll_back(ledger, self.chance.choice(ledger_ids[:-1]))


def _clean(storage: Storage, expired: int) -> None:
    """Delete the files that no snapshot after ``expired`` needs, as far as they were ever published."""
    kept = [storage.snapshot(each) for each in storage.ids()]
    lists = {snapshot.base_manifest_list for snapshot in kept}
    published = {snapshot.base_manifest_list for snapshot in storage.published if snapshot.id <= expired}
    needed = {name for each in kept for name in storage.tree(each).files}
    for name in published - lists:
        for file in storage.trees.pop(name, storage.tree(None)).files:
            if file not in needed:
                storage.files.pop(file, None)


def _copy_marker(storage: Storage) -> None:
    latest = storage.latest()
    if latest is None:
        return
    world = storage.world
    name = f"manifest-list-{world.uuid4()}"
    tree = storage.tree(latest)
    storage.trees[name] = Tree(tree.files, frozenset(), tree.files)
    copied = replace(
        latest,
        id=latest.id + 1,
        uuid=str(world.uuid4()),
        commit_user=str(world.uuid4()),
        commit_identifier=2**63 - 1,
        commit_kind="COMPACT",
        base_manifest_list=name,
        delta_manifest_list=f"{name}-delta",
    )
    storage.create(f"{SNAPSHOT}{copied.id}", storage.make(copied))


def _merged(storage: Storage, files: Iterable[FileRef]) -> FileRef:
    refs = list(files)
    table = pa.Table.from_batches([storage.files[ref.name].batch for ref in refs]).combine_chunks()
    (batch,) = table.to_batches()
    made = FileRef(f"data-{storage.world.uuid4()}", batch.num_rows)
    storage.files[made.name] = Rows(batch)
    return made


def _first_of(storage: Storage, consumer: str) -> int | None:
    """Return the first snapshot with a marker of ``consumer``."""
    for snapshot_id in storage.ids():
        if (storage.snapshot(snapshot_id).properties or {}).get(PROPERTY_CONSUMER) == consumer:
            return snapshot_id
    return None


def roll_back(storage: Storage, snapshot_id: int) -> None:
    """Roll a table back in one step: an engine that takes several leaves holes where another one commits."""

    def roll_back() -> None:
        for each in storage.ids():
            if each > snapshot_id:
                del storage.folder[f"{SNAPSHOT}{each}"]

    storage.operate("roll_back", roll_back)
