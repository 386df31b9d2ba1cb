"""The catalog: where the tables are, and the translation of its faults into ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from pypaimon import CatalogFactory
from pypaimon.catalog.catalog_exception import DatabaseNotExistException, TableNotExistException

from consumers.errors import ConfigurationError, SluiceError, StoreUnavailableError
from consumers.paimon import physical_row_ids
from consumers.paimon.stores.rest import is_rest, open_rest
from consumers.paimon.stores.s3 import check_bucket, is_s3
from consumers.paimon.stores.s3_file_io import lean
from consumers.paimon.table_options import as_stored

WAREHOUSE = "warehouse"
# pypaimon keeps what it has opened of data files in memory, one cache for the process, and takes the length of a file's
# footer for what that costs. Measured on our tables it is ten times as much (13 kB of footer, 160 to 210 kB held), so
# that pypaimon's own bound of 50 MiB holds half a gigabyte; this one holds 50 MB.
METADATA_CACHE = "file-format.metadata-cache.max-size"
_OPTIONS = {METADATA_CACHE: "4 mb"}
_MOST_CATALOGS = 8
_SECRET_WORDS = ("secret", "key", "token", "password", "credential")


@dataclass(frozen=True)
class CatalogConfig:
    """How to reach the catalog. Picklable; never shows a secret when printed.

    Attributes:
        options: Paimon catalog options: ``warehouse`` (a path or URI, or a REST catalog's name for it), ``s3.*``,
            ``fs.oss.*``, ``metastore``, ``uri``.
        database: the database that holds all the tables.
    """

    options: Mapping[str, str] = field(repr=False)
    database: str = "sluice"

    def __repr__(self) -> str:
        shown = {
            name: "***" if any(word in name.lower() for word in _SECRET_WORDS) else value
            for name, value in self.options.items()
        }
        return f"CatalogConfig(options={shown}, database={self.database!r})"

    @property
    def warehouse(self) -> str:
        """The warehouse's path, URI or name, empty when none is set."""
        return self.options.get(WAREHOUSE, "")

    @property
    def is_name(self) -> bool:
        """Whether the warehouse is a name that a REST catalog knows, and no place."""
        return is_rest(self.options) and "/" not in self.warehouse

    @property
    def local_warehouse(self) -> Path | None:
        """The warehouse's folder, None where it is not on this machine's disk or only a catalog knows where it is."""
        return None if is_rest(self.options) else local_path(self.warehouse)


def local_path(location: str) -> Path | None:
    """Return ``location`` (a path or a ``file:`` URI) as a local path, or None when it is on another storage."""
    parsed = urlparse(location)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(location) if not parsed.scheme else None


def open_catalog(config: CatalogConfig, *, create: bool = False) -> Any:
    """Return the pypaimon catalog: one for the whole process, with its connections and what it has cached.

    Thread-safe, as the catalog is.

    Args:
        config: where it is.
        create: make a local warehouse folder that is missing, if the folder above it exists.

    Raises:
        ConfigurationError: no warehouse is set, or it is missing or unreadable.
        StoreUnavailableError: the object store or the REST catalog did not answer.
    """
    physical_row_ids.install()
    if not config.warehouse:
        raise ConfigurationError("no warehouse is set: give its path or URI as the catalog option 'warehouse'")
    path = config.local_warehouse
    if path is not None:
        _check_local(path, create)
    elif is_s3(config.warehouse) and not is_rest(config.options):
        check_bucket("warehouse", config.warehouse, config.options)
    # Connections do not survive a fork.
    return _opened(tuple(sorted({**_OPTIONS, **config.options}.items())), os.getpid())


@lru_cache(maxsize=_MOST_CATALOGS)
def _opened(options: tuple[tuple[str, str], ...], _process_id: int) -> Any:
    named = dict(options)
    if is_rest(named):
        return open_rest(named)
    try:
        catalog = CatalogFactory.create(named)
        catalog.file_io = lean(catalog.file_io)
    except Exception as error:
        raise ConfigurationError(f"warehouse {named[WAREHOUSE]}: cannot be opened: {_one_line(error)}") from error
    return catalog


def _check_local(path: Path, create: bool) -> None:
    try:
        if create and not path.exists() and path.parent.is_dir():
            path.mkdir(exist_ok=True)
        exists = path.is_dir()
    except OSError as error:
        raise ConfigurationError(f"warehouse {path}: cannot be read: {error.strerror}") from error
    if not exists:
        what = "is not a folder" if path.exists() else "does not exist"
        raise ConfigurationError(f"warehouse {path}: {what}; make the folder, or set another warehouse")
    if not os.access(path, os.R_OK | os.X_OK):
        raise ConfigurationError(f"warehouse {path}: cannot be read; give this user read access to it")


def load_table(catalog: Any, config: CatalogConfig, name: str) -> Any:
    """Return the pypaimon table ``name`` of the configured database.

    Raises:
        ConfigurationError: there is no such table.
        StoreUnavailableError: the store did not answer.
    """
    found = find_table(catalog, config, name)
    if found is None:
        raise ConfigurationError(
            f"table {config.database}.{name} does not exist in warehouse {config.warehouse}: create it with 'sluice "
            "init', or name another table in the settings"
        )
    return found


def find_table(catalog: Any, config: CatalogConfig, name: str) -> Any | None:
    """Return the pypaimon table ``name`` of the configured database, or None where there is none.

    Raises:
        ConfigurationError: an option that is stored in it cannot be parsed.
        StoreUnavailableError: the store did not answer.
    """
    full_name = f"{config.database}.{name}"
    with store_errors(f"table {full_name}"):
        try:
            return as_stored(full_name, catalog.get_table(full_name))
        except (TableNotExistException, DatabaseNotExistException):
            return None
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            raise ConfigurationError(f"table {full_name}: its options do not hold: {error}; correct them") from error


@contextmanager
def store_errors(what: str) -> Iterator[None]:
    """Turn whatever pypaimon and the store raise inside the block into :class:`StoreUnavailableError`.

    Our own errors pass through unchanged, and what pypaimon has not learnt is a :class:`ConfigurationError`: it does
    not pass.
    """
    try:
        yield
    except SluiceError:
        raise
    except NotImplementedError as error:
        raise ConfigurationError(f"{what}: pypaimon cannot do this: {_one_line(error)}") from error
    except Exception as error:
        raise StoreUnavailableError(f"{what}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
