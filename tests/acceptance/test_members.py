"""Processes that come and go, and the shards that follow them; real processes on a real table."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from consumers.media.samples import Shot, write_video

SLUICE = str(Path(sys.executable).with_name("sluice"))
_WAIT_S = 90.0


class MemberProcess:
    """`sluice run` as one member; its lines are read as they come."""

    def __init__(self, folder: Path, index: int) -> None:
        self._process = subprocess.Popen(
            [SLUICE, "run", "--pool", "inline", "--shard", f"{index}/auto", "--port", "0"],
            cwd=folder,
            env={**os.environ, "SLUICE_API__METRICS_PORT": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def wait_until_it_says(self, pattern: str) -> None:
        """Return once a line that matches has come, after all that were waited for before."""
        while True:
            try:
                self._said.append(self._lines.get(timeout=_WAIT_S))
            except queue.Empty:
                pytest.fail(f"no {pattern!r} in:\n{''.join(self._said)}")
            if re.search(pattern, self._said[-1]):
                return

    def end(self, number: int = signal.SIGTERM) -> int:
        self._process.send_signal(number)
        code = self._process.wait(60)
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    sluice(tmp_path, "init", "--warehouse", "warehouse", "--allow", "media")
    write_video(tmp_path / "good.mp4", [Shot(1, seed=1)], width=96, height=64, fps=12)
    return tmp_path


def sluice(folder: Path, *arguments: str) -> str:
    done = subprocess.run([SLUICE, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def land(folder: Path, name: str, count: int) -> None:
    for index in range(count):
        (folder / "media" / f"{name}{index}.mp4").hardlink_to(folder / "good.mp4")
    sluice(folder, "ingest", "media")


@pytest.mark.timeout(300)
def test_members_come_and_are_killed_and_return_and_every_video_is_curated_once(folder: Path) -> None:
    land(folder, "a", 6)
    first = MemberProcess(folder, 0)
    first.wait_until_it_says("does shard 0/1")
    second = MemberProcess(folder, 1)
    second.wait_until_it_says("rests until it gets one")
    first.wait_until_it_says("does shard 0/2")
    second.wait_until_it_says("does shard 1/2")
    land(folder, "b", 6)
    # A second process with a member's number is refused.
    copy = subprocess.run([SLUICE, "run", "--shard", "1/auto"], cwd=folder, capture_output=True, text=True, check=False)
    assert copy.returncode == 2
    assert "consumer default, member 1: process" in copy.stderr
    second.end(signal.SIGKILL)
    # Its shard is kept for it, and it goes on at once: a dead process on this machine holds nobody up.
    second = MemberProcess(folder, 1)
    second.wait_until_it_says("does shard 1/2")
    second.wait_until_it_says("control plane")
    land(folder, "c", 6)
    assert (second.end(), first.end()) == (0, 0)
    assert json.loads(sluice(folder, "status", "--json"))["shards"] == 2
    sluice(folder, "rescale", "1")
    sluice(folder, "run", "--until-caught-up", "--pool", "inline")
    audit = json.loads(sluice(folder, "audit", "--json"))
    assert (audit["rows"], audit["ledger_rows"], audit["clips"], audit["ok"]) == (18, 18, 18, True)


def test_member_cannot_be_had_for_a_run_that_ends_by_itself(folder: Path) -> None:
    done = subprocess.run(
        [SLUICE, "run", "--until-caught-up", "--pool", "inline", "--shard", "0/auto"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "setting consumer.shard: is 0/auto, and this command needs a fixed one" in done.stderr
