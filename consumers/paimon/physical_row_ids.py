"""Row ids that stand in a file's own column: what pypaimon 2.1.0 does not read of the files that Java writes.

An engine that rewrites rows of a row-tracked table without data evolution (``UPDATE``, ``DELETE``, ``compact``) keeps
their ids in a physical column ``_ROW_ID`` and gives the file no first row id. pypaimon 2.1.0 cannot read such a table:

- ``manifest/manifest_file_manager.py``, ``_get_value_stats_fields``, last ``else``: looks the columns that have
  statistics up among the table's own columns, so that ``_ROW_ID`` is a ``KeyError`` for whoever reads the manifest.
- ``read/reader/data_file_batch_reader.py``, ``_assign_row_tracking``, ``if self.first_row_id is None``: puts NULL in
  the place of the ids that it has just read from the file.

:func:`install` replaces these two methods by ones that do both, and refuses any other version of pypaimon, in which
they may be others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from importlib.metadata import version
from typing import Any

from pypaimon.manifest.manifest_file_manager import ManifestFileManager
from pypaimon.read.reader.data_file_batch_reader import DataFileBatchReader
from pypaimon.table.special_fields import SpecialFields

from consumers.errors import ConfigurationError

_VERSION = "2.1.0"
_SYSTEM_FIELDS = {field.name: field for field in (SpecialFields.ROW_ID, SpecialFields.SEQUENCE_NUMBER)}
_Method = Callable[..., Any]


def install(found: str | None = None) -> None:
    """Make pypaimon read physical row ids, in this process, from now on; again changes nothing.

    Args:
        found: the version of pypaimon; that of the package that is installed if None.

    Raises:
        ConfigurationError: it is not the version that this was written for.
    """
    found = found or _installed_version()
    if found != _VERSION:
        raise ConfigurationError(
            f"pypaimon {found} is installed, and the reading of row ids was written for {_VERSION}: install "
            f"pypaimon=={_VERSION}"
        )
    if not hasattr(ManifestFileManager._get_value_stats_fields, "__wrapped__"):
        ManifestFileManager._get_value_stats_fields = _with_system_fields(ManifestFileManager._get_value_stats_fields)
        DataFileBatchReader._assign_row_tracking = _with_physical_ids(DataFileBatchReader._assign_row_tracking)


@cache
def _installed_version() -> str:
    # A millisecond each time.
    return version("pypaimon")


def _with_system_fields(original: _Method) -> _Method:
    @wraps(original)
    def value_stats_fields(self: Any, file_dict: Any, file_schema: Any) -> Any:
        named = file_dict["_VALUE_STATS_COLS"]
        if not named or not any(name in _SYSTEM_FIELDS for name in named):
            return original(self, file_dict, file_schema)
        fields = {field.name: field for field in getattr(file_schema, "fields", file_schema)}
        return [fields[name] if name in fields else _SYSTEM_FIELDS[name] for name in named]

    return value_stats_fields


def _with_physical_ids(original: _Method) -> _Method:
    @wraps(original)
    def assign_row_tracking(self: Any, record_batch: Any) -> Any:
        name = SpecialFields.ROW_ID.name
        if self.first_row_id is not None or name not in self.system_fields:
            return original(self, record_batch)
        index = self.system_fields[name]
        physical, field = record_batch.column(index), record_batch.schema.field(index)
        return original(self, record_batch).set_column(index, field, physical)

    return assign_row_tracking
