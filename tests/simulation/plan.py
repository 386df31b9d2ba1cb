"""What one schedule has in it: how much work, which actors, and what goes wrong. Drawn from the seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields, replace

from tests.simulation.scheduler import Fault, Rule

_PUBLISHES = ("ledger.publish", "curated.publish")
_OPERATIONS = (
    *_PUBLISHES,
    ".publish",
    "ledger.latest",
    "curated.latest",
    "ledger.snapshot",
    "curated.snapshot",
    "ledger.write",
    "curated.write",
    "ledger.write_manifests",
    "curated.write_manifests",
    "ledger.plan",
    "ledger.read",
    "curated.plan",
    "curated.delete",
    "control.plan",
    "control.publish",
    ".read_back",
    ".exists",
    ".hint",
    ".take_back",
)
_FILE_OPERATIONS = (
    ".file_new_input_stream",
    ".file_new_output_stream",
    ".file_delete",
    ".file_list_status",
    ".file_exists",
)
_FAULTS_OF_PUBLISH = tuple(Fault)
_FAULTS_OF_OTHERS = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.REFUSED, Fault.PAUSE_BEFORE, Fault.PAUSE_AFTER)


@dataclass(frozen=True, slots=True)
class Plan:
    """One schedule.

    Attributes:
        num_rows: raw rows to begin with; some more land on the way.
        num_landings: how often rows land on the way.
        is_keyed: the raw table has a primary key: rows replace and delete.
        is_catalog: tables are published by a catalog's server.
        is_unstable: a video that is processed again may come out otherwise.
        num_copies: second copies of a service.
        rescales: numbers of shards, one after the other.
        num_takedowns: by a person.
        num_replays: of dead letters and rejected videos, by a person.
        num_skips: of rows, by a person.
        num_removals: of rows from the raw table.
        num_expiries: of all snapshots but the newest few, the markers' too.
        num_kept_expiries: of snapshots, but for the newest markers.
        num_copied_markers: Java compacts manifests.
        num_compactions: of the ledger.
        set_backs: of which tables, one after the other.
        num_maintenances: rounds of ours; only where the tables are on disk.
        has_other: another consumer works on the same tables.
        switching: how likely another actor is let go first, at each operation.
        rules: what goes wrong.
    """

    num_rows: int = 6
    num_landings: int = 0
    is_keyed: bool = False
    is_catalog: bool = False
    is_unstable: bool = False
    num_copies: int = 0
    rescales: tuple[int, ...] = ()
    num_takedowns: int = 0
    num_replays: int = 0
    num_skips: int = 0
    num_removals: int = 0
    num_expiries: int = 0
    num_kept_expiries: int = 0
    num_copied_markers: int = 0
    num_compactions: int = 0
    set_backs: tuple[str, ...] = ()
    num_maintenances: int = 0
    has_other: bool = False
    switching: float = 0.3
    rules: tuple[Rule, ...] = ()

    def __str__(self) -> str:
        default = Plan()
        shown = [
            f"{each.name}={getattr(self, each.name)}"
            for each in fields(self)
            if each.name != "rules" and getattr(self, each.name) != getattr(default, each.name)
        ]
        rules = [f"  {rule}" for rule in self.rules]
        return "\n".join([", ".join(shown), *rules])


@dataclass(slots=True)
class _Draw:
    """Draws the parts of a plan."""

    chance: random.Random
    parts: dict[str, object] = field(default_factory=dict)

    def some(self, name: str, probability: float, most: int = 2) -> None:
        """Draw how often something happens: not at all, or up to ``most`` times."""
        if self.chance.random() < probability:
            self.parts[name] = self.chance.randint(1, most)

    def maybe(self, name: str, probability: float) -> None:
        """Draw whether something is so."""
        self.parts[name] = self.chance.random() < probability


def drawn_plan(seed: int) -> Plan:
    """Return the plan of ``seed``."""
    chance = random.Random(seed * 2 + 1)
    draw = _Draw(chance)
    draw.parts["num_rows"] = chance.randint(3, 8)
    draw.some("num_landings", 0.4)
    draw.maybe("is_keyed", 0.25)
    draw.maybe("is_catalog", 0.15)
    draw.maybe("is_unstable", 0.3)
    draw.some("num_copies", 0.5)
    draw.some("num_copied_markers", 0.25)
    draw.some("num_compactions", 0.25)
    draw.maybe("has_other", 0.15)
    draw.parts["switching"] = chance.choice((0.02, 0.1, 0.3, 0.6))
    is_set_back = chance.random() < 0.12
    if is_set_back:
        draw.parts["num_copies"] = 0
        # What a person did is set back with the tables: a matter of its own.
        draw.parts["set_backs"] = tuple(
            chance.choice(("curated", "both", "ledger")) for _ in range(chance.randint(1, 2))
        )
    else:
        draw.some("num_takedowns", 0.25)
        if not draw.parts["is_keyed"]:
            draw.some("num_removals", 0.25)
            if chance.random() < 0.3:
                draw.parts["rescales"] = tuple(chance.randint(1, 3) for _ in range(chance.randint(1, 2)))
        if chance.random() < 0.3:
            draw.some("num_expiries", 1.0, 3)
        else:
            # What a person wants processed again is known by the markers alone.
            draw.some("num_kept_expiries", 0.3, 3)
            draw.some("num_replays", 0.3)
        draw.some("num_skips", 0.15, 1)
    rules = [_rule(chance) for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4, 6)))]
    if is_set_back or "num_expiries" in draw.parts or "num_kept_expiries" in draw.parts:
        # No request is so late that its snapshot's number was free again meanwhile: names are not unique in time.
        rules = [replace(rule, fault=Fault.ANSWER_LOST) if rule.fault is Fault.LATE else rule for rule in rules]
    draw.parts["rules"] = tuple(rules)
    return Plan(**draw.parts)  # type: ignore[arg-type]


def drawn_disk_plan(seed: int) -> Plan:
    """Return the plan of ``seed`` where the tables are on disk and maintained."""
    chance = random.Random(seed * 2 + 1)
    draw = _Draw(chance)
    draw.parts["num_rows"] = chance.randint(6, 14)
    draw.maybe("is_keyed", 0.3)
    draw.some("num_takedowns", 0.6)
    draw.some("num_copies", 0.3, 1)
    draw.some("num_landings", 0.4)
    draw.some("num_replays", 0.3)
    draw.some("num_maintenances", 1.0, 4)
    if not draw.parts["is_keyed"]:
        draw.some("num_removals", 0.5)
        draw.parts["rescales"] = (2,) if chance.random() < 0.2 else ()
    draw.parts["switching"] = chance.choice((0.02, 0.1, 0.3))
    draw.parts["rules"] = tuple(_disk_rule(chance) for _ in range(chance.randint(0, 5)))
    return Plan(**draw.parts)  # type: ignore[arg-type]


def _disk_rule(chance: random.Random) -> Rule:
    if chance.random() < 0.4:
        what, number = chance.choice(_PUBLISHES), chance.randint(1, 12)
        faults = [fault for fault in _FAULTS_OF_PUBLISH if fault not in (Fault.LATE, Fault.ANSWERED_NO)]
    else:
        what, number = chance.choice(_FILE_OPERATIONS), chance.randint(1, 150)
        faults = list(_FAULTS_OF_OTHERS)
    actor = chance.choice(("", "", "maintenance", "maintenance", "service"))
    return Rule(what, number, chance.choice(faults), chance.choice((0, 1, 5, 20, 100)), actor)


def _rule(chance: random.Random) -> Rule:
    what = chance.choice(_PUBLISHES if chance.random() < 0.5 else _OPERATIONS)
    fault = chance.choice(_FAULTS_OF_PUBLISH if what.endswith("publish") else _FAULTS_OF_OTHERS)
    number = chance.randint(1, 12) if what.endswith("publish") else chance.randint(1, 40)
    if fault in (Fault.REFUSED, Fault.ANSWER_LOST):
        length = chance.choice((0, 0, 1, 3, 8, 20, 60))
    else:
        length = chance.choice((5, 20, 60, 200, 600))
    return Rule(what, number, fault, length)
