from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from consumers.models.base import BadScoreError, OutOfMemoryError, reduce_scores, spread
from consumers.models.batching import BatchRunner
from schemas.records import FailureKind, Stage
from tests.support.tiny_models import random_frames


class Model:
    """Doubles numbers; has memory for ``room`` of them at once."""

    def __init__(self, room: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.room = room
        self.error = error
        self.batches: list[int] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(len(items))
        if len(items) > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 20.00 MiB")
        return [2 * item for item in items]


@given(count=st.integers(0, 60), batch_size=st.integers(1, 40), room=st.integers(1, 40))
def test_whatever_fits_in_memory_results_are_complete_and_in_order(count: int, batch_size: int, room: int) -> None:
    model = Model(room)
    runner = BatchRunner(batch_size, Stage.NSFW, "model m")
    assert runner.run(range(count), model) == [2 * item for item in range(count)]
    assert all(size <= batch_size for size in model.batches)


def test_batch_that_does_not_fit_is_halved_and_the_size_that_fits_is_kept() -> None:
    model = Model(room=3)
    runner = BatchRunner(16, Stage.NSFW, "model m")
    runner.run(range(16), model)
    assert model.batches[:4] == [16, 8, 4, 2]
    model.batches.clear()
    runner.run(range(6), model)
    assert model.batches == [2, 2, 2]
    assert runner.limit == 2


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_single_item_that_does_not_fit_fails_with_the_reason(error: type[Exception]) -> None:
    runner = BatchRunner(4, Stage.AESTHETIC, "model m")
    with pytest.raises(
        OutOfMemoryError, match=r"single item \(CUDA out of memory\..*larger share of the GPU"
    ) as caught:
        runner.run(range(4), Model(room=0, error=error))
    failure = caught.value.to_failure()
    assert (failure.kind, failure.stage, failure.error_class) == (
        FailureKind.TRANSIENT,
        Stage.AESTHETIC,
        "out_of_memory",
    )


def test_error_of_another_kind_is_not_taken_for_a_lack_of_memory() -> None:
    model = Model(room=1, error=RuntimeError)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        # A plain RuntimeError with these words is not what torch raises.
        BatchRunner(4, Stage.NSFW, "model m").run(range(4), model)
    assert model.batches == [4]


def test_host_memory_running_out_is_met_like_that_of_a_gpu() -> None:
    def call(items: Sequence[int]) -> list[int]:
        if len(items) > 1:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return list(items)

    assert BatchRunner(2, Stage.NSFW, "model m").run([1, 2], call) == [1, 2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_reduced_score_lies_between_the_least_and_the_greatest(scores: list[float]) -> None:
    low, middle, high = (reduce_scores(scores, how, Stage.NSFW) for how in ("min", "avg", "max"))
    assert low == min(scores)
    assert high == max(scores)
    assert low - 1e-12 <= middle <= high + 1e-12


def test_no_frames_give_an_error_and_never_a_score() -> None:
    with pytest.raises(ValueError, match="without frames"):
        reduce_scores([], "avg", Stage.NSFW)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_score_that_is_no_number_fails_the_video(value: float) -> None:
    with pytest.raises(BadScoreError, match="not a number") as caught:
        reduce_scores([0.5, value], "max", Stage.AESTHETIC)
    assert caught.value.to_failure().stage is Stage.AESTHETIC


@given(count=st.integers(1, 40), limit=st.integers(1, 12))
def test_spread_frames_are_distinct_and_include_both_ends(count: int, limit: int) -> None:
    frames = random_frames(count, 8, 8, seed=0)
    chosen = [next(i for i, frame in enumerate(frames) if frame is one) for one in spread(frames, limit)]
    assert len(chosen) == min(count, limit)
    assert chosen == sorted(set(chosen))
    if limit > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)


def test_memory_of_the_host_that_runs_out_is_told_without_torchs_own_place_in_the_code() -> None:
    def call(items: Sequence[int]) -> list[int]:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 1882200000 bytes. Error code 12 (Cannot allocate memory)"
        )

    with pytest.raises(
        OutOfMemoryError, match=r"single item \(can't allocate memory: you tried to allocate 1882200000 "
    ):
        BatchRunner(1, Stage.NSFW, "model m").run([1], call)
