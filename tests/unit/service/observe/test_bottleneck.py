from hypothesis import given
from hypothesis import strategies as st

from consumers.metrics.types import MODEL_STAGES
from consumers.pool_report import FIRST_STAGE, PoolReport, StageReplicas, VideoAt
from schemas.records import Stage
from service.observe.bottleneck import bottleneck, loads

TIMES = {Stage.DECODE: 5.0, Stage.MOTION: 9.0, Stage.NSFW: 20.0, Stage.CAPTION: 1.0}
counts = st.dictionaries(st.sampled_from([FIRST_STAGE, *MODEL_STAGES]), st.integers(0, 50))
times = st.dictionaries(st.sampled_from(Stage), st.floats(0, 1000))


def standing(*stages: Stage) -> dict[int, VideoAt]:
    return {row_id: VideoAt(stage, 1.0) for row_id, stage in enumerate(stages)}


def test_slow_decoding_is_seen_in_videos_that_wait_for_a_worker() -> None:
    report = PoolReport(
        standing(Stage.DECODE, Stage.DECODE), {FIRST_STAGE: 2, Stage.NSFW: 0}, {Stage.NSFW: StageReplicas(1)}
    )
    assert loads(report) == {FIRST_STAGE: 2, Stage.NSFW: 0}
    assert bottleneck(loads(report), TIMES) == (Stage.MOTION, 9 / 35)


def test_slow_model_is_seen_although_all_that_waits_is_in_its_batch() -> None:
    report = PoolReport(standing(Stage.CAPTION, Stage.CAPTION), {FIRST_STAGE: 2, Stage.CAPTION: 0, Stage.NSFW: 0})
    assert loads(report) == {FIRST_STAGE: 0, Stage.CAPTION: 2, Stage.NSFW: 0}
    assert bottleneck(loads(report), TIMES) == (Stage.CAPTION, 1 / 35)


def test_queues_of_one_length_are_told_apart_by_time() -> None:
    assert bottleneck({FIRST_STAGE: 4, Stage.NSFW: 4, Stage.CAPTION: 4}, TIMES) == (Stage.NSFW, 20 / 35)


def test_without_queues_it_is_where_the_time_goes() -> None:
    assert bottleneck({FIRST_STAGE: 0}, TIMES) == (Stage.NSFW, 20 / 35)


def test_nothing_is_said_before_anything_is_known() -> None:
    assert bottleneck({}, {}) is None
    assert bottleneck({FIRST_STAGE: 3}, {}) == (FIRST_STAGE, 0.0)


@given(counts, times)
def test_it_is_a_stage_with_the_longest_queue_or_one_of_its_workers_own(
    queued: dict[Stage, int], wall_s: dict[Stage, float]
) -> None:
    found = bottleneck(queued, wall_s)
    longest = max(queued.values(), default=0)
    if longest == 0:
        assert found is None or found[0] in wall_s
        return
    assert found is not None
    of_workers = found[0] not in queued or found[0] is FIRST_STAGE
    assert queued.get(FIRST_STAGE if of_workers else found[0]) == longest
    assert 0 <= found[1] <= 1 + 1e-9
