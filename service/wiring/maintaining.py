"""Maintenance of the tables that Sluice owns, by one process at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

from consumers.clock import SystemClock
from consumers.errors import AlreadyRunningError
from consumers.members.lease import LeaseKeeper
from consumers.paimon.commit.lease import PaimonLeases
from consumers.paimon.maintain.expiry import Retention
from consumers.paimon.maintain.maintainer import Maintainer
from service.settings import Settings
from service.wiring.named import catalog_config, table_names

_LEASE = "maintenance"


@contextmanager
def maintenance(settings: Settings, is_stopped: Callable[[], bool] = lambda: False) -> Iterator[Maintainer]:
    """Yield what maintains the tables, and hold the lease that keeps others from it inside the block.

    Raises:
        AlreadyRunningError: another process is at it.
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """
    config, clock = catalog_config(settings), SystemClock()
    own = settings.maintenance
    retention = Retention(
        timedelta(seconds=own.keep_snapshots_s),
        own.keep_snapshots_min,
        max(own.keep_snapshots_max, own.keep_snapshots_min),
    )
    maintainer = Maintainer(config, table_names(settings), retention, clock, is_stopped, timedelta(seconds=own.purge_s))
    keeper = LeaseKeeper(PaimonLeases(config, settings.tables.control).of(_LEASE), "maintenance of the tables", clock)
    try:
        keeper.acquire()
    except AlreadyRunningError as error:
        raise AlreadyRunningError("maintenance of the tables is under way in another process; wait for it") from error
    with closing(keeper):
        yield maintainer
