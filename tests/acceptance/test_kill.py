"""`sluice run` killed with SIGKILL at random instants, and restarted each time."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.media.samples import Shot, write_video
from service import wiring
from service.settings import load_settings

SEED = int(os.environ.get("SLUICE_TEST_SEED", "20261124"))
SLUICE = Path(sys.executable).with_name("sluice")


class Service:
    """A warehouse with settings of its own, and the command that serves it."""

    def __init__(self, root: Path, pool: str) -> None:
        self.root = root
        self.media = root / "media"
        self.media.mkdir()
        self.config = root / "sluice.toml"
        self.sluice("init", "--warehouse", str(root / "warehouse"), "--allow", str(self.media))
        self.config.write_text(
            self.config.read_text().replace(
                'id = "default"', 'id = "default"\npoll_interval_s = 0.05\ncommit_interval_s = 0.1'
            )
        )
        self._pool = pool
        self._templates = self._make_templates()
        self._num_files = 0

    def _make_templates(self) -> list[Path]:
        paths = []
        for name, shot in (("good", Shot(1, seed=1)), ("static", Shot(1, "static", seed=3))):
            path = self.root / f"{name}.mp4"
            write_video(path, [shot], width=96, height=64, fps=12)
            paths.append(path)
        text = self.root / "text.mp4"
        text.write_text("no video")
        return [*paths, text]

    def land(self, count: int) -> None:
        """Register ``count`` more videos."""
        folder = self.media / str(self._num_files)
        folder.mkdir()
        for index in range(count):
            shutil.copy(self._templates[index % len(self._templates)], folder / f"{index}.mp4")
        self._num_files += count
        settings = load_settings(self.config)
        wiring.register(settings, wiring.find_objects(settings, [str(folder)]))

    def sluice(self, *arguments: str) -> str:
        done = subprocess.run(
            [SLUICE, *arguments], cwd=self.root, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, f"sluice {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start `sluice run` and return once it has said which consumer it is."""
        process = subprocess.Popen(
            [SLUICE, "run", "--no-api", "--pool", self._pool, *options],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("consumer default")
        return process

    def finish(self) -> dict[str, int]:
        """Run to the end of the table and return the audit."""
        self.sluice("run", "--until-caught-up", "--pool", self._pool)
        return json.loads(self.sluice("audit", "--json"))


def kill_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """Let ``process`` run for ``seconds``, kill it and all its children, and return whether it was still alive."""
    with process:
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return True
    return False


def assert_exactly_once(audit: dict[str, int], rows: int) -> None:
    assert audit["rows"] == audit["ledger_rows"] == rows
    faults = ("missing", "duplicated", "unaccounted", "clips_missing", "clips_duplicated", "pending")
    assert {name: audit[name] for name in faults} == dict.fromkeys(faults, 0)
    assert audit["clips"] == len(range(0, rows, 3)), "every third video is good, with one shot"


@pytest.mark.timeout(600)
def test_service_killed_twenty_times_two_copies_for_a_while_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    random_instant = random.Random(SEED)
    service = Service(tmp_path, "inline")
    num_killed = 0
    for round_ in range(20):
        service.land(12)
        copies = [service.start()]
        if 7 <= round_ < 13:
            copies.append(service.start("--take-over"))
        # Of two copies the one that takes over last goes on, the other ends by itself: fenced.
        kills = [kill_after(copies[0], random_instant.uniform(0.0, 1.5)), *(kill_after(copy, 0) for copy in copies[1:])]
        num_killed += any(kills)
    assert num_killed == 20, f"seed {SEED}: the service ended by itself"
    assert_exactly_once(service.finish(), 240)


@pytest.mark.timeout(600)
def test_service_with_the_ray_pool_killed_three_times_loses_and_repeats_nothing(tmp_path: Path) -> None:
    random_instant = random.Random(SEED)
    service = Service(tmp_path, "ray")
    for _ in range(3):
        service.land(12)
        assert kill_after(service.start(), random_instant.uniform(8, 16))
    assert_exactly_once(service.finish(), 36)
