"""Leases as small objects beside the control table: renewing one commits nothing."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow.fs as pafs

from consumers.members.lease import Lease
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.small_object import SmallObject

FOLDER = "_sluice_leases"
"""Inside the control table's folder; beside the tables it would be listed as one."""
_SUFFIX = ".json"


class PaimonLeases:
    """All leases of a warehouse.

    Args:
        config: the catalog.
        control: name of the control table.

    Raises:
        ConfigurationError: the table is missing.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(self, config: CatalogConfig, control: str) -> None:
        table = load_table(open_catalog(config), config, control)
        self._file_io = table.file_io
        self._folder = f"{table.table_path}/{FOLDER}"

    def of(self, name: str) -> PaimonLease:
        """Return the lease ``name``, of letters, digits and ``._-``."""
        return PaimonLease(SmallObject(self._file_io, f"{self._folder}/{name}{_SUFFIX}", f"lease {name}"))

    def all(self, prefix: str) -> Mapping[str, Lease]:
        """Return the leases whose names begin with ``prefix``, by name.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(f"leases {prefix}*"):
            names = [
                status.base_name.removesuffix(_SUFFIX)
                for status in self._file_io.list_status(self._folder)
                if status.type == pafs.FileType.File and status.base_name.endswith(_SUFFIX)
            ]
        found = ((name, self.of(name).read()) for name in names if name.startswith(prefix))
        return {name: lease for name, lease in found if lease is not None}


class PaimonLease:
    """Implements :class:`~consumers.members.lease.LeaseStore`."""

    def __init__(self, stored: SmallObject) -> None:
        self._stored = stored

    def read(self) -> Lease | None:
        """Return the lease; None where there is none, or one that a dead process left half written.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        # Whoever met half a lease would take the consumer for free.
        return self._stored.read(Lease.from_json)

    def write(self, lease: Lease) -> None:
        """Put ``lease`` in its place.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        self._stored.write(lease.to_json())

    def delete(self) -> None:
        """Remove it.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        self._stored.delete()
