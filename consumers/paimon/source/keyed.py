"""Tables with a primary key: which of them tell their changes truly, and what a stream begins with.

Sources: Paimon's documentation of changelog producers and merge engines, and ``DataTableStreamScan.tryFirstPlan`` of
its Java implementation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pypaimon.read.merge_engine_support import check_supported

from consumers.errors import ConfigurationError

_BY_COMPACTION = ("lookup", "full-compaction")
"""Producers whose changelogs are made when files are merged: they tell what a reader of the table would see."""

_IGNORE_DELETE = ("ignore-delete", "deduplicate.ignore-delete")

_DEFAULT_TRIGGER = 5


def producer_of(table: Any) -> str:
    """Return the table's ``changelog-producer``."""
    return _option(table, "changelog-producer", "none").lower()


def is_told_by_compaction(table: Any) -> bool:
    """Return whether the changes of ``table`` are told when files are merged."""
    return bool(table.primary_keys) and producer_of(table) in _BY_COMPACTION


def check_keyed_table(table: Any) -> None:
    """Return if the changes of ``table`` can be followed; a table without a primary key can.

    Where changes are read as they were written (no producer, or ``input``) they say what was written and not what the
    table then holds, which is the same only where the newest whole row of a key counts.

    Raises:
        ConfigurationError: they cannot be; says which option to set.
    """
    if not table.primary_keys:
        return
    name, producer = str(table.identifier.get_full_name()), producer_of(table)
    try:
        check_supported(table)
    except (NotImplementedError, ValueError) as error:
        raise ConfigurationError(f"table {name}: pypaimon cannot read it: {error}") from error
    if producer not in ("none", "input", *_BY_COMPACTION):
        raise ConfigurationError(f"table {name}: changelog-producer {producer} is not known; {_set_producer()}")
    if producer in _BY_COMPACTION:
        if table.cross_partition_update:
            raise ConfigurationError(
                f"table {name}: its primary key lacks a partition column, and changelog-producer {producer} may tell "
                "that a key left a partition after it has told that it stands in another; make the partition columns "
                "part of the primary key, or set changelog-producer = none or input on it"
            )
        return
    engine = _option(table, "merge-engine", "deduplicate").lower()
    what = {
        "partial-update": "its rows are written in parts, and a part without the video would pass for a removal",
        "aggregation": "its rows are written as parts of sums",
        "first-row": "its later rows of a key do not count, and are written all the same",
    }.get(engine)
    if what is None and engine != "deduplicate":
        what = "what its rows mean together is not known"
    if what is not None:
        raise ConfigurationError(f"table {name}: merge-engine {engine}: {what}; {_set_producer()}")
    if fields := _option(table, "sequence.field", ""):
        raise ConfigurationError(
            f"table {name}: sequence.field {fields}: a row that is written late may count less than an earlier one, "
            f"and only a merge tells; {_set_producer()}"
        )
    for option in _IGNORE_DELETE:
        if _option(table, option, "false").lower() == "true":
            raise ConfigurationError(
                f"table {name}: {option}: a row that is deleted stands all the same; {_set_producer()}"
            )
    if _option(table, "deletion-vectors.enabled", "false").lower() == "true":
        raise ConfigurationError(
            f"table {name}: deletion-vectors.enabled: rows are read after a compaction only; {_set_producer()}"
        )
    if _option(table, "bucket", "-1") == "-2":
        raise ConfigurationError(
            f"table {name}: bucket -2: rows wait for a compaction that gives them a bucket; {_set_producer()}"
        )


def first_levels(table: Any) -> Callable[[int], bool]:
    """Return which levels of files a stream begins with: those whose rows its changelog does not tell again.

    A changelog by lookup comes when files leave level 0, one by full compaction when they reach the highest; what has
    not been merged so far is told later. Everything, where changes are read as they were written.
    """
    producer = producer_of(table) if table.primary_keys else "none"
    if producer == "lookup":
        return lambda level: level > 0
    if producer == "full-compaction":
        trigger = int(_option(table, "num-sorted-run.compaction-trigger", str(_DEFAULT_TRIGGER)))
        highest = int(_option(table, "num-levels", str(trigger + 1))) - 1
        return lambda level: level == highest
    return lambda level: True


def _option(table: Any, name: str, default: str) -> str:
    value = table.options.options.to_map().get(name)
    return default if value is None else str(value).strip()


def _set_producer() -> str:
    return "set changelog-producer = lookup (or full-compaction) on it, and let an engine compact it"
