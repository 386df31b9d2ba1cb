"""Tables with a primary key: which of them tell their changes truly.

Source: Paimon's documentation of changelog producers and merge engines.
"""

from __future__ import annotations

from typing import Any

from consumers.errors import ConfigurationError
from consumers.paimon.source.told import BY_COMPACTION, INPUT, NONE, told_by

_IGNORE_DELETE = ("ignore-delete", "deduplicate.ignore-delete")


def check_keyed_table(table: Any) -> None:
    """Return if the changes of ``table`` can be followed; a table without a primary key can.

    Where changes are read as they were written (no producer, or ``input``) they say what was written and not what the
    table then holds, which is the same only where the newest whole row of a key counts.

    Raises:
        ConfigurationError: they cannot be; says which option to set.
    """
    if not table.primary_keys:
        return
    name = str(table.identifier.get_full_name())
    producer = told_by(name, table.table_schema.options, is_keyed=True).producer
    if producer not in (NONE, INPUT, *BY_COMPACTION):
        raise ConfigurationError(f"table {name}: changelog-producer {producer} is not known; {_set_producer()}")
    if producer in BY_COMPACTION:
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


def _option(table: Any, name: str, default: str) -> str:
    value = table.options.options.to_map().get(name)
    return default if value is None else str(value).strip()


def _set_producer() -> str:
    return "set changelog-producer = lookup (or full-compaction) on it, and let an engine compact it"
