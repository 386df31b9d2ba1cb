"""What a table's own rules say about a snapshot that is still needed: may it expire, and when."""

from __future__ import annotations

from typing import Any

from pypaimon.common.time_utils import parse_duration

from consumers.errors import ConfigurationError
from consumers.paimon.catalog import store_errors
from consumers.paimon.snapshots import read_snapshot, snapshot_time
from consumers.ports import Retention

_TIME, _MIN, _MAX = "snapshot.time-retained", "snapshot.num-retained.min", "snapshot.num-retained.max"
# Paimon's own defaults.
_DEFAULTS = {_TIME: "1 h", _MIN: "10", _MAX: str(2**31 - 1)}


class RetentionRules:
    """The rules by which a table's snapshots expire, as its options were when it was loaded.

    Args:
        table: the pypaimon table.

    Raises:
        ConfigurationError: an option is no duration, or no number.
    """

    def __init__(self, table: Any) -> None:
        self._manager = table.snapshot_manager()
        self._name = str(table.identifier.get_full_name())
        given = {**_DEFAULTS, **{key: str(value) for key, value in table.table_schema.options.items()}}
        try:
            self._time_retained_s = parse_duration(given[_TIME]) / 1000
            self._num_min, self._num_max = int(given[_MIN]), int(given[_MAX])
        except ValueError as error:
            raise ConfigurationError(
                f"table {self._name}: {_TIME} = {given[_TIME]!r}, {_MIN} = {given[_MIN]!r}, {_MAX} = {given[_MAX]!r}: "
                f"{error}; correct the table's options"
            ) from error

    def of(self, snapshot_id: int) -> Retention | None:
        """Return what the rules say about a snapshot; None where it is none of the table's, or none yet.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"table {self._name}"):
            newest = self._manager.get_latest_snapshot()
            if newest is None or snapshot_id > newest.id:
                return None
            needed = read_snapshot(self._manager, snapshot_id)
        return Retention(
            needed_id=snapshot_id,
            needed_at=None if needed is None else snapshot_time(needed),
            newest_id=int(newest.id),
            newest_at=snapshot_time(newest),
            time_retained_s=self._time_retained_s,
            num_retained_min=self._num_min,
            num_retained_max=self._num_max,
        )
