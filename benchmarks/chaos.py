"""Exactly once, under fire: real `sluice run` processes that are killed, stopped, doubled and cut off from their store.

Usage: ``python -m benchmarks.chaos [--kills N] [--seed S] [--expire] [--pool ray] [--json]``. Each round lands videos
while a consumer runs, and strikes it: SIGKILL at a random instant or at a named step of the commit protocol, two copies
at once, or a copy that sleeps in mid-commit until another has taken over. In the end an undisturbed run finishes the
table, and the tables are compared with what landed. Prints a line per round and the totals last, as JSON objects with
``--json``. Exit code 1 if anything is missing or there twice, if the audit disagrees, or if a process ended by itself
other than fenced.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from benchmarks.forked import Forked
from benchmarks.service_under_test import ServiceUnderTest, Store, strike_at
from consumers.paimon.sink import STEPS

VIDEOS_PER_ROUND = 6
_COMMIT_STEPS = STEPS[3:]
# A step that does not come in this time had nothing to commit; the process is killed where it is.
_PATIENCE_S = 8.0
_ROUNDS_PER_EXPIRY = 5
_FENCED = re.compile("tak(en|ing) over")


@dataclass(frozen=True, slots=True)
class Blow:
    """What happens to the consumer in one round.

    Attributes:
        kind: ``instant``: killed after ``delay_s``. ``step``: kills itself at a step. ``copies``: two, the second
            started after ``delay_s``, both killed ``second_delay_s`` later. ``zombie``: stops itself at a step, and
            goes on after another copy has run for ``delay_s``.
        step: one of the sink's steps, or None.
        occurrence: which time it comes, from 1 on.
        delay_s: see ``kind``.
        second_delay_s: see ``kind``.
    """

    kind: str
    step: str | None = None
    occurrence: int = 1
    delay_s: float = 0.0
    second_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Toll:
    """How processes ended.

    Attributes:
        kills: by SIGKILL.
        at_step: of these, at the step they were meant to; and those that slept there.
        fenced: by themselves, because a newer copy had taken over.
        crashed: in any other way.
    """

    kills: int = 0
    at_step: int = 0
    fenced: int = 0
    crashed: int = 0

    def __add__(self, other: Toll) -> Toll:
        return Toll(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def blows(chance: random.Random) -> Iterator[Blow]:
    """Yield blows without end: laps of every step once and the other kinds a few times, each lap shuffled.

    The first lap comes to 15 kills; later ones have more random instants.
    """
    num_instants = 2
    while True:
        lap = [Blow("step", step, chance.randint(1, 2) if step in _COMMIT_STEPS else 1) for step in STEPS]
        lap += [Blow("instant", delay_s=chance.uniform(0, 1.2)) for _ in range(num_instants)]
        lap.append(Blow("copies", delay_s=chance.uniform(0, 0.5), second_delay_s=chance.uniform(0, 0.8)))
        # After the last step there is nothing left of a commit that could be fenced.
        lap += [Blow("zombie", chance.choice(STEPS[1:-1]), delay_s=chance.uniform(0, 1)) for _ in range(2)]
        chance.shuffle(lap)
        yield from lap
        num_instants = 9


def strike(service: ServiceUnderTest, blow: Blow) -> Toll:
    """Let one round happen; no process of it is left."""
    landing = service.land(VIDEOS_PER_ROUND)
    match blow.kind:
        case "instant":
            toll = _kill_after(blow.delay_s, service.run())
        case "step":
            victim = service.run(on_step=strike_at(_step(blow), blow.occurrence, signal.SIGKILL))
            is_dead = victim.wait(_PATIENCE_S) == -signal.SIGKILL
            toll = _kill_after(0, victim) + Toll(at_step=int(is_dead))
        case "copies":
            first = service.run()
            first.wait(blow.delay_s)
            toll = _kill_after(blow.second_delay_s, service.run(), first)
        case _:
            sleeper = service.run(on_step=strike_at(_step(blow), blow.occurrence, signal.SIGSTOP))
            is_asleep = sleeper.wait_until_stopped(_PATIENCE_S)
            successor = service.run()
            successor.wait(blow.delay_s)
            if is_asleep:
                sleeper.go_on()
                sleeper.wait(_PATIENCE_S / 4)
            toll = _kill_after(0, sleeper, successor) + Toll(at_step=int(is_asleep))
    landing.require("sluice ingest", 120)
    return toll


def _step(blow: Blow) -> str:
    if blow.step is None:
        raise ValueError(f"a {blow.kind} names a step")
    return blow.step


def _kill_after(delay_s: float, *processes: Forked) -> Toll:
    """Wait for the first of ``processes`` to end or for ``delay_s``, kill them all and count how they ended."""
    processes[0].wait(delay_s)
    toll = Toll()
    for process in processes:
        if process.kill():
            toll += Toll(kills=1)
        elif _FENCED.search(process.output()):
            toll += Toll(fenced=1)
        else:
            sys.stderr.write(f"a process ended by itself with code {process.wait()}:\n{process.output()[-4000:]}\n")
            toll += Toll(crashed=1)
    return toll


def run(service: ServiceUnderTest, kills: int, seed: int, *, expire: bool, as_json: bool) -> bool:
    """Strike until ``kills`` processes are dead, then finish and compare; return whether all stands exactly once."""
    start_s = time.monotonic()
    toll = Toll()
    for round_, blow in enumerate(blows(random.Random(seed)), 1):
        if toll.kills >= kills:
            break
        struck = strike(service, blow)
        toll += struck
        _print({"round": round_, "kind": blow.kind, "step": blow.step, **asdict(struck)}, as_json)
        if expire and round_ % _ROUNDS_PER_EXPIRY == 0:
            service.expire_everything().require("expiring all snapshots", 120)
    report = service.finish()
    audit = service.audit()
    truth = service.truth()
    _print(
        {
            "commits": report["sequence"],
            **asdict(toll),
            **asdict(truth),
            "audit_ok": audit["ok"],
            "seed": seed,
            "wall_s": round(time.monotonic() - start_s, 1),
        },
        as_json,
    )
    return truth.is_clean and bool(audit["ok"]) and toll.crashed == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description="Exactly once, under fire.")
    parser.add_argument("--kills", type=int, default=200, help="processes to kill")
    parser.add_argument("--seed", type=int, default=1, help="decides instants, steps and their order")
    parser.add_argument("--pool", choices=("inline", "ray"), default="inline", help="where the stages run")
    parser.add_argument("--expire", action="store_true", help="now and then expire all snapshots while it is down")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        parser.error("--kills must be at least 1")
    root = Path(tempfile.mkdtemp(prefix="sluice-chaos-"))
    warehouse, media = root / "warehouse", root / "media"
    for folder in (warehouse, media):
        folder.mkdir()
    service = ServiceUnderTest(root, Store(str(warehouse), str(media)), options.pool)
    if run(service, options.kills, options.seed, expire=options.expire, as_json=options.json):
        shutil.rmtree(root)
        return 0
    sys.stderr.write(f"not exactly once, or not as expected; tables and logs are kept in {root}\n")
    return 1


def _print(line: dict[str, object], as_json: bool) -> None:
    print(json.dumps(line) if as_json else "  ".join(f"{key} {value}" for key, value in line.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
