"""What people do to a consumer, and when the engines come: actors whose work has an end."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from consumers.errors import ConfigurationError, StopError, StoreUnavailableError
from consumers.paimon.commit.reposition import Move, Repositioner
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.takedown import TakedownStore, new_takedown
from schemas.records import VideoStatus
from schemas.shards import Shard
from tests.simulation.engines import Engines
from tests.simulation.judge import Judge
from tests.simulation.scene import CONFIG, MAIN, Scene
from tests.simulation.scheduler import CrashError, StoreError
from tests.support.warehouse import NAMES

_MOST_TRIES = 30


@dataclass
class People:
    """What people and other engines do to a consumer.

    Args:
        scene: the schedule.
        chance: its own draws.
        judge: told of stores that are said to be away.
    """

    scene: Scene
    chance: random.Random
    judge: Judge

    def spawn(self) -> None:
        """Let all of them begin."""
        plan, engines = self.scene.plan, Engines(self.scene, self.chance)
        self._spawn("landing", plan.num_landings, self.land)
        self._spawn("takedown", plan.num_takedowns, self.take_down)
        self._spawn("replay", plan.num_replays, self.replay)
        self._spawn("skip", plan.num_skips, self.skip)
        self._spawn("removal", plan.num_removals, self.remove)
        self._spawn("expiry", plan.num_expiries, engines.expire)
        self._spawn("kept-expiry", plan.num_kept_expiries, engines.expire_but_markers)
        self._spawn("java", plan.num_copied_markers, engines.copy_markers)
        self._spawn("compaction", plan.num_compactions, lambda: self._insist(engines.compact))
        for number, count in enumerate(plan.rescales):
            self._spawn(f"rescale-{number}", 1, partial(self.rescale, count))
        for number, what in enumerate(plan.set_backs):
            self._spawn(f"set-back-{number}", 1, partial(engines.set_back, what))

    def _spawn(self, name: str, times: int, act: Callable[[], object]) -> None:
        if not times:
            return
        self.scene.num_busy += 1

        def run() -> None:
            try:
                for _ in range(times):
                    for _ in range(self.chance.randint(0, 12)):
                        self.scene.world.rest()
                    act()
            finally:
                self.scene.num_busy -= 1

        self.scene.world.spawn(name, run)

    def _insist(self, act: Callable[[], object]) -> bool:
        """Do ``act`` until it is done, by one process after another; return whether it was, in the end."""
        for _ in range(_MOST_TRIES):
            try:
                act()
            except CrashError:
                self.scene.world.reborn()
            except (StoreError, StoreUnavailableError, StopError) as error:
                self.scene.world.note(f"tries again: {error}")
                self.judge.unavailable(error)
            except ConfigurationError:
                # The consumer has never run, or is being divided.
                pass
            else:
                return True
            self.scene.world.rest()
        return False

    def land(self) -> None:
        """Rows are appended to the raw table."""
        self.scene.raw.land(self.chance.randint(1, 3))

    def remove(self) -> None:
        """A row is deleted from the raw table."""
        left = [video.row_id for video in self.scene.raw.standing()]
        if left:
            self.scene.raw.gone.add(self.chance.choice(left))

    def take_down(self) -> None:
        """A person takes a video down and restarts the services."""
        scene = self.scene
        names = sorted({video.video_id for video in scene.raw.rows.values()} - scene.taken_down)
        if not names:
            return
        name = self.chance.choice(names)
        takedown = new_takedown(name, "ann", "test", scene.world.now(), None, video_ids=(name,))

        def add() -> None:
            scene.taken_down.add(name)
            TakedownStore(CONFIG, NAMES.control).add(takedown)

        self._insist(add)
        scene.restarts += 1

    def replay(self) -> None:
        """A person has rows without clips processed again, and restarts the services."""
        rows = self.scene.rows_of(MAIN)
        poor = [
            offset for offset, (_, status, _) in rows.items() if status in (VideoStatus.FAILED, VideoStatus.REJECTED)
        ]
        if not poor:
            return
        wanted = sorted(self.chance.sample(poor, self.chance.randint(1, len(poor))))
        count = self.scene.count
        for index in range(count):
            self._insist(partial(self._make, Shard(index, count), lambda mover: mover.again(wanted)))
        self.scene.restarts += 1

    def skip(self) -> None:
        """A person leaves out what is not done yet below some offset, and restarts the services."""
        offset = self.chance.randint(1, self.scene.raw.end)

        def plan(mover: Repositioner) -> Move:
            move = mover.to_offset(offset)
            self.scene.skipped.update(each for each in range(offset) if not move.current.covers(each))
            return move

        shard = Shard(0, self.scene.count)
        self._insist(lambda: self._make(shard, plan))
        self.scene.restarts += 1

    def _make(self, shard: Shard, plan: Callable[[Repositioner], Move]) -> None:
        mover = Repositioner(CONFIG, NAMES, MAIN, shard)
        move = plan(mover)
        rows = self.scene.rows_of(MAIN)
        mover.make(move)
        for part in move.read_again.ranges():
            for offset in range(part.start, part.end):
                if offset in rows:
                    self.scene.replayed[offset] = max(self.scene.replayed[offset], rows[offset][0] + 1)

    def rescale(self, count: int) -> None:
        """A person divides the consumer anew."""
        scene = self.scene
        if scene.is_dividing:
            return
        scene.is_dividing = True
        scene.num_divided += 1
        scene.wanted_count = count
        # A consumer that never ran is not divided.
        if self._insist(lambda: Rescaler(CONFIG, NAMES, MAIN).rescale(count)):
            scene.count = count
            scene.is_dividing = False
