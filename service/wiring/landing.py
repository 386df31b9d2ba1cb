"""Tables made, and objects of a store registered in the raw one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError, UriNotAllowedError
from consumers.paimon.catalog import open_catalog
from consumers.paimon.landing.listing import open_listing
from consumers.paimon.landing.objects import ObjectInfo, expand, named
from consumers.paimon.landing.raw_writer import RegisterReport, Registrar
from consumers.paimon.landing.raw_writer import register as register_objects
from consumers.paimon.landing.state import WatchStates
from consumers.paimon.landing.watch import Watcher
from consumers.paimon.tables import CreatedTables
from consumers.paimon.tables import create_tables as create_paimon_tables
from service.settings import Settings
from service.wiring.named import allow_list, catalog_config, raw_columns, table_names


def create_tables(settings: Settings, *, create_warehouse: bool) -> CreatedTables:
    """Create the tables that are missing.

    Raises:
        ConfigurationError: the warehouse cannot be opened, or an existing table does not fit.
    """
    config = catalog_config(settings)
    catalog = open_catalog(config, create=create_warehouse)
    return create_paimon_tables(catalog, config, table_names(settings), raw_columns(settings))


def find_objects(settings: Settings, locations: Sequence[str], *, any_name: bool = False) -> list[ObjectInfo]:
    """Return the objects that ``locations`` name; with ``any_name`` also those that are no video by their name.

    Raises:
        ConfigurationError: a location does not exist, holds no video file, or may not be read by the workers.
    """
    return _held_to_allow_list(settings, list(expand(locations, catalog_config(settings).options, any_name=any_name)))


def name_objects(settings: Settings, uris: Sequence[str]) -> list[ObjectInfo]:
    """Return the objects of exactly these names: no folder is searched, no pattern filled in.

    Raises:
        ConfigurationError: one is no object, or may not be read by the workers.
    """
    return _held_to_allow_list(settings, list(named(uris, catalog_config(settings).options)))


def _held_to_allow_list(settings: Settings, objects: list[ObjectInfo]) -> list[ObjectInfo]:
    allowed = allow_list(settings)
    for item in objects:
        try:
            allowed.check(item.uri)
        except UriNotAllowedError as error:
            raise ConfigurationError(
                f"{error}\nnothing was registered: add its folder or prefix to allow in [input], then try again"
            ) from error
    return objects


def register(
    settings: Settings, objects: Iterable[ObjectInfo], on_progress: Callable[[int], None] | None = None
) -> RegisterReport:
    """Append a row to the raw table for each object that has none.

    Raises:
        ConfigurationError: the raw table is missing or was not made by ``sluice init``.
        StoreUnavailableError: the store did not answer.
    """
    return register_objects(catalog_config(settings), settings.tables.raw, objects, on_progress=on_progress)


def registrar(settings: Settings) -> Registrar:
    """Return what registers objects again and again, at the cost of the rows that are new.

    Raises:
        ConfigurationError: the raw table is missing or was not made by ``sluice init``.
        StoreUnavailableError: the store did not answer.
    """
    return Registrar(catalog_config(settings), settings.tables.raw)


@contextmanager
def watchers(settings: Settings, locations: Sequence[str]) -> Iterator[list[Watcher]]:
    """Yield what follows each of ``locations``, and keep how far they have come at the end.

    Raises:
        ConfigurationError: a location does not exist, or lies outside of what workers may read; or a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    config, clock, allowed = catalog_config(settings), SystemClock(), allow_list(settings)
    listings = [
        open_listing(
            location,
            config.options,
            clock,
            settle_s=settings.watch.settle_s,
            look_back=settings.watch.look_back_objects,
        )
        for location in locations
    ]
    for listing in listings:
        try:
            allowed.check(listing.location)
        except UriNotAllowedError as error:
            raise ConfigurationError(f"{error}\nadd it to allow in [input], then try again") from error
    with ExitStack() as stack:
        registrar = stack.enter_context(closing(Registrar(config, settings.tables.raw)))
        states = stack.enter_context(closing(WatchStates(config, settings.tables.control)))
        interval_s = settings.watch.relist_interval_s
        yield [
            stack.enter_context(
                closing(Watcher(listing, registrar, states, allowed, clock, relist_interval_s=interval_s))
            )
            for listing in listings
        ]
