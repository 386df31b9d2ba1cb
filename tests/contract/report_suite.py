"""What every worker pool keeps to when it says where its videos stand."""

import time

from consumers.pool_report import FIRST_STAGE, PoolReport
from schemas.records import Stage
from tests.support.pool_processors import task

# The board of a pool on Ray is read once a second, on a machine that may be busy.
PATIENCE_S = 60


def eventually(condition, timeout_s: float = PATIENCE_S):
    """Return the first true result of ``condition``."""
    give_up_at_s = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < give_up_at_s
        time.sleep(0.05)
    return result


class ReportSuite:
    """Fixtures to give: ``pool``, started; ``hold`` and ``let_go``.

    ``hold(pool, row_id, stage)`` hands in a video that its worker holds at ``stage``, asking the model of that stage
    where there is one, and returns its future; ``let_go()`` ends them all.
    """

    def test_a_video_is_reported_with_its_stage_until_it_has_ended(self, pool, hold, let_go):
        future = hold(pool, 3, Stage.DECODE)
        at = eventually(lambda: (at := pool.report().videos.get(3)) and at.stage is Stage.DECODE and at)
        assert not at.is_waiting
        assert at.for_s >= 0
        let_go()
        future.result(PATIENCE_S)
        assert pool.report().videos == {}

    def test_videos_that_no_worker_has_taken_wait_for_the_first_stage(self, pool, hold, let_go):
        num_workers = pool.capacity // 2
        futures = [hold(pool, row_id, Stage.DECODE) for row_id in range(num_workers)]
        futures += [pool.submit(task(row_id)) for row_id in range(10, 13)]
        report = eventually(lambda: (found := pool.report()).waiting.get(FIRST_STAGE) == 3 and found)
        waiting = {row_id for row_id, at in report.videos.items() if at.is_waiting}
        assert waiting == {10, 11, 12}
        assert {report.videos[row_id].stage for row_id in waiting} == {FIRST_STAGE}
        self.end(pool, futures, let_go)

    def test_clips_that_a_model_has_not_taken_up_wait_for_its_stage(self, pool, hold, let_go):
        futures = [hold(pool, row_id, Stage.CAPTION) for row_id in range(2)]
        report = eventually(lambda: (found := pool.report()).waiting.get(Stage.CAPTION) and found)
        assert report.waiting.get(FIRST_STAGE, 0) == 0
        self.end(pool, futures, let_go)

    def end(self, pool, futures, let_go):
        let_go()
        for future in futures:
            future.result(PATIENCE_S)
        assert pool.report() == PoolReport(replicas=pool.report().replicas)
