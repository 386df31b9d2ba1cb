import threading

from hypothesis import given
from hypothesis import strategies as st

from consumers.pool.board import ModelState, StageBoard, Teller
from consumers.pool_report import (
    FIRST_STAGE,
    Heard,
    OpenVideo,
    StageReplicas,
    VideoAt,
    VideoProgress,
    VideoState,
    compose,
)
from consumers.testing import FakeClock
from schemas.records import Stage

NOW_S = 100.0


def report(*videos, states=(), running=None, at_s=NOW_S):
    heard = Heard({state.row_id: state for state in states}, running or {}, at_s)
    return compose(videos, heard, {}, NOW_S)


def test_a_video_without_a_worker_waits_for_the_first_stage():
    found = report(OpenVideo(1, 90.0, None))
    assert found.videos == {1: VideoAt(FIRST_STAGE, 10.0, is_waiting=True)}
    assert found.waiting == {FIRST_STAGE: 1}


def test_a_video_stands_where_its_worker_says_and_goes_on_standing_there_between_two_looks():
    found = report(OpenVideo(1, 50.0, 60.0), states=[VideoState(1, Stage.DECODE, 30.0)], at_s=98.0)
    assert found.videos == {1: VideoAt(Stage.DECODE, 32.0)}
    assert found.waiting == {}


def test_a_worker_that_has_not_spoken_yet_leaves_the_stage_open():
    assert report(OpenVideo(1, 99.0, 99.5)).videos == {1: VideoAt(Stage.POOL, 0.5)}
    assert report(OpenVideo(1, 1.0, 2.0), at_s=float("-inf")).videos == {1: VideoAt(Stage.POOL, 98.0)}


def test_a_video_that_was_handed_over_and_that_no_worker_has_waits_for_one():
    assert report(OpenVideo(1, 10.0, 20.0)).waiting == {FIRST_STAGE: 1}


def test_what_was_said_of_an_earlier_call_is_not_said_of_this_one():
    found = report(OpenVideo(1, 80.0, 99.0), states=[VideoState(1, Stage.CUT, 40.0)])
    assert found.videos == {1: VideoAt(Stage.POOL, 1.0)}


def test_clips_that_ask_a_model_wait_unless_their_batch_runs():
    states = [VideoState(row_id, Stage.DECODE, 1.0, {Stage.NSFW: 5, Stage.CAPTION: 1}) for row_id in (1, 2)]
    videos = [OpenVideo(row_id, 0.0, 1.0) for row_id in (1, 2)]
    found = report(*videos, states=states, running={Stage.NSFW: 4, Stage.CAPTION: 3, Stage.AESTHETIC: 2})
    assert found.waiting == {Stage.NSFW: 6, Stage.CAPTION: 0}


@given(
    st.lists(st.tuples(st.integers(0, 5), st.none() | st.floats(0, NOW_S)), unique_by=lambda item: item[0]),
    st.dictionaries(st.integers(0, 9), st.tuples(st.sampled_from(Stage), st.floats(0, 200), st.integers(0, 9))),
    st.dictionaries(st.sampled_from([Stage.NSFW, Stage.CAPTION]), st.integers(0, 99)),
    st.floats(0, NOW_S),
)
def test_every_open_video_is_reported_once_and_nothing_is_negative(opened, said, running, at_s):
    states = [VideoState(row_id, stage, for_s, {Stage.NSFW: num}) for row_id, (stage, for_s, num) in said.items()]
    videos = [OpenVideo(row_id, 0.0, begun_s) for row_id, begun_s in opened]
    found = report(*videos, states=states, running=running, at_s=at_s)
    assert set(found.videos) == {row_id for row_id, _ in opened}
    assert all(at.for_s >= 0 for at in found.videos.values())
    assert all(count >= 0 for count in found.waiting.values())
    assert found.waiting.get(FIRST_STAGE, 0) == sum(at.is_waiting for at in found.videos.values())


def test_a_video_that_is_held_up_stands_at_the_model_that_most_of_its_clips_ask():
    clock = FakeClock()
    progress = VideoProgress(clock, 7)
    progress.enter(Stage.DECODE)
    clock.advance(5)
    with progress.asking(Stage.NSFW), progress.asking(Stage.CAPTION), progress.asking(Stage.CAPTION):
        assert progress.state() == VideoState(7, Stage.DECODE, 5.0, {Stage.NSFW: 1, Stage.CAPTION: 2})
        with progress.held_up():
            clock.advance(2)
            assert (progress.state().stage, progress.state().for_s) == (Stage.CAPTION, 2.0)
    assert progress.state() == VideoState(7, Stage.DECODE, 7.0, {})


def test_the_board_keeps_the_last_word_and_forgets_what_has_ended():
    now_s = 0.0
    board = StageBoard(lambda: now_s)
    board.tell(VideoState(1, Stage.OPEN, 0.0))
    board.tell(VideoState(1, Stage.DECODE, 1.0))
    board.tell(VideoState(2, Stage.CUT, 0.0))
    board.tell(ModelState("a", Stage.NSFW, 4))
    board.tell(ModelState("b", Stage.NSFW, 2))
    now_s = 3.0
    heard = board.read([1, 9])
    assert heard.videos == {1: VideoState(1, Stage.DECODE, 4.0)}
    assert heard.running == {Stage.NSFW: 6}
    assert board.read([1, 2]).videos == heard.videos


def test_a_model_worker_that_falls_silent_is_forgotten():
    now_s = 0.0
    board = StageBoard(lambda: now_s)
    board.tell(ModelState("gone", Stage.NSFW, 4))
    now_s = 31.0
    assert board.read([]).running == {}


def test_many_changes_at_once_are_told_in_one_or_two_messages_and_the_last_one_is_the_newest():
    said, newest = [], threading.Event()
    count = 0

    def send(told):
        said.append(told.for_s)
        if told.for_s == 500:
            newest.set()

    teller = Teller(lambda: VideoState(1, Stage.OPEN, count), send)
    for _ in range(500):
        count += 1
        teller.changed()
    assert newest.wait(10)
    assert len(said) <= 2


def test_a_board_that_cannot_be_reached_does_not_silence_a_worker():
    told = threading.Event()
    answers = iter([ConnectionError("no board"), None])

    def send(state):
        answer = next(answers)
        if answer is not None:
            raise answer
        told.set()

    teller = Teller(lambda: VideoState(1, Stage.OPEN, 0.0), send)
    teller.changed()
    while not told.wait(0.1):
        teller.changed()


def test_a_report_names_its_replicas():
    assert compose([], Heard(), {Stage.NSFW: StageReplicas(2, 0.5)}, 0.0).replicas[Stage.NSFW].gpus_each == 0.5
