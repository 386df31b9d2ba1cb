"""A REST catalog: opened with a patience of seconds, its faults told as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pypaimon.api.client import HttpClient
from pypaimon.api.rest_exception import (
    BadRequestException,
    ForbiddenException,
    NoSuchResourceException,
    NotAuthorizedException,
    RESTException,
)
from pypaimon.catalog.catalog_context import CatalogContext
from pypaimon.catalog.rest.rest_catalog import RESTCatalog
from pypaimon.catalog.rest.rest_catalog_loader import RESTCatalogLoader
from pypaimon.common.options import Options

from consumers.errors import ConfigurationError, StoreUnavailableError
from consumers.paimon.stores.s3_file_io import lean

# By itself pypaimon's client waits 3 minutes for an answer, deaf to a stop; these constants are how it is told.
HttpClient._CONNECT_TIMEOUT_SECONDS = 5
HttpClient._READ_TIMEOUT_SECONDS = 20
HttpClient._MAX_RETRIES = 2


def is_rest(options: Mapping[str, str]) -> bool:
    """Return whether the options name a REST catalog, whose ``warehouse`` is a name and no place."""
    return options.get("metastore") == "rest"


def open_rest(options: Mapping[str, str]) -> Any:
    """Return the REST catalog that ``options`` name, once it has told its configuration.

    Raises:
        ConfigurationError: options are missing, the token is refused, or there is no such warehouse.
        StoreUnavailableError: it did not answer.
    """
    uri, name = options.get("uri", ""), options["warehouse"]
    where = f"REST catalog {uri}"
    if not uri:
        raise ConfigurationError("metastore = rest needs the catalog's address: set the catalog option 'uri'")
    try:
        return _Catalog(CatalogContext.create_from_options(Options(dict(options))))
    except (NotAuthorizedException, ForbiddenException) as error:
        raise ConfigurationError(
            f"{where}: refuses the token: {error}; set 'token.provider' and 'token' in the catalog options"
        ) from error
    except (NoSuchResourceException, BadRequestException) as error:
        raise ConfigurationError(
            f"{where}: has no warehouse {name!r}: {error}; set 'warehouse' to the name that the catalog gives it"
        ) from error
    except RESTException as error:
        cause = error.__cause__ or error
        raise StoreUnavailableError(f"{where} did not answer: {type(cause).__name__}: {cause}") from error
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}; see 'uri', 'token.provider' and 'token'") from error


class _Catalog(RESTCatalog):  # type: ignore[misc]
    """Its tables go on with its own connections; pypaimon's would open a new one for each look at a snapshot."""

    def catalog_loader(self) -> Any:
        """Return a loader of this very catalog."""
        return _Loader(self)

    def file_io_from_options(self, table_path: str) -> Any:
        """Return the file system of a table's files."""
        return lean(super().file_io_from_options(table_path))


class _Loader(RESTCatalogLoader):  # type: ignore[misc]
    def __init__(self, catalog: _Catalog) -> None:
        super().__init__(catalog.context)
        self._catalog = catalog

    def load(self) -> Any:
        return self._catalog
