"""What the chaos benchmark does to a consumer in one round, and how its processes end."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import count, cycle
from typing import Literal

from benchmarks.forked import Forked
from benchmarks.service_under_test import ServiceUnderTest, strike_at
from consumers.paimon.commit.side import STEPS

VIDEOS_PER_ROUND = 6
_LANDINGS_IN_CALM = 12
_BETWEEN_LANDINGS_S = 0.3
Kind = Literal["instant", "step", "copies", "zombie", "paused", "calm", "event", "worker", "rescale"]
_COMMIT_STEPS = STEPS[3:]
_NUM_SHARDS = (3, 2, 1)
_FENCED = re.compile("tak(en|ing) over|was divided into")
_REPLICA = "ray::ServeReplica"


@dataclass(frozen=True, slots=True)
class Blow:
    """What happens to the consumer in one round.

    Attributes:
        kind: ``instant``: killed after ``delay_s``. ``step``: kills itself at a step. ``copies``: two, the second
            started after ``delay_s``, both killed ``second_delay_s`` later. ``zombie``: stops itself at a step, and
            goes on after another copy has run for ``delay_s``. ``worker``: a Ray worker is killed, the consumer
            ``delay_s`` later. ``rescale``: divided anew while it runs, by a command that is killed after ``delay_s``
            and given again.
            ``paused``: stops itself when a snapshot of its own has come into being, and goes on after another copy
            has run for ``delay_s`` and all snapshots before the newest have expired. ``calm``: left alone while videos
            land several times, and killed ``delay_s`` later; the outages are all that troubles it. ``event``: after
            ``delay_s`` its raw table is changed under it, and it is killed ``second_delay_s`` later.
        step: one of the sink's steps; of an event, what happens to the raw table.
        occurrence: which time it comes, from 1 on.
        delay_s: see ``kind``.
        second_delay_s: see ``kind``.
        num_shards: into how many it is divided.
    """

    kind: Kind
    step: str = ""
    occurrence: int = 1
    delay_s: float = 0.0
    second_delay_s: float = 0.0
    num_shards: int = 1


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take where the service runs.

    Attributes:
        stretch: factor on every delay.
        patience_s: a step that does not come in this time had nothing to commit; the process is killed where it is.
    """

    stretch: float
    patience_s: float


