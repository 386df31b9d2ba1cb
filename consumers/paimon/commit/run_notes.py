"""The notes that runs leave for the next, beside the control table."""

from __future__ import annotations

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog
from consumers.paimon.commit.small_object import SmallObject
from consumers.ports import RunNote

FOLDER = "_sluice_runs"
"""Inside the control table's folder; beside the tables it would be listed as one."""


class PaimonRunNotes:
    """Implements :class:`~consumers.ports.RunNotes`.

    Args:
        config: the catalog.
        control: name of the control table.
        name: of the consumer and its shard, of letters, digits and ``._-``.

    Raises:
        ConfigurationError: the table is missing.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, control: str, name: str) -> None:
        table = load_table(open_catalog(config), config, control)
        path = f"{table.table_path}/{FOLDER}/{name}.json"
        self._object = SmallObject(table.file_io, path, f"the note of the last run of {name}")

    def read(self) -> RunNote | None:
        """Return it; None where there is none."""
        return self._object.read(RunNote.from_json)

    def write(self, note: RunNote) -> None:
        """Put ``note`` in its place."""
        self._object.write(note.to_json())
