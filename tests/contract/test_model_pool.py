import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from consumers.errors import ConfigurationError
from consumers.models.worker import load_local
from consumers.pool.inline import InlinePool
from consumers.pool.model_deployments import ModelPoolConfig, ModelPools
from consumers.pool.ray_serve import RayPoolConfig, RayServePool
from schemas.models import ModelsParams, OpenAIChatParams
from schemas.records import Stage
from tests.support.model_processors import (
    curators,
    judged,
    make_curator,
    task_for,
    tiny_profile,
    write_videos,
)

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
# A model's worker that is killed loads torch again, on a machine that may be busy.
PATIENCE_S = 200
# A replaced worker may finish its video, however slow the machine is.
CONFIG = RayPoolConfig(app_name="model-suite", num_replicas=2, start_timeout_s=280, drain_s=PATIENCE_S)
BATCHING = ModelPoolConfig(max_batch=8, linger_s=0.1, drain_s=PATIENCE_S)
MODEL_STAGES = (Stage.NSFW, Stage.AESTHETIC, Stage.CAPTION)


def pools(profile, config=BATCHING):
    return ModelPools(profile.models, dict.fromkeys(("nsfw", "aesthetic", "captioner"), config))


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tiny_profile(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("videos"), 8)


@pytest.fixture(scope="module")
def expected(profile, videos):
    """What the inline pool says, which asks about one clip at a time."""
    models = load_local(profile.models)
    pool = InlinePool(partial(make_curator, profile, models), num_workers=2)
    pool.start()
    outcomes = run(pool, videos)
    pool.close()
    for stage in MODEL_STAGES:
        assert {call.batch_size for outcome in outcomes for call in timing(outcome, stage).calls} == {1}
    return [judged(outcome) for outcome in outcomes]


@pytest.fixture(scope="module")
def pool(profile):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        pool = RayServePool(curators(profile), CONFIG, pools(profile))
        pool.start()
        yield pool
        pool.close()


def run(pool, videos):
    futures = [pool.submit(task_for(row_id, path)) for row_id, path in enumerate(videos)]
    assert not wait(futures, PATIENCE_S).not_done
    return [future.result() for future in futures]


def replicas(name):
    """Return the process ids of the live workers of one deployment."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(name in word for word in child.cmdline()):
                found.add(child.pid)
    return found


def timing(outcome, stage):
    return next(timing for timing in outcome.timings if timing.stage is stage)


def test_batches_form_across_clips_and_videos_and_change_no_result(pool, videos, expected):
    outcomes = run(pool, videos)
    assert [judged(outcome) for outcome in outcomes] == expected
    for stage in MODEL_STAGES:
        calls = [call for outcome in outcomes for call in timing(outcome, stage).calls]
        # Three of the four clips of each video move; the one that does not costs no model anything.
        assert len(calls) == 3 * len(videos)
        mean_batch = sum(call.batch_size for call in calls) / len(calls)
        assert 1 < mean_batch <= 8
        assert all(call.queue_s >= 0 and call.busy_s > 0 and not call.on_gpu for call in calls)


def test_timings_say_what_each_stage_cost(pool, videos):
    outcome = run(pool, videos[:1])[0]
    assert outcome.bytes_read >= videos[0].stat().st_size
    nsfw = timing(outcome, Stage.NSFW)
    assert (nsfw.num_in, nsfw.num_out) == (3, 3)
    assert nsfw.cpu_s > 0
    assert nsfw.wall_s >= nsfw.queue_s > 0
    assert timing(outcome, Stage.MOTION).mean_batch is None


def test_a_model_whose_worker_cannot_start_is_refused_and_named(pool, profile, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    server = OpenAIChatParams(
        kind="openai_chat", model="m", base_url="http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY"
    )
    broken = RayServePool(
        curators(profile),
        replace(CONFIG, app_name="model-suite-broken", num_replicas=1),
        ModelPools(ModelsParams(captioner=server)),
    )
    with pytest.raises(
        ConfigurationError, match=r"could be started: model m: the environment variable NO_SUCH_KEY.*is not set"
    ):
        broken.start()


def test_a_gpu_share_that_finds_no_place_is_refused_and_says_what_to_do(pool, profile):
    greedy = RayServePool(
        curators(profile),
        replace(CONFIG, app_name="model-suite-greedy"),
        pools(profile, ModelPoolConfig(num_gpus=0.5)),
    )
    with pytest.raises(ConfigurationError, match=r"asks for 0\.5 GPU, and Ray sees none; set pool\.\w+\.gpus to 0"):
        greedy.start()


@pytest.mark.parametrize("victim", ["NsfwScorer", "VideoCurator"])
def test_a_worker_killed_under_load_loses_no_video_and_blames_none(pool, videos, expected, victim):
    futures = [pool.submit(task_for(row_id, path)) for row_id, path in enumerate(videos * 3)]
    wait(futures[:2], PATIENCE_S)
    os.kill(min(replicas(victim)), signal.SIGKILL)
    assert not wait(futures, PATIENCE_S).not_done
    died = [future for future in futures if future.exception() is not None]
    # Of a curator that dies only the video that it held ends without a result, to be tried again.
    assert len(died) <= (victim == "VideoCurator")
    for index, future in enumerate(futures):
        if future not in died:
            assert without_ids(judged(future.result())) == without_ids(expected[index % len(videos)])


def test_a_change_of_settings_rolls_and_loses_no_video_in_flight(pool, profile, videos, expected):
    # What a newer incarnation does that takes the application over: other batches at once, other processes for the
    # captioner and the curators.
    changed = replace(BATCHING, max_batch=1, linger_s=0.0)
    models = ModelPools(profile.models, {"nsfw": changed, "captioner": replace(changed, stuck_after_s=60.0)})
    successor = RayServePool(curators(profile), replace(CONFIG, deadline_grace_s=11.0), models)
    before = replicas("Captioner") | replicas("VideoCurator")
    is_over = threading.Event()
    outcomes = []

    def load():
        while not is_over.is_set():
            outcomes.extend(enumerate(run(pool, videos)))

    try:
        with ThreadPoolExecutor(1) as executor:
            loading = executor.submit(load)
            try:
                successor.start()
                give_up_at_s = time.monotonic() + PATIENCE_S
                while before & (replicas("Captioner") | replicas("VideoCurator")):
                    assert time.monotonic() < give_up_at_s
                    is_over.wait(0.2)
            finally:
                is_over.set()
        loading.result()
        assert len(outcomes) >= len(videos)
        for index, outcome in outcomes:
            assert judged(outcome) == expected[index]
        assert [judged(outcome) for outcome in run(successor, videos)] == expected
        assert timing(run(successor, videos[:1])[0], Stage.NSFW).mean_batch == 1
    finally:
        successor.close()


def without_ids(clips):
    return [clip[1:] for clip in clips]
