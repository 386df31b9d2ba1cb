"""The services of a schedule: one process of a shard after the other."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from consumers.errors import ConfigurationError, FencedError, SightLostError, StopError, StoreUnavailableError
from consumers.paimon.commit.only_consumer import check_only_consumer
from consumers.paimon.commit.sink import PaimonSink
from consumers.ports import CommitBatch
from schemas.positions import OffsetRange, Position
from schemas.records import ProcessedVideo, RowKind
from schemas.shards import Shard, Share
from tests.simulation.judge import Judge
from tests.simulation.scene import CONFIG, MAIN, OTHER, Scene
from tests.simulation.scheduler import CrashError
from tests.simulation.work import outcome, removal
from tests.support.warehouse import NAMES, PROFILE

_MOST_TRIES = 12
_MOST_IN_BATCH = 4


@dataclass
class Service:
    """One shard's process, started again whenever it ends.

    Args:
        scene: the schedule.
        chance: its own draws.
        judge: told of every commit that was acknowledged, and of being fenced.
        consumer: whose.
        slot: which shard, as long as there are so many.
        lives: so many processes, None for as many as it takes.
    """

    scene: Scene
    chance: random.Random
    judge: Judge
    consumer: str = MAIN
    slot: int = 0
    lives: int | None = None
    _sink: PaimonSink | None = None
    _began_at: int = 0

    def __call__(self) -> None:
        """Run until all work is done and no more is to come."""
        num_lives = 0
        while self.lives is None or num_lives < self.lives:
            count = self.scene.count if self.consumer == MAIN else 1
            if self.slot >= count:
                if self.scene.is_over:
                    return
                self.scene.world.rest()
                continue
            num_lives += 1
            if self._live_once(Shard(self.slot, count)) and self.scene.is_over:
                return
            self.scene.world.rest()

    def _live_once(self, shard: Shard) -> bool:
        """Return whether all its work is done."""
        scene, num_divided = self.scene, self.scene.num_divided
        try:
            self.live(shard)
        except CrashError:
            scene.world.reborn()
            scene.world.note("died")
            return False
        except (StoreUnavailableError, FencedError) as error:
            scene.world.note(f"gave up: {error}")
            self.judge.unavailable(error)
            if isinstance(error, FencedError) and not isinstance(error, SightLostError):
                self.judge.fenced(self.consumer, self._sink, self._began_at)
            return False
        except StopError as error:
            if not scene.was_set_back:
                raise
            scene.world.note(f"stopped: {error}")
            return False
        except ConfigurationError as error:
            is_divided = scene.is_dividing or num_divided != scene.num_divided
            if not scene.was_set_back and not is_divided and shard.count == scene.count:
                raise
            scene.world.note(f"refused: {error}")
            return self.lives is None and scene.is_over
        return True

    def live(self, shard: Shard) -> None:
        """Open the tables and commit whatever there is to do."""
        scene, restarts = self.scene, self.scene.restarts
        if self.consumer == MAIN and not scene.plan.has_other:
            check_only_consumer(CONFIG, NAMES, MAIN)
        self._began_at = scene.world.num_steps
        self._sink = sink = PaimonSink(CONFIG, NAMES, self.consumer, PROFILE, shard=shard, has_gaps=scene.plan.is_keyed)
        recovered = sink.open()
        position, told, num_tries = recovered.position, set[int](), 0
        pending: CommitBatch | None = None
        while True:
            if scene.restarts != restarts and self.consumer == MAIN:
                sink.close()
                return self.live(shard)
            batch = pending or self._next_batch(position, recovered.share, told)
            if batch is None:
                if scene.is_over or self.lives is not None:
                    sink.close()
                    return None
                scene.world.rest(10.0)
                continue
            try:
                receipt = sink.commit(batch)
            except StoreUnavailableError as error:
                self.judge.unavailable(error)
                num_tries += 1
                if num_tries > _MOST_TRIES:
                    raise
                pending = batch
                scene.world.rest()
                continue
            self.judge.acknowledged(sink, batch, receipt)
            scene.world.note(f"committed {receipt}")
            position, pending, num_tries = batch.position, None, 0

    def _next_batch(self, position: Position, share: Share, told: set[int]) -> CommitBatch | None:
        raw, chance = self.scene.raw, self.chance
        left = [offset for offset in range(raw.end) if not position.covers(offset)]
        due = [offset for offset in left if share.owes(offset) and offset in raw.rows and offset not in raw.gone]
        if self.consumer == OTHER:
            due = due[:3]
        # Videos finish out of order.
        window = due[: _MOST_IN_BATCH + 2]
        chosen = sorted(chance.sample(window, min(len(window), chance.randint(1, _MOST_IN_BATCH))))
        end = max(chosen) + 1 if chosen else raw.end if not due else 0
        empty = [offset for offset in left if offset < end and offset not in due]
        videos = [self._processed(offset) for offset in chosen]
        if self.consumer == MAIN:
            videos += self._removals(position, share, told)
        if not videos and not empty:
            return None
        ranges = (OffsetRange(offset, offset + 1) for offset in (*chosen, *empty))
        return CommitBatch(tuple(videos), position.union(ranges))

    def _processed(self, offset: int) -> ProcessedVideo:
        plan = self.scene.plan
        return outcome(self.scene.raw.rows[offset], self.chance, is_unstable=plan.is_unstable)

    def _removals(self, position: Position, share: Share, told: set[int]) -> list[ProcessedVideo]:
        """Return the rows that are gone from the raw table, each once in the life of a process."""
        raw = self.scene.raw
        gone = [offset for offset in sorted(raw.gone - told) if position.covers(offset) and share.shard.owns(offset)]
        told.update(gone)
        return [removal(replace(raw.rows[offset], row_kind=RowKind.DELETE)) for offset in gone]
