"""What every worker pool keeps to: subclass one of the two suites and give it its two fixtures."""

import threading
import time
from concurrent.futures import wait
from dataclasses import replace

import pytest

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError, WorkerDiedError
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.loop.reports import EndReason, SilentObserver
from consumers.loop.retry import RetryPolicy
from consumers.testing import FakeSink, FakeSource, FakeTables, make_video
from schemas.positions import Position
from schemas.records import FailureKind, Stage, VideoStatus
from tests.support.pool_processors import make_broken, make_scripted, task

# A replica that was killed is back in 5 s on an idle machine, and in 30 on a busy one.
PATIENCE_S = 90


class _Watcher(SilentObserver):
    def __init__(self, on_commit, on_admitted):
        self.committed = lambda batch, receipt: on_commit(batch)
        self.admitted = on_admitted


def consume(pool, scripts, stop_after_admitting=None, on_commit=lambda batch: None, **config):
    """Run a processor over one row for each script and return its report and tables."""
    source, tables = FakeSource(), FakeTables()
    for row_id, (do, argument) in enumerate(scripts):
        source.append(replace(make_video(row_id), metadata={"do": do, "with": argument}))
    settings = ProcessorConfig(CommitPolicy(0.2), RetryPolicy(base_s=0.05, max_s=1), poll_interval_s=0.1, **config)
    admitted = []

    def note_admitted(video):
        admitted.append(video.row_id)
        if len(admitted) == stop_after_admitting:
            processor.request_stop()

    watcher = _Watcher(on_commit, note_admitted)
    processor = Processor(source, FakeSink(tables), pool, SystemClock(), config=settings, observer=watcher)
    report = processor.run(until_caught_up=stop_after_admitting is None)
    scripts = scripts[:stop_after_admitting]
    assert tables.position == Position(len(scripts))
    assert sorted(tables.ledger) == list(range(len(scripts)))
    assert tables.duplicates() == []
    return report, tables


class PoolSuite:
    """Fixtures to give: ``pool``, started, of make_scripted; ``make_pool``, which makes others from a factory."""

    def test_every_video_ends_with_its_own_result(self, pool):
        scripts = ["keep", "reject", "raise", "raise_video_error"]
        futures = [
            pool.submit(task(row_id, scripts[row_id % 4], "x" if row_id % 4 > 1 else "")) for row_id in range(40)
        ]
        assert not wait(futures, PATIENCE_S).not_done
        expected = [VideoStatus.CURATED, VideoStatus.REJECTED, VideoStatus.FAILED, VideoStatus.FAILED] * 10
        assert [future.result().status for future in futures] == expected
        assert [future.result().clips[0].clip_id for future in futures[::4]] == [
            f"{row_id}-0" for row_id in range(0, 40, 4)
        ]

    def test_an_unexpected_exception_is_a_transient_failure_that_names_it(self, pool):
        failure = pool.submit(task(0, "raise", "a bug")).result(PATIENCE_S).failure
        assert (failure.kind, failure.stage) == (FailureKind.TRANSIENT, Stage.POOL)
        assert failure.message == "ZeroDivisionError: a bug"

    def test_a_video_error_is_the_failure_it_stands_for(self, pool):
        failure = pool.submit(task(0, "raise_video_error", "this is text")).result(PATIENCE_S).failure
        assert (failure.kind, failure.error_class) == (FailureKind.PERMANENT, "not_a_video")
        assert failure.message == "this is text"

    def test_clips_of_many_megabytes_come_back_whole(self, pool):
        assert pool.submit(task(0, "keep", str(20 * 2**20))).result(PATIENCE_S).media_bytes == 20 * 2**20

    def test_submitting_to_busy_workers_does_not_block(self, pool, tmp_path):
        gate = tmp_path / "gate"
        began_s = time.process_time()
        futures = [pool.submit(task(row_id, "wait_for_file", str(gate))) for row_id in range(pool.capacity * 3)]
        assert not any(future.done() for future in futures)
        assert time.process_time() - began_s < PATIENCE_S
        gate.touch()
        assert not wait(futures, PATIENCE_S).not_done

    def test_a_cancelled_video_costs_nothing_and_blocks_nothing(self, pool, tmp_path):
        gate = tmp_path / "gate"
        futures = [pool.submit(task(row_id, "wait_for_file", str(gate))) for row_id in range(pool.capacity * 2)]
        assert futures[-1].cancel()
        gate.touch()
        assert not wait(futures, PATIENCE_S).not_done
        assert all(future.result().status is VideoStatus.CURATED for future in futures[:-1])

    def test_closing_ends_every_open_video(self, make_pool, tmp_path):
        pool = make_pool(make_scripted)
        pool.start()
        futures = [pool.submit(task(row_id, "wait_for_file", str(tmp_path / "never"))) for row_id in range(5)]
        pool.close()
        assert not wait(futures, PATIENCE_S).not_done
        assert all(isinstance(future.exception(), WorkerDiedError) for future in futures)
        (tmp_path / "never").touch()
        pool.close()
        with pytest.raises(WorkerDiedError, match="closed"):
            pool.submit(task(9)).result(PATIENCE_S)

    def test_a_worker_that_cannot_be_made_is_a_configuration_error_that_says_why(self, make_pool):
        pool = make_pool(make_broken)
        try:
            with pytest.raises(ConfigurationError, match="the model is missing"):
                pool.start()
        finally:
            pool.close()

    def test_a_processor_over_the_pool_accounts_for_every_row(self, pool):
        report, tables = consume(pool, [("keep", ""), ("reject", ""), ("raise", "x"), ("raise_video_error", "y")] * 5)
        assert (report.counts.num_curated, report.counts.num_rejected, report.counts.num_failed) == (5, 5, 10)
        assert len(tables.clips) == 5


