"""Some two hundred damaged, odd and hostile files through one worker: each ends, with a true reason, in little memory.

The kinds of damage are in tests/support/damaged_media.py.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.media.samples import Shot, write_video
from tests.support.damaged_media import SIZE, large_picture, make_cases

ROOT = Path(__file__).parents[4]
MEMORY_BYTES = 2**30
TIMEOUT_S = 280


def curate(folder, memory_bytes):
    """Run one worker over the files of ``folder``; return its lines, and its peak of resident memory in bytes."""
    command = [sys.executable, "-m", "tests.support.damaged_media_worker", str(folder), str(memory_bytes)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT_S, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    *told, last = map(json.loads, ended.stdout.splitlines())
    return told, last["peak_rss"]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return make_cases(tmp_path_factory.mktemp("encoded"))


@pytest.fixture(scope="module")
def results(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    for number, case in enumerate(cases):
        (folder / f"{number:04d}").write_bytes(case.content)
    told, peak_rss = curate(folder, MEMORY_BYTES)
    assert len(told) == len(cases) >= 150
    return list(zip(cases, told, strict=True)), peak_rss


def test_every_file_ends_as_processed_or_failed_with_a_true_reason(results):
    wrong = [(case.name, end["class"], end["message"]) for case, end in results[0] if end["class"] not in case.allowed]
    assert wrong == [], wrong


def test_every_failure_is_told_in_plain_words(results):
    for case, end in results[0]:
        assert bool(end["class"]) == bool(end["message"]), case.name
        assert "Errno" not in end["message"], case.name
        assert "<none>" not in end["message"], case.name


def test_a_frame_that_is_refused_for_its_size_says_so(results):
    message = next(end["message"] for case, end in results[0] if case.name == "16384 x 16384")
    assert "perhaps they are over the limit of 35651584 pixels" in message


def test_what_is_processed_has_frames(results):
    assert all(end["frames"] > 0 for _, end in results[0] if not end["class"])
    ends = {case.name: end for case, end in results[0]}
    assert ends["100,000 tiny frames"]["frames"] == 100_000
    assert ends["1 x 1"]["frames"] == 24


def test_no_file_takes_the_worker_far_above_what_a_good_one_takes(results):
    assert results[1] < 400 * 2**20


def test_a_video_that_needs_more_memory_than_there_is_fails_alone(tmp_path):
    good = write_video(tmp_path / "good.mp4", [Shot(1)], **SIZE).read_bytes()
    folder = tmp_path / "cases"
    folder.mkdir()
    for name, content in (("1", good), ("2", large_picture()), ("3", good)):
        (folder / name).write_bytes(content)
    told, _ = curate(folder, 450 * 2**20)
    assert [end["class"] for end in told] == ["", "out_of_memory", ""]
    assert told[1]["message"].startswith("out of memory: ")
