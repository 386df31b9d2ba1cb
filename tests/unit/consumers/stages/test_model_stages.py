import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.clock import Deadline, SystemClock
from consumers.errors import ConfigurationError, RetryableError, VideoError
from consumers.models.base import BadScoreError, OutOfMemoryError
from consumers.models.calls import Answer, ClipModels, ClipRefusedError, ModelUnavailableError, NoAnswer
from consumers.models.worker import LocalModel, ModelWorker
from consumers.pool_report import VideoProgress
from consumers.stages.base import ClipEvidence, MotionMeasurement, SampledFrame
from consumers.stages.desk import ClipDesk
from consumers.stages.meter import StageMeter
from consumers.stages.pipeline import JUDGING_STAGES, plan_stages
from schemas.models import AestheticModelParams, CaptionerParams, ModelsParams, NsfwModelParams
from schemas.profile import AestheticParams, FilterMode, NsfwParams, Profile
from schemas.records import FailureKind, MediaInfo, ModelCall, Span, Stage

COMMIT = "0123456789" * 4
MEDIA = MediaInfo("mov,mp4", "h264", 640, 360, 24.0, 3.0, 72, 0, 0, False)
NSFW = NsfwModelParams(source="a/nsfw", revision=COMMIT)
AESTHETIC = AestheticModelParams(source="a/aesthetic", revision=COMMIT)
CAPTIONER = CaptionerParams(source="a/captioner", revision=COMMIT)
ALL = ModelsParams(nsfw=NSFW, aesthetic=AESTHETIC, captioner=CAPTIONER)
CALL = ModelCall(0.5, 0.25, 4, on_gpu=False)


class Model:
    """Answers as it is told, and remembers what it was shown."""

    def __init__(self, value):
        self.value = value
        self.seen = []

    def ask(self, frames, deadline):
        self.seen.append(len(frames))
        if isinstance(self.value, Exception):
            raise self.value
        return Answer(self.value, CALL, 0.125)


def clip(index=0, motion=2.0, num_frames=3):
    picture = np.full((8, 8, 3), 128, np.uint8)
    frames = tuple(SampledFrame(float(k), k, k == 0, picture) for k in range(num_frames))
    span = Span(3.0 * index, 3.0 * index + 3, 0, 3000, Fraction(1, 1000), 0, 72)
    return ClipEvidence(index, span, frames, MotionMeasurement(motion, 5, "farneback/full"), True)


def run(clips, profile, models, max_waiting=4, progress=None):
    """Return verdicts in order of yielding, and the timings by stage."""
    meters = {stage: StageMeter(stage) for stage in JUDGING_STAGES}
    deadline = Deadline(SystemClock(), 60)
    desk = ClipDesk(max_waiting)
    progress = progress or VideoProgress(SystemClock())
    verdicts = list(desk.judged(iter(clips), lambda: plan_stages(profile, MEDIA, models, deadline), meters, progress))
    return verdicts, {stage: meter.timing() for stage, meter in meters.items()}


def models(nsfw=0.1, aesthetic=0.6, caption="a cat"):
    def scores(value):
        return value if isinstance(value, Exception) else [value, value, value]

    return ClipModels(Model(scores(nsfw)), Model(scores(aesthetic)), Model(caption))


def test_a_clip_that_passes_has_the_scores_and_words_of_the_models_and_their_names():
    ((_, verdict),), timings = run([clip()], Profile(models=ALL), models())
    assert verdict.rejected_by is None
    scores = {score.name: score for score in verdict.scores}
    assert scores["nsfw_probability"].value == 0.1
    assert (scores["nsfw_probability"].model_id, scores["nsfw_probability"].model_revision) == ("a/nsfw", COMMIT)
    assert (scores["aesthetic_score"].value, scores["aesthetic_score"].method) == (0.6, "rating/avg")
    assert verdict.caption.text == "a cat"
    assert verdict.caption.is_model_generated
    assert timings[Stage.NSFW].calls == (CALL,)
    assert timings[Stage.NSFW].queue_s == 0.5
    assert timings[Stage.NSFW].cpu_s >= 0.125
    assert timings[Stage.MOTION].mean_batch is None


