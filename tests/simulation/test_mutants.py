"""The simulation finds faults: each guard of the protocol is taken out in turn, and some schedule tells.

A simulator that finds nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from consumers.errors import FencedError
from consumers.paimon.commit import markers, rescale, sink
from consumers.paimon.commit.fence import Fence
from consumers.paimon.commit.publish import NoClobberSnapshotCommit
from consumers.paimon.commit.recovery import Recovery, Standing
from consumers.paimon.commit.runs import Runs
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.takedown import Tombstones
from consumers.paimon.commit.versions import VersionIndex, Versions
from consumers.paimon.maintain.expiry import Expiry
from consumers.paimon.maintain.orphans import Orphans
from schemas.positions import Position
from schemas.shards import Share
from tests.simulation.scene import simulated
from tests.simulation.schedule import run_on_disk, run_schedule

_MOST_SEEDS = 200
_MOST_SEEDS_ON_DISK = 30


def _lenient_check() -> Any:
    check = Fence.check

    def lenient(self: Fence, manager: Any, latest: Any) -> None:
        try:
            check(self, manager, latest)
        except FencedError:
            self.seen(latest)

    return patch.object(Fence, "check", lenient)


def _versions_are_noted_where_the_ledger_is_written() -> Any:
    """What a lost answer once made the sink forget."""
    commit_ledger, noted = PaimonSink._commit_ledger, Versions.noted

    def commit_and_note(self: PaimonSink, batch: Any, pending: Any) -> None:
        commit_ledger(self, batch, pending)
        noted(self._versions, batch.videos)

    def known(self: Versions, videos: Any) -> Any:
        return noted(self, ()) if self._index is not None else noted(self, videos)

    return _both(patch.object(PaimonSink, "_commit_ledger", commit_and_note), patch.object(Versions, "noted", known))


@contextmanager
def _both(*patches: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        yield


def _every_row_is_new() -> Any:
    return patch.object(Runs, "_run", lambda self, video, removed: 1)


def _ledger_is_believed() -> Any:
    standing = Recovery.standing

    def both(self: Recovery, ledger_head: Any, curated_head: Any) -> Any:
        ledger, curated = standing(self, ledger_head, curated_head)
        return ledger, replace(curated, position=ledger.position)

    return patch.object(Recovery, "standing", both)


def _replays_are_forgotten() -> Any:
    made = sink.Marker

    def without_replays(*values: Any, **named: Any) -> Any:
        return made(*values, **{**named, "replays": Position()})

    return patch.object(sink, "Marker", without_replays)


_MUTANTS: dict[str, Callable[[], Any]] = {
    "another_copy_is_let_by": _lenient_check,
    "versions_are_noted_where_the_ledger_is_written": _versions_are_noted_where_the_ledger_is_written,
    "rows_of_a_half_committed_batch_are_written_again": _every_row_is_new,
    "the_ledger_is_believed": _ledger_is_believed,
    "copied_markers_count": lambda: patch.object(markers, "_is_by_its_writer", lambda snapshot, properties: True),
    "all_incarnations_have_one_commit_user": lambda: patch.object(
        sink, "commit_user_of", lambda consumer: "sluice-main"
    ),
    "a_base_that_expired_is_not_missed": lambda: patch.object(
        NoClobberSnapshotCommit, "_has_base", lambda self, snapshot_id, published=False: True
    ),
    "a_valid_snapshot_is_taken_back": lambda: patch.object(
        NoClobberSnapshotCommit, "_is_of_the_table", lambda self, snapshot: False
    ),
    "tables_that_are_set_back_are_not_missed": lambda: patch.multiple(
        Fence, _check_history=lambda self, manager, latest: None, _check_own=lambda self, latest: None
    ),
    "tombstones_are_not_held_against_results": lambda: patch.object(
        Tombstones, "respected", lambda self, processed: processed
    ),
    "taken_down_rows_are_not_retired": lambda: patch.object(sink, "matching", lambda *values: []),
    "older_versions_stay": lambda: patch.object(VersionIndex, "superseded", lambda self, keys: set()),
    "a_rescale_forgets_what_was_done_above_the_watermark": lambda: patch.object(
        rescale, "rebased", lambda shards: (Position(min(each.watermark for _, each in shards)), ())
    ),
    "replays_do_not_outlive_a_commit": _replays_are_forgotten,
    "shares_do_not_know_earlier_divisions": lambda: patch.object(
        Share, "covers", lambda self, position, offset: position.covers(offset)
    ),
}


# Where a drawn plan rarely has what it takes, the plan of the fault that the guard is there for.
_PLANS = {
    "versions_are_noted_where_the_ledger_is_written": "answer_lost_and_store_away",
    "a_base_that_expired_is_not_missed": "paused_publisher_whose_name_expires",
    "a_valid_snapshot_is_taken_back": "paused_publisher_whose_base_expires",
    "tables_that_are_set_back_are_not_missed": "set_back",
    "shares_do_not_know_earlier_divisions": "rescale_with_a_straggler",
}


@pytest.mark.parametrize("name", _MUTANTS)
def test_guard_that_is_taken_out_is_missed(name: str) -> None:
    with simulated(), _MUTANTS[name]():
        verdicts = (run_schedule(seed, _PLANS.get(name)) for seed in range(_MOST_SEEDS))
        assert any(verdict.found for verdict in verdicts)


_OF_MAINTENANCE: dict[str, Callable[[], Any]] = {
    "files_that_are_needed_still_expire": lambda: patch.object(Expiry, "_spare", lambda *values, **named: None),
    "neither_markers_nor_rows_tell_the_position": lambda: _both(
        patch.object(Expiry, "_limit", lambda self, due, ids: (None, due[-1].id + 1)),
        patch.object(Recovery, "reconcile", lambda self, ledger_head, curated_head: (Standing(), Standing())),
    ),
    "every_old_file_is_an_orphan": lambda: patch.object(Orphans, "_clear", lambda *values, **named: True),
}


@pytest.mark.parametrize("name", _OF_MAINTENANCE)
def test_guard_of_maintenance_that_is_taken_out_is_missed(name: str, tmp_path: Path) -> None:
    with simulated(), _OF_MAINTENANCE[name]():
        assert any(run_on_disk(seed, tmp_path / str(seed)).found for seed in range(_MOST_SEEDS_ON_DISK))
