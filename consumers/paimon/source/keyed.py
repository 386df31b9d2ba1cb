"""Tables with a primary key: which of them tell their changes truly.

Source: Paimon's documentation of changelog producers and merge engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consumers.errors import ConfigurationError
from consumers.paimon.source.told import BY_COMPACTION, INPUT, NONE, told_by

_ENGINES = {
    "partial-update": "its rows are written in parts, and a part without the video would pass for a removal",
    "aggregation": "its rows are written as parts of sums",
    "first-row": "its later rows of a key do not count, and are written all the same",
}
_IGNORE_DELETE = ("ignore-delete", "deduplicate.ignore-delete")


_EXPIRE = "record-level.expire-time"
_DEDUPLICATE = "changelog-producer.row-deduplicate"
_NOT_COMPARED = "changelog-producer.row-deduplicate-ignore-fields"


def check_keyed_table(table: Any, columns: Sequence[str]) -> None:
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
    if lifetime := _option(table, _EXPIRE, ""):
        raise ConfigurationError(
            f"table {name}: {_EXPIRE} {lifetime}: rows are dropped when files are merged or read, and no change tells "
            "so, which would leave their clips; unset it, and delete rows instead"
        )
    if producer in BY_COMPACTION:
        _check_by_compaction(table, name, producer, columns)
    elif misleading := what_misleads(table):
        raise ConfigurationError(f"table {name}: {misleading}; {_set_producer()}")


def _check_by_compaction(table: Any, name: str, producer: str, columns: Sequence[str]) -> None:
    if table.cross_partition_update:
        raise ConfigurationError(
            f"table {name}: its primary key lacks a partition column, and changelog-producer {producer} may tell "
            "that a key left a partition after it has told that it stands in another; make the partition columns "
            "part of the primary key, or set changelog-producer = none or input on it"
        )
    if _option(table, _DEDUPLICATE, "false").lower() == "true":
        ignored = {field.strip() for field in _option(table, _NOT_COMPARED, "").split(",")}
        if unseen := [column for column in columns if column in ignored]:
            raise ConfigurationError(
                f"table {name}: {_NOT_COMPARED} names {', '.join(unseen)}: a row of which nothing else changes is "
                "not told; take out what is mapped in the settings"
            )


def what_misleads(table: Any) -> str | None:
    """Return what of ``table`` makes its changes, read as they were written, differ from what it then holds, and why.

    None where they are the same. Each is what the table's options say now; Paimon lets most of them not be altered.
    """
    engine = _option(table, "merge-engine", "deduplicate").lower()
    if engine != "deduplicate":
        return f"merge-engine {engine}: {_ENGINES.get(engine, 'what its rows mean together is not known')}"
    if fields := _option(table, "sequence.field", ""):
        return (
            f"sequence.field {fields}: a row that is written late may count less than an earlier one, and only a merge "
            "tells"
        )
    for option in _IGNORE_DELETE:
        if _option(table, option, "false").lower() == "true":
            return f"{option}: a row that is deleted stands all the same"
    if _option(table, "deletion-vectors.enabled", "false").lower() == "true":
        return "deletion-vectors.enabled: rows are read after a compaction only"
    if _option(table, "bucket", "-1") == "-2":
        return "bucket -2: rows wait for a compaction that gives them a bucket"
    return None


def _option(table: Any, name: str, default: str) -> str:
    value = table.options.options.to_map().get(name)
    return default if value is None else str(value).strip()


def _set_producer() -> str:
    return "set changelog-producer = lookup (or full-compaction) on it, and let an engine compact it"