@pytest.mark.parametrize(
    ("given", "stage", "reason", "num_asked"),
    [
        ({"nsfw": 0.51}, Stage.NSFW, "nsfw_above_max", (1, 0, 0)),
        ({"aesthetic": 0.39}, Stage.AESTHETIC, "aesthetic_below_min", (1, 1, 0)),
        ({"aesthetic": 1.01}, Stage.AESTHETIC, "aesthetic_above_max", (1, 1, 0)),
        ({"caption": ClipRefusedError("no")}, Stage.CAPTION, "caption_refused", (1, 1, 1)),
    ],
)
def test_a_clip_outside_the_bounds_is_rejected_and_asks_no_later_model(given, stage, reason, num_asked):
    asked = models(**given)
    ((_, verdict),), _ = run([clip()], Profile(models=ALL), asked)
    assert (verdict.rejected_by, verdict.reason, verdict.caption) == (stage, reason, None)
    assert (len(asked.nsfw.seen), len(asked.aesthetic.seen), len(asked.captioner.seen)) == num_asked


def test_the_video_stands_at_the_model_that_it_waits_for():
    progress = VideoProgress(SystemClock())
    progress.enter(Stage.DECODE)
    is_asked, may_answer, stages = threading.Event(), threading.Event(), []

    class Slow(Model):
        def ask(self, frames, deadline):
            is_asked.set()
            assert may_answer.wait(10)
            return super().ask(frames, deadline)

    def look():
        assert is_asked.wait(10)
        while (state := progress.state()).stage is Stage.DECODE:
            assert state.asking == {Stage.AESTHETIC: 1}
        stages.append(state.stage)
        may_answer.set()

    looking = threading.Thread(target=look)
    looking.start()
    answers = models()
    run([clip()], Profile(models=ALL), replace(answers, aesthetic=Slow(answers.aesthetic.value)), progress=progress)
    looking.join(10)
    assert stages == [Stage.AESTHETIC]
    assert (progress.state().stage, progress.state().asking) == (Stage.DECODE, {})


def test_bounds_are_closed_and_score_only_rejects_nothing():
    ((_, verdict),), _ = run([clip()], Profile(models=ALL), models(nsfw=0.5, aesthetic=0.4))
    assert verdict.rejected_by is None
    lenient = Profile(
        models=ALL,
        nsfw=NsfwParams(mode=FilterMode.SCORE_ONLY),
        aesthetic=AestheticParams(mode=FilterMode.SCORE_ONLY),
    )
    ((_, verdict),), _ = run([clip()], lenient, models(nsfw=0.99, aesthetic=-0.2))
    assert verdict.rejected_by is None


def test_a_clip_that_a_cheap_filter_rejects_is_shown_to_no_model():
    asked = models()
    ((_, verdict),), _ = run([clip(motion=0.0)], Profile(models=ALL), asked)
    assert verdict.rejected_by is Stage.MOTION
    assert asked.nsfw.seen == asked.aesthetic.seen == asked.captioner.seen == []


def test_a_captioner_is_sent_only_the_frames_it_looks_at():
    asked = models()
    few = ModelsParams(captioner=CAPTIONER.model_copy(update={"max_frames": 2}))
    run([clip(num_frames=5)], Profile(models=few, nsfw=NsfwParams(unscored="pass"), aesthetic=LOW), asked)
    middle = ModelsParams(captioner=CAPTIONER.model_copy(update={"kind": "blip2"}))
    run([clip(num_frames=5)], Profile(models=middle, nsfw=NsfwParams(unscored="pass"), aesthetic=LOW), asked)
    assert asked.captioner.seen == [2, 1]


LOW = AestheticParams(min_technical_quality=0)


def test_stages_without_a_model_keep_their_built_ins():
    only = Profile(models=ModelsParams(aesthetic=AESTHETIC), nsfw=NsfwParams(unscored="pass"))
    ((_, verdict),), _ = run([clip()], only, models())
    assert verdict.caption.method == "template"
    assert {score.method for score in verdict.scores} >= {"unscored", "rating/avg"}


