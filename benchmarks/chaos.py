"""Exactly once, under fire: real `sluice run` processes that are killed, stopped, doubled and cut off from their store.

Usage: ``python -m benchmarks.chaos [--kills N] [--seed S] [--store s3] [--keyed] [--outages] [--events KINDS]
[--rescale] [--expire] [--maintain] [--pool ray] [--json]``.
Each round lands videos while a consumer runs, and strikes it: SIGKILL at a random instant or at a named step of the
commit protocol, two copies at once, a copy that sleeps in mid-commit until another has taken over; with ``--rescale`` a
new number of shards under load, with ``--expire`` the loss of all markers while it is down, with ``--store s3`` a store
that refuses, delays and cuts off requests all the while, with ``--pool ray`` the death of a worker. With ``--keyed``
the raw table has a primary key, and videos are replaced and deleted, too. With ``--outages`` answers to commits are
lost, the store is away when they are to be read back, and publishers sleep until others have committed and expired.
All the while the raw table is rolled back, made anew, overwritten, compacted, and rows of it are deleted, as far as its
kind knows such things; ``--events`` says which of them, or none. An operator follows what a refusal says.

In the end an undisturbed run finishes the table, and the tables are compared with what landed, by an auditor that
shares no code with the service. Prints a line per round and the totals last, as JSON objects with ``--json``.

Exit code 1 if anything is missing or there twice, if the audit disagrees, or if a process ended by itself in another
way than fenced (or, on the stormy store, with a sentence that says that it was away).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks import upkeep
from benchmarks.chaos_rounds import Pace, Toll, blows, blows_to_workers, strike
from benchmarks.forked import ChildFailedError
from benchmarks.raw_tables import EVENTS_OF_KEYED, EVENTS_OF_TRACKED
from benchmarks.service_under_test import ServiceUnderTest
from benchmarks.stores import Store

_ROUNDS_PER_EXPIRY = 5


def run(service: ServiceUnderTest, options: argparse.Namespace, pace: Pace) -> tuple[Toll, float]:
    """Strike until enough processes are dead, then let it finish; return what it took, and the seconds."""
    start_s = time.monotonic()
    chance = random.Random(options.seed)
    toll = Toll()
    if options.rescale:
        # A consumer that has never run has no work to divide.
        service.finish()
    if options.pool == "ray":
        plan = blows_to_workers(chance)
    else:
        plan = blows(chance, rescale=options.rescale, outages=options.outages, events=options.events)
    for round_, blow in enumerate(plan, 1):
        if toll.kills >= options.kills:
            break
        maintenance = service.fork(partial(upkeep.go_on, service.store)) if options.maintain else None
        struck = strike(service, blow, chance, pace)
        toll += struck
        if maintenance is not None:
            maintenance.kill()
            service.fork(partial(upkeep.compare, service.store)).require("maintenance that changes no row", 300)
        line = {"round": round_, "kind": blow.kind, "step": blow.step or None, "shards": service.num_shards}
        _print({**line, **asdict(struck)}, options.json)
        if options.expire and round_ % _ROUNDS_PER_EXPIRY == 0:
            service.expire_everything().require("expiring all snapshots", 120)
    service.finish()
    return toll, time.monotonic() - start_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description="Exactly once, under fire.")
    parser.add_argument("--kills", type=int, default=200, help="processes to kill")
    parser.add_argument("--seed", type=int, default=1, help="decides instants, steps and their order")
    parser.add_argument("--store", choices=("disk", "s3"), default="disk", help="where the tables and videos are")
    parser.add_argument("--pool", choices=("inline", "ray"), default="inline", help="where the stages run")
    parser.add_argument("--keyed", action="store_true", help="a raw table with a primary key: updates and deletes, too")
    parser.add_argument("--outages", action="store_true", help="lost answers, a store that is away, sleepers")
    parser.add_argument("--events", default="all", help="of the raw table, with commas between them; all, or none")
    parser.add_argument("--rescale", action="store_true", help="1 -> 3 -> 2 shards and so on, under load")
    parser.add_argument("--expire", action="store_true", help="now and then expire all snapshots while it is down")
    parser.add_argument("--maintain", action="store_true", help="maintain the tables all the while, killed each round")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        parser.error("--kills must be at least 1")
    if options.pool == "ray" and options.rescale:
        parser.error("--rescale goes with the inline pool")
    if options.keyed and options.rescale:
        parser.error("--rescale: a table that is read change by change has one shard")
    known = EVENTS_OF_KEYED if options.keyed else EVENTS_OF_TRACKED
    options.events = {"all": known, "none": ()}.get(options.events, tuple(options.events.split(",")))
    if unknown := set(options.events) - set(known):
        parser.error(f"--events: {', '.join(unknown)}: no such event; there are {', '.join(known)}")
    root = Path(tempfile.mkdtemp(prefix="sluice-chaos-"))
    try:
        is_as_promised = _chaos(root, options)
    except ChildFailedError as error:
        sys.stderr.write(f"{error}\n")
        is_as_promised = False
    if is_as_promised:
        shutil.rmtree(root)
        return 0
    sys.stderr.write(f"not exactly once, or not as expected; logs and what is on disk are kept in {root}\n")
    return 1


def _chaos(root: Path, options: argparse.Namespace) -> bool:
    """Print the totals and return whether all is as promised."""
    with _store(root, options) as (store, faults):
        service = ServiceUnderTest(
            root,
            store,
            options.pool,
            keyed=options.keyed,
            # On S3 the proxy makes them.
            outages_seed=options.seed if options.outages and options.store == "disk" else None,
            seed=options.seed,
        )
        toll, wall_s = run(service, options, _pace(options))
        audit = service.audit()
        truth = service.truth()
    totals = {
        **asdict(toll),
        **faults,
        **truth.as_dict(),
        "audit_ok": audit["ok"],
        "seed": options.seed,
        "store": options.store,
        "keyed": options.keyed,
        "outages": options.outages,
        "events": options.events,
        "wall_s": round(wall_s, 1),
    }
    _print(totals, options.json)
    if not audit["ok"]:
        sys.stderr.write(f"the audit: {json.dumps(audit)}\n")
    may_give_up = options.store == "s3" or options.outages or bool(options.events)
    return truth.is_clean and bool(audit["ok"]) and not toll.crashed and (may_give_up or not toll.gave_up)


@contextmanager
def _store(root: Path, options: argparse.Namespace) -> Iterator[tuple[Store, dict[str, object]]]:
    """Make the store; the dictionary holds, once the context is closed, what the weather was like."""
    if options.store == "disk":
        for folder in ("warehouse", "media"):
            (root / folder).mkdir()
        yield Store(str(root / "warehouse"), str(root / "media")), {}
        return
    # Needs moto and boto3, of the development dependencies.
    from benchmarks.object_store import stormy_s3  # noqa: PLC0415

    faults: dict[str, object] = {}
    with stormy_s3(root, options.seed) as (store, weather):
        yield store, faults
        faults["faults"] = weather.end()


def _pace(options: argparse.Namespace) -> Pace:
    if options.pool == "ray":
        # Ray alone takes 10 s to start.
        return Pace(stretch=12, patience_s=90)
    return Pace(stretch=2, patience_s=30) if options.store == "s3" else Pace(stretch=1, patience_s=8)


def _print(line: dict[str, object], as_json: bool) -> None:
    print(json.dumps(line) if as_json else "  ".join(f"{key} {value}" for key, value in line.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
