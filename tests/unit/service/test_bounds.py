"""What the service remembers of callers, videos and commits has bounds."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from consumers.lag import RateWindows, Totals
from consumers.paimon.source.row_source import _Snapshots
from consumers.ports import CommitBatch, CommitReceipt
from consumers.testing import FakeClock, failed_outcome, make_video
from schemas.positions import Position
from schemas.records import ProcessedVideo
from service.api.authenticator import FailureLimiter
from service.api.problems import ApiError
from service.api.sessions import Sessions
from service.api.tokens import Role, load_tokens
from service.observe.activity import ConsumerActivity


def test_callers_that_fail_from_ever_new_addresses_are_remembered_up_to_a_bound() -> None:
    limiter = FailureLimiter(FakeClock(), max_remembered=100)
    for number in range(1000):
        limiter.failed(f"10.0.{number // 256}.{number % 256}", "x" * 40)
    assert len(limiter._failures) == 100


def test_caller_that_goes_on_failing_adds_nothing_any_more() -> None:
    limiter = FailureLimiter(FakeClock())
    for _ in range(10_000):
        with suppress(ApiError):
            limiter.failed("10.0.0.1", "x" * 40)
    assert sum(map(len, limiter._failures.values())) <= 110


def test_sessions_take_nothing_until_they_are_ended_and_then_up_to_a_bound(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("service.api.sessions._MAX_ENDED", 20)
    tokens, _ = load_tokens(tmp_path / "tokens.toml", {Role.READ: "r" * 40})
    sessions = Sessions(tokens, FakeClock())
    cookies = [sessions.begin("read") for _ in range(50)]
    assert sessions._ended == {}
    for cookie in cookies:
        sessions.end(cookie)
    assert len(sessions._ended) == 20
    assert sessions.token_of(cookies[-1]) is None


def test_activity_of_a_year_takes_what_that_of_an_hour_takes() -> None:
    clock = FakeClock()
    activity = ConsumerActivity(clock, lambda kind, data: None)

    def work(count: int) -> None:
        for row_id in range(count):
            video = make_video(row_id)
            activity.admitted(video)
            activity.retried(video, 1, "the store did not answer", 1.0)
            done = ProcessedVideo(video, failed_outcome(), 2, clock.now())
            activity.finished(done)
            activity.committed(CommitBatch((done,), Position(row_id + 1)), CommitReceipt(row_id, row_id, 0, 1))
            activity.look()

    work(1000)
    tracemalloc.start()
    work(1000)
    before, _ = tracemalloc.get_traced_memory()
    work(5000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 100_000
    assert activity.in_flight() == []
    assert len(activity.troubles(10_000)) == len(activity.commits(10_000)) == 200


def test_totals_older_than_the_longest_window_are_forgotten() -> None:
    windows = RateWindows((60.0, 900.0))
    for second in range(0, 100_000, 2):
        windows.add(float(second), Totals(second, second, second, second, 0.0, 0))
    assert len(windows._samples) <= 452


def test_snapshots_of_the_raw_table_are_remembered_up_to_a_bound() -> None:
    def read(snapshot_id: int) -> Any:
        return SimpleNamespace(
            id=snapshot_id, time_millis=0, next_row_id=snapshot_id, commit_kind="APPEND", index_manifest=None
        )

    snapshots = _Snapshots(SimpleNamespace(get_snapshot_by_id=read))
    for snapshot_id in range(1, 10_000):
        found = snapshots.get(snapshot_id)
        assert found is not None
        assert found.next_row_id == snapshot_id
    assert len(snapshots._known) == snapshots._MAX_KEPT
