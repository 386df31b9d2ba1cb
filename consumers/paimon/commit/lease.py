"""Leases as small objects beside the control table: renewing one commits nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pyarrow.fs as pafs

from consumers.media.allow_list import local_path
from consumers.members.lease import Lease
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.publish_disk import HardLinkFolder

FOLDER = "_sluice_leases"
"""Inside the control table's folder; beside the tables it would be listed as one."""
_SUFFIX = ".json"
# HDFS and the like overwrite in place, and a reader may meet a lease that is half written.
_READS, _BETWEEN_READS_S = 3, 0.05


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
        return PaimonLease(self._file_io, f"{self._folder}/{name}{_SUFFIX}", name)

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

    def __init__(self, file_io: Any, path: str, name: str) -> None:
        self._file_io = file_io
        self._path = path
        self._what = f"lease {name}"

    def read(self) -> Lease | None:
        """Return the lease; None where there is none, or one that a dead process left half written.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        for _ in range(_READS):
            with store_errors(self._what):
                try:
                    text = self._file_io.read_file_utf8(self._path)
                except FileNotFoundError:
                    return None
            try:
                return Lease.from_json(text)
            except ValueError:
                time.sleep(_BETWEEN_READS_S)
        return None

    def write(self, lease: Lease) -> None:
        """Put ``lease`` in its place.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(self._what):
            path = local_path(self._path)
            if path is None:
                self._file_io.overwrite_file_utf8(self._path, lease.to_json())
            else:
                # In one step: whoever met half a lease would take the consumer for free.
                HardLinkFolder(path.parent).replace(path.name, lease.to_json().encode())

    def delete(self) -> None:
        """Remove it.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(self._what):
            try:
                self._file_io.delete(self._path)
            except FileNotFoundError:
                return
