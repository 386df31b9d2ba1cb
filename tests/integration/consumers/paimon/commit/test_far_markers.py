from __future__ import annotations

import json
import uuid
from pathlib import Path

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.markers import newest_marker
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.progress import PaimonProgress
from schemas.positions import Position
from tests.support.warehouse import NAMES, PROFILE, append_raw, batch, make_warehouse, table

_NUM_COMMITS = 1005


def _commit_often(config: CatalogConfig) -> None:
    """Consumer ``other`` commits once, and then as often as nobody looks back; what it says of others stays."""
    other = PaimonSink(config, NAMES, "other", PROFILE)
    other.open()
    other.commit(batch(Position(), [0]))
    for name in (NAMES.ledger, NAMES.curated):
        folder = Path(table(config, name).snapshot_manager().snapshot_dir)
        made = json.loads((folder / f"snapshot-{(folder / 'LATEST').read_text()}").read_text())
        for _ in range(_NUM_COMMITS):
            made["id"] += 1
            made["uuid"] = str(uuid.uuid4())
            (folder / f"snapshot-{made['id']}").write_text(json.dumps(made))
        (folder / "LATEST").write_text(str(made["id"]))


def test_consumer_that_has_finished_and_what_a_person_has_skipped_are_known_after_a_thousand_commits_of_another(
    tmp_path: Path,
) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    append_raw(config, "abcdef")
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(batch(Position(), [0, 1]))
    mover = Repositioner(config, NAMES, "main")
    mover.make(mover.to_offset(5))
    _commit_often(config)
    last = PaimonProgress(config, NAMES, "main").last_commit()
    assert last is not None
    assert last.position == Position(5)
    manager = table(config, NAMES.curated).snapshot_manager()
    assert manager.get_latest_snapshot().id > last.snapshot_id + _NUM_COMMITS
    successor = PaimonSink(config, NAMES, "main", PROFILE)
    assert successor.open().position == Position(5)
    successor.commit(batch(Position(5), [5]))
    mine = newest_marker(manager, "other", manager.get_latest_snapshot(), 0, 1000).marker
    assert mine is not None
