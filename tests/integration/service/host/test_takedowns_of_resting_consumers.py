"""A consumer that has nothing to do begins anew where its newest commit keeps bytes that were taken down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consumers.loop.reports import SilentObserver
from consumers.paimon.maintain.expiry import Expired
from consumers.paimon.maintain.maintainer import TableReport
from consumers.paimon.maintain.purge import PurgeReport
from service.control_plane import ControlPlane
from service.settings import load_settings
from tests.support.warehouse import NAMES, make_warehouse, table


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what the consumer's thread does; there is no event for a commit."""
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s, "it did not come true within a minute"
        threading.Event().wait(0.05)


def test_service_restarts_its_consumer_and_that_is_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    (tmp_path / "sluice.toml").write_text(
        f'[catalog]\nwarehouse = "{tmp_path / "warehouse"}"\n[tables]\ndatabase = "db"\n[consumer]\nid = "films"\n'
        '[pool]\nkind = "inline"\n[api]\nport = 0\nmetrics_port = 0\n'
    )
    plane = ControlPlane(load_settings(tmp_path / "sluice.toml"), SilentObserver(), tmp_path)

    def newest() -> int:
        head = table(config, NAMES.curated).snapshot_manager().get_latest_snapshot()
        return 0 if head is None else int(head.id)

    plane.start()
    try:
        wait_for(lambda: newest() > 0)
        before = newest()
        report = TableReport(
            "db.curated_clips",
            expired=Expired(held_by="newest marker of consumer films", resting="films"),
            takedowns=PurgeReport(("one",)),
        )
        on_round: Callable[[Any], None] = plane._upkeep._on_round  # type: ignore[union-attr]
        on_round([report])
        wait_for(lambda: newest() > before)
        [entry, *_] = plane.host.control.audit_trail("films")
        assert (entry.action, entry.actor) == ("restart", "maintenance")
    finally:
        plane.close()
