"""Where watches keep how far they have come: rows of the control table."""

from __future__ import annotations

import uuid
from datetime import datetime

import pyarrow as pa

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.landing.plan import WatchState
from consumers.paimon.scan import stream
from consumers.paimon.tables import check_table
from schemas.tables import CONTROL

_KIND = "watch"
_ACTOR = "sluice ingest --watch"


class WatchStates:
    """The states of all watches, by location. Losing one costs a listing from the beginning, and no row.

    Args:
        config: the catalog.
        table: name of the control table.

    Raises:
        ConfigurationError: the table is missing or does not fit, or its storage has no safe way to publish.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, table: str) -> None:
        self._name = f"table {config.database}.{table}"
        self._table = load_table(open_catalog(config), config, table)
        check_table(self._table, CONTROL)
        self._committer = TableCommitter(self._table, f"sluice-watch-{uuid.uuid4()}", lambda manager, latest: None)
        self._sequence = 0

    def load(self, location: str) -> WatchState:
        """Return the state of the watch of ``location``; the beginning where there is none that can be read.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(self._name):
            latest = self._table.snapshot_manager().get_latest_snapshot()
            batches = stream(
                self._table, ("kind", "key", "value"), latest, lambda builder: builder.equal("kind", _KIND)
            )
            found = [row["value"] for batch in batches for row in batch.to_pylist() if row["key"] == location]
        try:
            return WatchState.from_json(found[0]) if found else WatchState()
        except ValueError:
            return WatchState()

    def save(self, location: str, state: WatchState, at: datetime) -> None:
        """Keep ``state``; of several watches of one location the last to save counts, and any of theirs is right.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        row = {"kind": _KIND, "key": location, "value": state.to_json(), "actor": _ACTOR, "reason": None, "at": at}
        with store_errors(self._name):
            self._sequence += 1
            messages = self._committer.write(pa.Table.from_pylist([row], schema=CONTROL.schema), self._sequence)
            self._committer.publish(messages, self._sequence, {"sluice.watch": location})

    def close(self) -> None:
        """Release resources."""
        self._committer.close()