@dataclass(frozen=True, slots=True)
class Toll:
    """How processes ended.

    Attributes:
        kills: by SIGKILL.
        at_step: of these, where they were meant to; and those that were put to sleep there.
        fenced: by themselves, because a newer copy or division had taken over.
        gave_up: by themselves, with a sentence that says why: the store was away.
        crashed: in any other way.
    """

    kills: int = 0
    at_step: int = 0
    fenced: int = 0
    gave_up: int = 0
    crashed: int = 0

    def __add__(self, other: Toll) -> Toll:
        return Toll(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def blows(chance: random.Random, *, rescale: bool, outages: bool = False, events: Sequence[str] = ()) -> Iterator[Blow]:
    """Yield blows without end: laps of every step once and the other kinds a few times, each lap shuffled.

    The first lap comes to 15 kills of an undivided consumer; later ones have more random instants.

    Args:
        chance: of the draws.
        rescale: divide the consumer anew now and then.
        outages: put publishers to sleep.
        events: what happens to the raw table, each once in a lap.
    """
    num_shards = cycle(_NUM_SHARDS)
    for lap_number in count():
        lap = [Blow("step", step, chance.randint(1, 2) if step in _COMMIT_STEPS else 1) for step in STEPS]
        lap += [Blow("instant", delay_s=chance.uniform(0, 1.2)) for _ in range(9 if lap_number else 2)]
        lap.append(Blow("copies", delay_s=chance.uniform(0, 0.5), second_delay_s=chance.uniform(0, 0.8)))
        # After the last step there is nothing left of a commit that could be fenced.
        lap += [Blow("zombie", chance.choice(STEPS[1:-1]), delay_s=chance.uniform(0, 1)) for _ in range(2)]
        if outages:
            lap += [Blow("paused", occurrence=chance.randint(1, 6), delay_s=chance.uniform(0.2, 1)) for _ in range(3)]
            lap += [Blow("calm", delay_s=chance.uniform(0.5, 1.5)) for _ in range(2)]
        chance.shuffle(lap)
        for event in events:
            # Early in the lap, and not before there is something that can be lost.
            place = chance.randint(3, 10)
            lap.insert(place, Blow("event", event, 1, chance.uniform(0, 0.6), chance.uniform(0.1, 0.8)))
        for index, blow in enumerate(lap):
            if rescale and index % 4 == 1:
                yield Blow(
                    "rescale",
                    delay_s=chance.uniform(0, 0.3),
                    second_delay_s=chance.uniform(0.2, 1.0),
                    num_shards=next(num_shards),
                )
            yield blow


def blows_to_workers(chance: random.Random) -> Iterator[Blow]:
    """Yield blows for the Ray pool, without end: a worker, then a step, then an instant."""
    while True:
        yield Blow("worker", delay_s=chance.uniform(0, 0.2))
        yield Blow("step", chance.choice(STEPS))
        yield Blow("instant", delay_s=chance.uniform(0, 1.5))


def strike(service: ServiceUnderTest, blow: Blow, chance: random.Random, pace: Pace) -> Toll:
    """Let one round happen; no process of it is left.

    The blow falls on one shard; the others run meanwhile, and are killed at the end of the round.

    Raises:
        ChildFailedError: the videos could not be registered, or the rescale never came to its end.
    """
    landing = service.land(VIDEOS_PER_ROUND)
    if blow.kind == "rescale":
        toll = _rescale(service, blow, pace)
    elif blow.kind == "event":
        landing.require("landing videos", 300)
        toll = _event(service, blow, chance, pace)
    elif blow.kind == "calm":
        landing.require("landing videos", 300)
        toll = _calm(service, blow, pace)
    else:
        target = chance.randrange(service.num_shards)
        others = [service.run(shard) for shard in range(service.num_shards) if shard != target]
        toll = _strike_one(service, blow, pace, target) + _kill(*others)
    landing.require("landing videos", 300)
    return toll


def _strike_one(service: ServiceUnderTest, blow: Blow, pace: Pace, shard: int) -> Toll:
    delay_s = blow.delay_s * pace.stretch
    match blow.kind:
        case "step":
            victim = service.run(shard, strike_at(blow.step, blow.occurrence, signal.SIGKILL))
            is_dead = victim.wait(pace.patience_s) == -signal.SIGKILL
            return _kill(victim) + Toll(at_step=int(is_dead))
        case "copies":
            first = service.run(shard)
            first.wait(delay_s)
            second = service.run(shard)
            second.wait(blow.second_delay_s * pace.stretch)
            return _kill(first, second)
        case "zombie":
            sleeper = service.run(shard, strike_at(blow.step, blow.occurrence, signal.SIGSTOP))
            is_asleep = sleeper.wait_until_stopped(pace.patience_s)
            successor = service.run(shard)
            successor.wait(delay_s)
            if is_asleep:
                sleeper.go_on()
                sleeper.wait(2 * pace.stretch)
            return _kill(sleeper, successor) + Toll(at_step=int(is_asleep))
        case "paused":
            sleeper = service.run(shard, asleep_at=blow.occurrence)
            is_asleep = sleeper.wait_until_stopped(pace.patience_s)
            successor = service.run(shard)
            successor.wait(delay_s)
            toll = _kill(successor)
            if is_asleep:
                service.expire_everything().require("expiring all snapshots", 120)
                sleeper.go_on()
                sleeper.wait(2 * pace.stretch)
            return toll + _kill(sleeper) + Toll(at_step=int(is_asleep))
        case "worker":
            consumer = service.run(shard)
            is_hit = _kill_replica(consumer, pace.patience_s)
            consumer.wait(delay_s)
            return _kill(consumer) + Toll(kills=int(is_hit))
        case _:
            victim = service.run(shard)
            victim.wait(delay_s)
            return _kill(victim)


def _rescale(service: ServiceUnderTest, blow: Blow, pace: Pace) -> Toll:
    shards = [service.run(shard) for shard in range(service.num_shards)]
    shards[0].wait(blow.second_delay_s * pace.stretch)
    interrupted = service.command("rescale", str(blow.num_shards))
    interrupted.wait(blow.delay_s * pace.stretch)
    is_killed = interrupted.kill()
    service.command("rescale", str(blow.num_shards)).require("sluice rescale", 120)
    service.num_shards = blow.num_shards
    # The new shards start while the old ones are still about.
    new = [service.run(shard) for shard in range(service.num_shards)]
    shards[0].wait(blow.second_delay_s * pace.stretch)
    return _kill(*shards, *new) + Toll(kills=int(is_killed))


def _calm(service: ServiceUnderTest, blow: Blow, pace: Pace) -> Toll:
    shards = [service.run(shard) for shard in range(service.num_shards)]
    for _ in range(_LANDINGS_IN_CALM):
        service.land(VIDEOS_PER_ROUND).require("landing videos", 300)
        shards[0].wait(_BETWEEN_LANDINGS_S * pace.stretch)
    shards[0].wait(blow.delay_s * pace.stretch)
    return _kill(*shards)


def _event(service: ServiceUnderTest, blow: Blow, chance: random.Random, pace: Pace) -> Toll:
    """Change the raw table under running shards, land more videos, and have an operator look after it."""
    shards = [service.run(shard) for shard in range(service.num_shards)]
    shards[0].wait(blow.delay_s * pace.stretch)
    service.happen(blow.step, chance.randrange(1 << 30))
    shards[0].wait(blow.second_delay_s * pace.stretch)
    service.land(VIDEOS_PER_ROUND).require("landing videos", 300)
    shards[0].wait(blow.second_delay_s * pace.stretch)
    toll = _kill(*shards)
    service.finish()
    return toll


def _kill_replica(consumer: Forked, patience_s: float) -> bool:
    """Kill a Ray worker once videos have begun to be committed; return whether there was one."""
    for _ in range(int(patience_s / 0.1)):
        if consumer.wait(0.1) is not None:
            return False
        replicas = [pid for pid, command in consumer.descendants().items() if command.startswith(_REPLICA)]
        if replicas and "commit " in consumer.output():
            os.kill(max(replicas), signal.SIGKILL)
            return True
    return False


def _kill(*processes: Forked) -> Toll:
    """Kill what still lives of ``processes`` and count how they ended."""
    toll = Toll()
    for process in processes:
        if process.kill():
            toll += Toll(kills=1)
        elif _FENCED.search(process.output()):
            toll += Toll(fenced=1)
        else:
            sys.stderr.write(f"a process ended by itself with code {process.wait()}:\n{process.output()[-4000:]}\n")
            has_said_why = process.wait() in {1, 2}
            toll += Toll(gave_up=int(has_said_why), crashed=int(not has_said_why))
    return toll
