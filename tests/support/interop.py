"""Tables that Java's Paimon wrote, where they are at hand, and what Java does to ours, done to a test's own table."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

import pytest

from consumers.paimon.catalog import CatalogConfig
from tests.support.warehouse import table

_DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "interop"
_FOLDER = Path(os.environ.get("SLUICE_TEST_INTEROP", _DEFAULT))

requires_interop = pytest.mark.skipif(
    not _FOLDER.is_dir(), reason="no tables written by Java (set SLUICE_TEST_INTEROP to their folder)"
)


def java_warehouse(name: str, to: Path) -> CatalogConfig:
    """Return a copy of one warehouse; only for tests marked with :data:`requires_interop`."""
    shutil.copytree(_FOLDER / name, to)
    return CatalogConfig({"warehouse": str(to)}, "sluice")


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
