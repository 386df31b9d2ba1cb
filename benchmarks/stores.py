"""Where the tables and videos of a benchmark are, and how they are reached past the service under test."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from pypaimon import CatalogFactory

DATABASE = "sluice"


@dataclass(frozen=True)
class Store:
    """Where tables and videos are.

    Attributes:
        warehouse: folder or URI.
        media: folder or URI below which videos land.
        options: catalog options of whoever looks on; they reach the store itself.
        service_options: those of the service under test, which may have trouble on its way there.
    """

    warehouse: str
    media: str
    options: dict[str, str] = field(default_factory=dict)
    service_options: dict[str, str] = field(default_factory=dict)

    @property
    def catalog_options(self) -> dict[str, str]:
        """What pypaimon needs to reach the store itself."""
        return {**self.options, "warehouse": self.warehouse}

    def uri(self, path: str) -> str:
        """Return what the service calls ``path``, which is below ``media``."""
        return path if "://" in path else Path(path).as_uri()


def catalog(store: Store) -> Any:
    """Return pypaimon's catalog."""
    return CatalogFactory.create(store.catalog_options)


def table(store: Store, name: str) -> Any:
    """Return pypaimon's table ``name``."""
    return catalog(store).get_table(f"{DATABASE}.{name}")


def upload(store: Store, source: Path, target: str) -> None:
    """Copy a file to ``target``, a path or an S3 URI."""
    if "://" not in target:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        return
    scheme, _, endpoint = store.options["s3.endpoint"].partition("://")
    s3 = pafs.S3FileSystem(
        access_key=store.options["s3.access-key"],
        secret_key=store.options["s3.secret-key"],
        region=store.options["s3.region"],
        scheme=scheme,
        endpoint_override=endpoint,
    )
    with s3.open_output_stream(target.removeprefix("s3://")) as stream:
        stream.write(source.read_bytes())


def expire(store: Store, *names: str) -> None:
    """Bury every marker in these tables below a commit of somebody else, and expire all but that commit."""
    for name in names:
        found = table(store, name)
        commit = found.new_batch_write_builder().new_commit()
        commit.commit([])
        commit.close()
        manager = found.snapshot_manager()
        newest = manager.get_latest_snapshot().id
        older = (manager.get_snapshot_path(snapshot_id) for snapshot_id in range(newest - 1, 0, -1))
        retained = list(takewhile(found.file_io.exists, older))
        # As Paimon's expiry does: from the oldest on, then the hint.
        for path in reversed(retained):
            found.file_io.delete(path)
        found.file_io.overwrite_file_utf8(f"{manager.snapshot_dir}/EARLIEST", str(newest))


def snapshot_gaps(store: Store, name: str) -> int:
    """Return how many snapshots are missing between the oldest and the newest of a table."""
    manager = table(store, name).snapshot_manager()
    newest = manager.get_latest_snapshot()
    if newest is None:
        return 0
    first = manager.try_get_earliest_snapshot().id
    paths = (manager.get_snapshot_path(snapshot_id) for snapshot_id in range(first, newest.id))
    return sum(not manager.file_io.exists(path) for path in paths)
