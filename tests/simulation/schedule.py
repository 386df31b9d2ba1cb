"""One schedule, from its seed to the verdict."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from consumers.errors import ConfigurationError
from consumers.paimon.commit.rescale import Rescaler
from schemas.shards import Shard
from tests.simulation.disk import DiskScene, Maintenance, maintain
from tests.simulation.engines import roll_back
from tests.simulation.judge import Judge
from tests.simulation.known import KNOWN
from tests.simulation.people import People
from tests.simulation.plan import Plan, drawn_disk_plan, drawn_plan
from tests.simulation.scene import CONFIG, MAIN, OTHER, Scene, played
from tests.simulation.scheduler import CrashError, World
from tests.simulation.services import Service
from tests.support.warehouse import NAMES

_MOST_SHARDS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a schedule.

    Attributes:
        seed: of the schedule.
        plan: what it had in it.
        found: what does not hold, in words; empty where all does.
        digest: of every step, to tell whether two runs were the same.
        num_steps: operations on the store.
        num_snapshots: that were published.
        hits: how often each fault happened.
        trace: every step, where it was asked for.
        known: the fault whose plan it had, None for a drawn one.
    """

    seed: int
    plan: Plan
    found: tuple[str, ...]
    digest: int
    num_steps: int
    num_snapshots: int
    hits: Counter[str]
    trace: tuple[str, ...] = ()
    known: str | None = None

    def __str__(self) -> str:
        found = "\n".join(f"- {each}" for each in self.found)
        again = f"python -m tests.simulation {self.seed}" + (f" --known {self.known}" if self.known else "")
        again += " --disk" if self.plan.num_maintenances else ""
        return f"seed {self.seed} ({again} --trace):\n{self.plan}\n{found}"


def run_schedule(seed: int, known: str | None = None, *, is_traced: bool = False) -> Verdict:
    """Run the schedule of ``seed``, with the plan of a known fault in the place of the one that is drawn."""
    plan = drawn_plan(seed) if known is None else KNOWN[known]
    world = World(seed, plan.rules, plan.switching, is_traced)
    scene = Scene(world, plan)
    return _played(scene, Judge(scene), known)


def run_on_disk(seed: int, folder: Path, *, is_traced: bool = False) -> Verdict:
    """Run a schedule of ``seed`` over pypaimon's real tables in ``folder``, an empty one, with our maintenance."""
    plan = drawn_disk_plan(seed)
    world = World(seed, plan.rules, plan.switching, is_traced)
    with world.aside():
        scene = DiskScene(world, plan, folder)
    judge = Judge(scene, is_watching=False)
    with scene.stepped():
        world.spawn("maintenance", Maintenance(scene, random.Random(seed + 40), judge, plan.num_maintenances))
        return _played(scene, judge, None)


def _played(scene: Scene, judge: Judge, known: str | None) -> Verdict:
    world = scene.world
    with played(scene):
        try:
            _act(scene, judge)
            world.is_calm = True
            if not judge.found and not world.errors:
                world.spawn("finish", lambda: _finish(scene, judge))
                world.run()
                if not scene.is_for_a_backup:
                    _conclude(judge)
        except AssertionError as error:
            judge.found.append(str(error))
    found = [*judge.found, *(f"{name}: {type(error).__name__}: {error}" for name, error in world.errors)]
    num_snapshots = sum(len(storage.published) for storage in scene.storages)
    return Verdict(
        world.seed,
        scene.plan,
        tuple(found),
        world.digest,
        world.num_steps,
        num_snapshots,
        world.hits,
        tuple(world.trace),
        known,
    )


def _conclude(judge: Judge) -> None:
    try:
        judge.conclude()
    except Exception as error:
        judge.found.append(f"the tables cannot be read: {type(error).__name__}: {error}")


def _act(scene: Scene, judge: Judge) -> None:
    world, plan = scene.world, scene.plan
    people = People(scene, random.Random(world.seed + 2), judge)
    people.spawn()
    for slot in range(max((1, *plan.rescales))):
        service = Service(scene, random.Random(world.seed + 3 + slot), judge, slot=slot)
        world.spawn(f"service-{slot}", service)
    for number in range(plan.num_copies):
        chance = random.Random(world.seed + 10 + number)
        copy = Service(scene, chance, judge, slot=0, lives=2)

        def late(copy: Service = copy, num_rests: int = chance.randint(0, 15)) -> None:
            for _ in range(num_rests):
                world.rest()
            copy()

        world.spawn(f"copy-{number}", late)
    if plan.has_other:
        world.spawn("other", Service(scene, random.Random(world.seed + 20), judge, OTHER))
    world.run()


def _finish(scene: Scene, judge: Judge) -> None:
    """Let one process after another do what is left, while nothing goes wrong."""
    if scene.is_dividing:
        try:
            Rescaler(CONFIG, NAMES, MAIN).rescale(scene.wanted_count)
            scene.count = scene.wanted_count
        except ConfigurationError as error:
            if "never run" not in str(error):
                raise
        scene.is_dividing = False
    # Once more changes nothing; and who finds the tables as others left them may have to set them back.
    is_again = scene.world.chance.random() < 0.1
    while _finish_all(scene, judge) or is_again:
        is_again = False
    if isinstance(scene, DiskScene):
        # Everything is old enough to be swept up, and what the tables need stays.
        maintain(scene.world, 1, timedelta(days=365_000))
        _finish_all(scene, judge)


def _finish_all(scene: Scene, judge: Judge) -> bool:
    """Return whether a table had to be set back, so that others are to look again."""
    chance = random.Random(scene.world.seed + 30)
    services = [(Service(scene, chance, judge, lives=1), Shard(index, scene.count)) for index in range(scene.count)]
    if scene.plan.has_other:
        services.append((Service(scene, chance, judge, OTHER, lives=1), Shard()))
    return sum(_finish_one(scene, service, shard) for service, shard in services) > 0


def _finish_one(scene: Scene, service: Service, shard: Shard) -> bool:
    is_set_back = False
    while True:
        try:
            service.live(shard)
        except ConfigurationError as error:
            # The ledger was set back alone, and the error says to which snapshot the curated table is to be.
            if scene.was_set_back and "no snapshot" in str(error):
                # Rolled back in the middle of a commit: it takes a backup.
                scene.is_for_a_backup = True
                return False
            if not scene.was_set_back or "rollback_to" not in str(error):
                raise
            is_set_back = True
            roll_back(scene.curated, int(str(error).partition("to its snapshot ")[2].split()[0]))
        except CrashError:
            raise AssertionError("a process died although nothing goes wrong any more") from None
        else:
            return is_set_back
