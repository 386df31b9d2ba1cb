"""Tags of the curated table: names for what it held at one moment, whose files no expiry takes away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.snapshots import snapshot_time

# Paimon takes a name of digits for a snapshot's number.
_NAME = re.compile(r"(?!\d+$)[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class TagInfo:
    """One tag.

    Attributes:
        name: unique in the table.
        snapshot_id: of the state that it names.
        committed_at: when that was committed.
    """

    name: str
    snapshot_id: int
    committed_at: datetime


class Tags:
    """Makes and lists the tags of one table.

    Args:
        config: the catalog.
        table: name of the table.

    Raises:
        ConfigurationError: there is no such table.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, table: str) -> None:
        self._name = f"{config.database}.{table}"
        self._table = load_table(open_catalog(config), config, table)

    def create(self, name: str) -> TagInfo:
        """Name what the table holds now.

        Raises:
            ConfigurationError: the name will not do or is taken, the table is empty, or its catalog keeps the tags.
            StoreUnavailableError: the store did not answer.
        """
        if _NAME.fullmatch(name) is None:
            raise ConfigurationError(
                f"tag {name!r}: a name has up to 64 letters, digits, dots, dashes and underscores, begins with a "
                "letter or a digit, and is no number"
            )
        if self._table.catalog_environment.supports_version_management:
            raise ConfigurationError(f"table {self._name}: its catalog keeps the tags; make them there")
        with store_errors(f"table {self._name}"):
            manager = self._table.tag_manager()
            known = manager.get(name)
            if known is not None:
                raise ConfigurationError(
                    f"tag {name}: table {self._name} has it already, on snapshot {known.id}; choose another name"
                )
            newest = self._table.snapshot_manager().get_latest_snapshot()
            if newest is None:
                raise ConfigurationError(f"table {self._name}: is empty; there is nothing to tag")
            manager.create_tag(newest, name)
        return _info(name, newest)

    def all(self) -> list[TagInfo]:
        """Return every tag, the oldest state first.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"table {self._name}"):
            manager = self._table.tag_manager()
            found = {name: manager.get(name) for name in manager.list_tags()}
        infos = [_info(name, tag) for name, tag in found.items() if tag is not None]
        return sorted(infos, key=lambda info: (info.snapshot_id, info.name))


def tagged(table: Any, name: str) -> Any:
    """Return the snapshot that a tag of ``table`` names.

    Raises:
        ConfigurationError: there is no such tag.
    """
    manager = table.tag_manager()
    found = manager.get(name)
    if found is None:
        known = ", ".join(sorted(manager.list_tags())) or "none"
        raise ConfigurationError(
            f"tag {name}: table {table.identifier.get_full_name()} has no such tag (it has {known}); make one with "
            "`sluice dataset tag`"
        )
    return found


def _info(name: str, snapshot: Any) -> TagInfo:
    return TagInfo(name, int(snapshot.id), snapshot_time(snapshot))
