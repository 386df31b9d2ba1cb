"""Options that are stored in a table: what this program makes of them, and what it must not obey.

A table may say where its readers begin, or which state they see. That is for readers who do not say so themselves; this
one reads each snapshot by its id, and pypaimon would refuse that, or read another state than the one asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any

from pypaimon.common.memory_size import MemorySize
from pypaimon.common.options.config_option import ConfigOption
from pypaimon.common.options.core_options import CoreOptions
from pypaimon.common.options.options_utils import OptionsUtils
from pypaimon.snapshot.time_travel_util import SCAN_KEYS

from consumers.errors import ConfigurationError

_WHERE_READERS_BEGIN = (
    *SCAN_KEYS,
    "scan.mode",
    "scan.file-creation-time-millis",
    "scan.creation-time-millis",
    "scan.bounded.watermark",
    "incremental-between",
    "incremental-between-timestamp",
    "incremental-between-scan-mode",
    "incremental-to-auto-tag",
)
_OTHER_BRANCHES = (
    "scan.fallback-branch",
    "scan.fallback-snapshot-branch",
    "scan.fallback-delta-branch",
    "scan.primary-branch",
)
_PARSED = {int: "a whole number", float: "a number", bool: "true or false", MemorySize: "a size", timedelta: "a time"}


def as_stored(name: str, table: Any) -> Any:
    """Return ``table`` without options that would have its reader begin elsewhere than it says.

    Raises:
        ConfigurationError: an option cannot be parsed.
    """
    _check_parsed(name, table.table_schema.options)
    unwanted = [option for option in _WHERE_READERS_BEGIN if option in table.table_schema.options]
    return table.copy(dict.fromkeys(unwanted)) if unwanted else table


def check_branches(name: str, options: Mapping[str, str]) -> None:
    """Check that the rows of a raw table are all in the branch that is read.

    Raises:
        ConfigurationError: an option has readers look into another branch, too.
    """
    for option in _OTHER_BRANCHES:
        if option in options:
            raise ConfigurationError(
                f"table {name}: option {option} = {options[option]!r}: rows of another branch stand in it, and are not "
                "read; unset the option, or write these rows to the table itself"
            )


def _check_parsed(name: str, options: Mapping[str, Any]) -> None:
    for option in options.keys() & _parsed_options().keys():
        kind = _parsed_options()[option]
        try:
            OptionsUtils.convert_value(options[option], kind)
        except ValueError:
            raise ConfigurationError(
                f"table {name}: option {option} = {options[option]!r} is not {_PARSED[kind]}; correct it, or unset it"
            ) from None


@lru_cache(maxsize=1)
def _parsed_options() -> Mapping[str, Any]:
    known: Iterable[Any] = vars(CoreOptions).values()
    options = (option for option in known if isinstance(option, ConfigOption))
    return {option.key(): option.get_clazz() for option in options if option.get_clazz() in _PARSED}
