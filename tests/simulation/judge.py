"""What has to hold, by a small model written from the promise (docs/guarantees.md) and not from the code.

While a schedule runs: whoever was followed by another copy commits no more, and no position says more than the rows do.
When all is quiet: each raw row has one final outcome, its clips stand once, and of what was removed, replaced or taken
down none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from consumers.paimon.commit.sink import PaimonSink
from consumers.ports import CommitBatch, CommitReceipt
from schemas.positions import Position
from schemas.records import RowKind, VideoStatus
from schemas.shards import Shard, bases_from_json
from schemas.tables import (
    PROPERTY_BASES,
    PROPERTY_COMMIT_USER,
    PROPERTY_CONSUMER,
    PROPERTY_EPOCH,
    PROPERTY_POSITION,
    PROPERTY_SEQUENCE,
    PROPERTY_SHARD,
)
from tests.simulation.scene import MAIN, OTHER, Scene
from tests.simulation.storage import Storage


@dataclass(frozen=True, slots=True)
class _Made:
    """Who made a commit of a shard."""

    snapshot_id: int
    epoch: int
    user: str
    count: int


class Judge:
    """Looks at every snapshot that is published, and at the tables in the end.

    Args:
        scene: the schedule.
        is_watching: hold the position of every snapshot against the rows; takes too long where tables are on disk.

    Attributes:
        found: what does not hold, in words.
    """

    def __init__(self, scene: Scene, *, is_watching: bool = True) -> None:
        self._scene, self._is_watching = scene, is_watching
        self.found: list[str] = []
        self._made: defaultdict[tuple[str, str, str], list[_Made]] = defaultdict(list)
        for storage in (scene.ledger, scene.curated):
            storage.on_published = self._on_published

    def acknowledged(self, sink: PaimonSink, batch: CommitBatch, receipt: CommitReceipt) -> None:
        """Check that a commit that was acknowledged was published."""
        for storage in (self._scene.ledger, self._scene.curated):
            made = [
                snapshot
                for snapshot in storage.published
                if snapshot.commit_user == sink._user and snapshot.commit_identifier == receipt.sequence
            ]
            if not any(Position.from_json(_of(each, PROPERTY_POSITION)).includes(batch.position) for each in made):
                self.found.append(f"{storage.role}: commit {receipt.sequence} was acknowledged and never published")

    def unavailable(self, error: BaseException) -> None:
        """Check that a store that is said to be away was: the code under test takes any error for that."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (AttributeError, TypeError, KeyError, NameError, AssertionError)):
                self.found.append(f"the store is said to be away, and it was {type(cause).__name__}: {cause}")
            cause = cause.__cause__

    def fenced(self, consumer: str, sink: PaimonSink | None, since: int) -> None:
        """Check that whoever stopped for another copy was followed by one."""
        user = None if sink is None else sink._user
        for storage in (self._scene.ledger, self._scene.curated):
            for snapshot in reversed(storage.published):
                if storage.step_of(snapshot) < since:
                    break
                is_of_consumer = _of(snapshot, PROPERTY_CONSUMER) == consumer
                if is_of_consumer and snapshot.commit_user == _of(snapshot, PROPERTY_COMMIT_USER) != user:
                    return
        if not self._scene.was_set_back:
            self.found.append(f"{consumer}: {user} stopped for another copy, and there was none")

    def _on_published(self, storage: Storage, snapshot: Any) -> None:
        properties = snapshot.properties or {}
        consumer = properties.get(PROPERTY_CONSUMER)
        if consumer is None or properties.get(PROPERTY_COMMIT_USER) != snapshot.commit_user:
            return
        if properties[PROPERTY_SEQUENCE] != str(snapshot.commit_identifier) or storage.latest() is not snapshot:
            return
        if self._scene.was_set_back:
            # Between a table that a person sets back and the service that finds out, a commit may go by.
            return
        self._check_one_copy(storage, consumer, properties[PROPERTY_SHARD], snapshot)
        if storage is self._scene.curated and self._is_watching:
            self._check_position(consumer, snapshot)

    def _check_one_copy(self, storage: Storage, consumer: str, shard: str, snapshot: Any) -> None:
        """Check that whoever was followed by another copy, or by another division, commits no more.

        A copy that starts may be followed while it does, and then takes over itself, under another epoch.
        """
        is_division = shard.startswith("*")
        count = int(shard.rpartition("/")[2])
        made = _Made(snapshot.id, int(_of(snapshot, PROPERTY_EPOCH)), snapshot.commit_user, count)
        of = [f"{index}/{count}" for index in range(count)] if is_division else [shard]
        # What has the same number or a higher one was rolled back.
        all_made = [each for each in self._made[storage.role, consumer, "*"] if each.snapshot_id < snapshot.id]
        if is_division or not all_made:
            all_made.append(made)
        self._made[storage.role, consumer, "*"] = all_made
        if all_made[-1].count != count and not self._scene.plan.num_expiries:
            self.found.append(f"{storage.role}: {shard} has committed although there are {all_made[-1].count} shards")
        for each in of:
            before = [other for other in self._made[storage.role, consumer, each] if other.snapshot_id < snapshot.id]
            for other in before[-1:]:
                if self._scene.plan.num_expiries:
                    # Epochs begin again where every marker has expired: one that was seen already may not return.
                    mine = [each.epoch for each in before if each.user == made.user]
                    is_wrong = made.user != other.user and mine[-1:] == [made.epoch]
                else:
                    is_wrong = made.epoch < other.epoch or (made.epoch == other.epoch and made.user != other.user)
                if is_wrong:
                    self.found.append(
                        f"{storage.role}: {made.user} of epoch {made.epoch} has committed snapshot {snapshot.id} after "
                        f"{other.user} of epoch {other.epoch} has"
                    )
            self._made[storage.role, consumer, each] = [*before, made]

    def _check_position(self, consumer: str, snapshot: Any) -> None:
        scene = self._scene
        position = Position.from_json(_of(snapshot, PROPERTY_POSITION))
        shard_text = _of(snapshot, PROPERTY_SHARD)
        count = int(shard_text.rpartition("/")[2])
        shards = (
            [Shard(index, count) for index in range(count)] if shard_text.startswith("*") else [Shard.parse(shard_text)]
        )
        bases = bases_from_json(_of(snapshot, PROPERTY_BASES) or "[]")
        rows, clips = scene.rows_of(consumer), self._clips(consumer, snapshot)
        for offset, video in scene.raw.rows.items():
            is_own = position.covers(offset) and any(shard.owns(offset) for shard in shards)
            if not (is_own or any(base.covers(offset) for base in bases)):
                continue
            if offset not in rows:
                if offset not in scene.raw.gone and offset not in scene.skipped:
                    self.found.append(f"{consumer}: the position covers row {offset}, and the ledger does not have it")
                continue
            if offset in scene.raw.gone:
                continue
            _, status, kept = rows[offset]
            found = Counter(clips.get(offset, Counter()))
            may_be_empty = status == VideoStatus.RETIRED or scene.is_superseded(video, rows)
            if status == VideoStatus.RETIRED or (may_be_empty and not found):
                continue
            if found != Counter(kept):
                self.found.append(f"{consumer}: the position covers row {offset}, whose clips are {found}, not {kept}")

    def _clips(self, consumer: str, snapshot: Any) -> dict[int, Counter[str]]:
        clips: defaultdict[int, Counter[str]] = defaultdict(Counter)
        for row in self._scene.curated.rows(snapshot, ("consumer", "source_row_id", "clip_id")):
            if row["consumer"] == consumer:
                clips[row["source_row_id"]][row["clip_id"]] += 1
        return clips

    def conclude(self) -> None:
        """Look at the tables when all is quiet."""
        self._conclude(MAIN, self._scene.raw.end)
        if self._scene.plan.has_other:
            self._conclude(OTHER, self._scene.raw.end)

    def _conclude(self, consumer: str, end: int) -> None:
        scene = self._scene
        runs: defaultdict[int, Counter[int]] = defaultdict(Counter)
        for row in scene.ledger.rows(scene.ledger.latest(), ("consumer", "source_row_id", "run")):
            if row["consumer"] == consumer:
                runs[row["source_row_id"]][row["run"]] += 1
        rows, clips = scene.rows_of(consumer), self._clips(consumer, scene.curated.latest())
        for offset in sorted({*runs, *clips, *scene.raw.rows}):
            if consumer == OTHER and offset in scene.raw.gone:
                # Nobody tells it.
                continue
            found = self._fault_of(consumer, offset, runs[offset], rows, clips.get(offset, Counter()))
            if found:
                self.found.append(f"{consumer}: row {offset}: {found}")

    def _fault_of(
        self,
        consumer: str,
        offset: int,
        runs: Counter[int],
        known: dict[int, tuple[int, str, frozenset[str]]],
        clips: Counter[str],
    ) -> str | None:
        scene, latest = self._scene, known.get(offset)
        video = scene.raw.rows.get(offset)
        if video is None:
            return "is in no raw table"
        if runs != Counter(range(1, len(runs) + 1)):
            return f"has the runs {dict(runs)}"
        if latest is None:
            if clips:
                return f"has clips and no ledger row: {clips}"
            return None if offset in scene.raw.gone or offset in scene.skipped else "is missing"
        run, status, kept = latest
        is_down = video.video_id in scene.taken_down or (consumer == MAIN and offset in scene.raw.gone)
        if is_down or video.row_kind is RowKind.DELETE:
            if status != VideoStatus.RETIRED:
                return f"is removed, and the ledger says {status}"
            kept = frozenset()
        elif scene.is_superseded(video, known):
            kept = frozenset()
        elif status == VideoStatus.RETIRED:
            return "is retired, and stands"
        can_be_replayed = consumer == MAIN and offset not in scene.skipped and offset not in scene.raw.gone
        if can_be_replayed and run < scene.replayed[offset]:
            return f"was to be processed again, and has {run} runs, not {scene.replayed[offset]}"
        return None if clips == Counter(kept) else f"has the clips {clips}, not {set(kept)}"


def _of(snapshot: Any, name: str) -> str:
    return str((snapshot.properties or {}).get(name, ""))