class IsolatingPoolSuite(PoolSuite):
    """For pools whose workers are processes: a video cannot harm its neighbours."""

    @pytest.mark.parametrize("how", ["exit", "kill"])
    def test_a_crash_costs_only_the_video_that_caused_it(self, pool, how):
        futures = [pool.submit(task(row_id, how if row_id == 3 else "keep")) for row_id in range(12)]
        assert not wait(futures, PATIENCE_S).not_done
        assert isinstance(futures[3].exception(), WorkerDiedError)
        assert all(future.result().status is VideoStatus.CURATED for future in futures[:3] + futures[4:])

    def test_a_hang_is_ended_by_the_deadline_and_says_so(self, pool):
        hung = pool.submit(task(0, "hang", deadline_s=1.0))
        others = [pool.submit(task(row_id)) for row_id in range(1, 7)]
        assert not wait(others, PATIENCE_S).not_done
        error = hung.exception(PATIENCE_S)
        assert isinstance(error, WorkerDiedError)
        assert "its deadline is 1 s" in str(error)
        assert "in _hang" in error.log_tail
        assert all(future.result().status is VideoStatus.CURATED for future in others)

    def test_the_log_of_a_worker_that_crashed_says_where_and_stays_out_of_the_retries(self, pool):
        error = pool.submit(task(3, "segfault")).exception(PATIENCE_S)
        assert isinstance(error, WorkerDiedError)
        assert "the last words of row 3" in error.log_tail
        assert "in _segfault" in error.log_tail
        assert len(error.log_tail.encode()) <= 2100
        assert "_segfault" not in str(error)

    def test_a_video_that_needs_more_memory_than_a_worker_may_have_fails_alone(self, pool):
        futures = [pool.submit(task(row_id, "allocate", str(2**30 if row_id == 2 else 2**20))) for row_id in range(6)]
        assert not wait(futures, PATIENCE_S).not_done
        failure = futures[2].result().failure
        assert (failure.kind, failure.error_class) == (FailureKind.TRANSIENT, "out_of_memory")
        assert all(future.result().status is VideoStatus.REJECTED for future in futures[:2] + futures[3:])

    def test_a_video_that_uses_up_its_cpu_time_ends_its_worker_before_the_deadline(self, pool):
        error = pool.submit(task(0, "burn", "8", deadline_s=3.0)).exception(PATIENCE_S)
        assert isinstance(error, WorkerDiedError)

    def test_a_stop_drains_all_that_was_accepted(self, pool, tmp_path):
        gate = tmp_path / "gate"
        opener = threading.Timer(1.0, gate.touch)
        opener.start()
        report, tables = consume(pool, [("wait_for_file", str(gate))] * 6, stop_after_admitting=4)
        opener.join()
        assert report.reason is EndReason.STOPPED
        assert report.num_abandoned == 0
        assert len(tables.clips) == report.counts.num_admitted == 4

    def test_a_partial_batch_is_committed_after_its_interval(self, pool, tmp_path):
        gate = tmp_path / "gate"
        tables_seen = []
        consume(
            pool,
            [("keep", ""), ("wait_for_file", str(gate))],
            on_commit=lambda batch: (tables_seen.append(len(batch.videos)), gate.touch()),
        )
        assert tables_seen == [1, 1]

    def test_a_poison_video_is_dead_lettered_and_its_neighbours_survive(self, pool):
        scripts = [("keep", "")] * 10
        scripts[2] = ("exit", "")
        scripts[5] = ("crash_once", "")
        report, tables = consume(pool, scripts)
        assert list(tables.failures) == [2]
        assert tables.failures[2].error_class == "poison_video"
        assert "3 workers ended" in tables.failures[2].message
        assert report.counts.num_curated == 9
        assert report.counts.num_retries == 3