@pytest.mark.parametrize(
    ("error", "error_class", "kind"),
    [
        (OutOfMemoryError("no room", stage=Stage.NSFW), "out_of_memory", FailureKind.TRANSIENT),
        (ModelUnavailableError("gone", stage=Stage.NSFW), "model_unavailable", FailureKind.TRANSIENT),
    ],
)
def test_a_model_that_cannot_answer_fails_the_video_for_now(error, error_class, kind):
    with pytest.raises(VideoError) as caught:
        run([clip(), clip(1)], Profile(models=ALL), models(nsfw=error))
    failure = caught.value.to_failure()
    assert (failure.error_class, failure.kind, failure.stage) == (error_class, kind, Stage.NSFW)


def test_a_score_that_is_no_number_is_never_a_verdict():
    with pytest.raises(BadScoreError):
        run([clip()], Profile(models=ALL), models(nsfw=float("nan")))


@given(st.lists(st.sampled_from([0.0, 2.0]), max_size=12), st.integers(1, 4))
def test_clips_come_out_in_order_whatever_is_rejected_where(motions, max_waiting):
    clips = [clip(index, motion) for index, motion in enumerate(motions)]
    verdicts, timings = run(clips, Profile(models=ALL), models(), max_waiting)
    assert [one.index for one, _ in verdicts] == list(range(len(clips)))
    assert [verdict.rejected_by for _, verdict in verdicts] == [None if moving else Stage.MOTION for moving in motions]
    assert timings[Stage.CAPTION].num_out == sum(moving > 0 for moving in motions)


def test_clips_of_one_video_ask_side_by_side_and_no_more_than_allowed():
    lock, at_once, most = threading.Lock(), [0], [0]
    three = threading.Barrier(3)

    class Gathering(Model):
        def ask(self, frames, deadline):
            with lock:
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
            # Only if three are here at once do they go on.
            three.wait(30)
            with lock:
                at_once[0] -= 1
            return super().ask(frames, deadline)

    gathering = replace(models(), nsfw=Gathering([0.1, 0.1, 0.1]))
    verdicts, _ = run([clip(index) for index in range(9)], Profile(models=ALL), gathering, max_waiting=3)
    assert len(verdicts) == 9
    assert most[0] == 3


def answers(model_run, clips):
    return ModelWorker(model_run, on_gpu=False).answer([[one] for one in clips], [0.0] * len(clips))


def test_a_batch_with_one_bad_clip_costs_its_neighbours_nothing():
    def picky(clips):
        if any(frames[0] == "bad" for frames in clips):
            raise VideoError("refused")
        return [frames[0].upper() for frames in clips]

    first, bad, last = answers(picky, ["a", "bad", "c"])
    assert (first.value, last.value) == ("A", "C")
    assert bad == NoAnswer("refused", is_refusal=True)


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OutOfMemoryError("no room"), OutOfMemoryError, "no room"),
        (RetryableError("busy"), ModelUnavailableError, "busy"),
        (ConfigurationError("the key is wrong"), ModelUnavailableError, "the key is wrong"),
        (ZeroDivisionError("bug"), ModelUnavailableError, "ZeroDivisionError: bug"),
    ],
)
def test_what_a_model_raises_says_whose_fault_it_is(error, raised, message):
    def failing(clips):
        raise error

    local = LocalModel(ModelWorker(failing, on_gpu=False), Stage.CAPTION)
    with pytest.raises(raised, match=message) as caught:
        local.ask([clip().frames[0].rgb], Deadline(SystemClock(), 60))
    assert caught.value.to_failure().kind is FailureKind.TRANSIENT
    assert caught.value.to_failure().stage is Stage.CAPTION


def test_a_process_that_lost_its_gpu_is_known_as_broken():
    def lost(clips):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    worker = ModelWorker(lost, on_gpu=True)
    worker.answer([["a"]], [0.0])
    assert worker.is_broken


def test_a_busy_model_is_not_waited_for_beyond_the_deadline():
    entered, leave = threading.Event(), threading.Event()

    def slow(clips):
        entered.set()
        leave.wait(30)
        return [0.0 for _ in clips]

    local = LocalModel(ModelWorker(slow, on_gpu=False), Stage.NSFW)
    other = threading.Thread(target=local.ask, args=([0], Deadline(SystemClock(), 60)))
    other.start()
    assert entered.wait(30)
    with pytest.raises(ModelUnavailableError, match="busy"):
        local.ask([0], Deadline(SystemClock(), 0.01))
    leave.set()
    other.join()
