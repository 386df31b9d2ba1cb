"""Tables that Java's Paimon wrote, one snapshot after the other, where they are; and what it does to ours."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.tables import RawColumns
from tests.support.warehouse import table

_DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "interop"
_FOLDER = Path(os.environ.get("TEST_SLUICE_INTEROP", _DEFAULT))

requires_interop = pytest.mark.skipif(
    not _FOLDER.is_dir(), reason="no tables that Java wrote (set TEST_SLUICE_INTEROP to their folder)"
)
BY_URI = RawColumns(video="uri")
"""How the columns of those tables are mapped that have no column for a descriptor."""


class JavaTable:
    """A copy of a warehouse that Java wrote, of whose raw table only the first snapshots are there to be seen.

    Args:
        name: its folder.
        folder: a new folder for the copy.
    """

    def __init__(self, name: str, folder: Path) -> None:
        where = folder / name
        shutil.copytree(_FOLDER / name, where)
        for path in (where, *where.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self.config = CatalogConfig({"warehouse": str(where)}, "sluice")
        self._snapshots = where / "sluice.db" / "raw_videos" / "snapshot"
        self._hidden = folder / f"{name}-hidden"
        self._hidden.mkdir()
        self.num_snapshots = sum(1 for _ in self._snapshots.glob("snapshot-*"))

    def show(self, newest: int) -> None:
        """Leave the snapshots up to ``newest`` in sight, and hide those after it."""
        for number in range(1, self.num_snapshots + 1):
            here, there = self._snapshots, self._hidden
            if number <= newest:
                here, there = there, here
            if (here / f"snapshot-{number}").exists():
                shutil.move(here / f"snapshot-{number}", there / f"snapshot-{number}")
        (self._snapshots / "LATEST").write_text(str(newest))

    def rewrite_snapshot(self, snapshot_id: int, **fields: Any) -> None:
        """Change what a snapshot in sight says of itself."""
        path = self._snapshots / f"snapshot-{snapshot_id}"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    def alter(self, first_snapshot_id: int, **options: str) -> None:
        """Let the snapshots from ``first_snapshot_id`` on be of a schema with other options (``_`` for ``-``)."""
        folder = self._snapshots.parent / "schema"
        newest = max(int(path.name.removeprefix("schema-")) for path in folder.glob("schema-*"))
        told = json.loads((folder / f"schema-{newest}").read_text())
        told["id"] = newest + 1
        told["options"] |= {name.replace("_", "-"): value for name, value in options.items()}
        (folder / f"schema-{newest + 1}").write_text(json.dumps(told))
        for path in (*self._snapshots.glob("snapshot-*"), *self._hidden.glob("snapshot-*")):
            snapshot = json.loads(path.read_text())
            if snapshot["id"] >= first_snapshot_id:
                path.write_text(json.dumps(snapshot | {"schemaId": newest + 1}))


def compact_manifests_as_java_does(config: CatalogConfig, name: str) -> None:
    """Add a snapshot of kind COMPACT that copies the properties of the one before; on disk only."""
    folder = Path(table(config, name).snapshot_manager().snapshot_dir)
    latest = max(int(path.name.removeprefix("snapshot-")) for path in folder.glob("snapshot-*"))
    made = json.loads((folder / f"snapshot-{latest}").read_text()) | {
        "id": latest + 1,
        "uuid": str(uuid.uuid4()),
        "commitUser": str(uuid.uuid4()),
        "commitIdentifier": 2**63 - 1,
        "commitKind": "COMPACT",
        "deltaRecordCount": 0,
    }
    (folder / f"snapshot-{latest + 1}").write_text(json.dumps(made))
    (folder / "LATEST").write_text(str(latest + 1))
