"""Maintenance beside a consumer under fire: with hardly any retention, killed wherever it is, and held to the rows."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

from benchmarks.stores import DATABASE, Store
from consumers.clock import SystemClock
from consumers.errors import SluiceError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog
from consumers.paimon.maintain.expiry import Retention
from consumers.paimon.maintain.maintainer import Maintainer
from consumers.paimon.scan import ROW_ID, stream
from consumers.paimon.tables import TableNames

_NAMES = TableNames()
# Fewer snapshots than a round of blows makes.
_RETENTION = Retention(timedelta(0), least=12, most=1000)


def go_on(store: Store) -> None:
    """Maintain the tables again and again, until killed."""
    while True:
        try:
            _maintainer(store).run()
        except SluiceError:
            # Overtaken by a commit, or the store is away: the next round tries again.
            continue


def compare(store: Store) -> int:
    """Maintain the tables once and return 1 if they read differently after it, with nobody else at work; else 0."""
    before = _contents(store)
    reports = _maintainer(store).run()
    after = _contents(store)
    for report in reports:
        print(report)
    return int(before != after)


def _maintainer(store: Store) -> Maintainer:
    return Maintainer(_config(store), _NAMES, _RETENTION, SystemClock())


def _config(store: Store) -> CatalogConfig:
    return CatalogConfig(store.catalog_options, DATABASE)


def _contents(store: Store) -> list[str]:
    catalog, config = open_catalog(_config(store)), _config(store)
    return [_content(load_table(catalog, config, name)) for name in (_NAMES.ledger, _NAMES.curated, _NAMES.control)]


def _content(table: Any) -> str:
    """Return a hash of all rows, row ids included, in an order of their own."""
    columns = [field.name for field in table.fields]
    if table.options.row_tracking_enabled():
        columns.append(ROW_ID)
    head = table.snapshot_manager().get_latest_snapshot()
    rows = sorted(repr(row) for batch in stream(table, columns, head) for row in batch.to_pylist())
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
