"""The pool on a Ray cluster that somebody else has started, with a token."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from consumers.errors import ConfigurationError
from consumers.media.samples import Shot, write_video
from consumers.pool import cluster
from consumers.pool.container import memory_limit
from consumers.pool.memory_plan import share_of_node

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[4]
# On a machine that is busy with other tests.
PATIENCE_S = 120


def eventually(condition) -> bool:
    give_up_at_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > give_up_at_s:
            return False
        time.sleep(0.2)
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Head:
    """A head node in the care of the test."""

    port: int
    environment: dict[str, str]
    process: psutil.Process

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def running(self, what: str) -> list[str]:
        """Return the titles of the cluster's processes that name ``what``."""
        titles = []
        for child in self.process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                titles.append(" ".join(child.cmdline()))
        return [title for title in titles if what in title]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    # Ray's sockets need a short path.
    folder = tempfile.mkdtemp(prefix="ray-")
    port, client_port = free_port(), free_port()
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    # Its workers import the processors of the tests, as a real cluster has the package that it works with.
    environment = {**os.environ, **token, "PYTHONPATH": str(ROOT)}
    arguments = f"start --head --block --node-ip-address 127.0.0.1 --port {port} --ray-client-server-port {client_port}"
    sizes = f"--include-dashboard=false --num-cpus 2 --object-store-memory 100000000 --temp-dir {folder}"
    with subprocess.Popen(
        [BIN / "ray", *arguments.split(), *sizes.split()],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        started = Head(port, environment, psutil.Process(process.pid))
        try:
            assert eventually(started.answers)
            yield started
        finally:
            # Asked to end, it takes half a minute over it.
            for child in [*started.process.children(recursive=True), started.process]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            process.wait(PATIENCE_S)
            shutil.rmtree(folder, ignore_errors=True)


def test_a_demo_runs_on_the_cluster_and_leaves_it_as_it_was(head: Head, tmp_path: Path) -> None:
    for number in range(2):
        write_video(tmp_path / f"{number}.mp4", [Shot(3, seed=number + 1, speed_px=4)], width=96, height=64, fps=12)
    done = subprocess.run(
        [BIN / "sluice", "demo", "--pool", "ray", "--media", tmp_path, "--json"],
        env={**head.environment, "SLUICE_POOL__ADDRESS": head.address, "SLUICE_POOL__REPLICAS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # It exits with 1 where the audit finds anything.
    assert json.loads(done.stdout)["audit"]["ledger_rows"] == 2
    assert eventually(lambda: not head.running("VideoCurator") and not head.running("StageBoard"))
    assert head.answers()
    assert head.running("ServeController")


_TELL_LIMIT = """
import sys
from consumers.pool.ray_serve import RayPoolConfig, RayServePool
from tests.support.pool_processors import make_scripted, task

pool = RayServePool(make_scripted, RayPoolConfig(app_name="limits", address=sys.argv[1], num_replicas=1))
pool.start()
print(pool.submit(task(1, "tell_memory_limit")).result().clips[0].clip_id.split("-")[0])
pool.close()
"""


def test_a_worker_of_a_cluster_is_bound_to_its_share_of_the_node(head: Head) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TELL_LIMIT, head.address],
        env=head.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The node has two CPUs, the worker is given one of them.
    expected = share_of_node(
        memory_limit(), wanted_bytes=None, object_store_bytes=100_000_000.0, cpus=1.0, node_cpus=2.0
    )
    assert int(done.stdout.splitlines()[-1]) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}, "refuses the one of this process"),
        ({"RAY_AUTH_MODE": "disabled"}, "this process has none"),
    ],
)
def test_a_wrong_token_is_refused_and_says_what_to_set(head: Head, monkeypatch, changes, problem) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:\d+ .*{problem}; set RAY_AUTH_MODE"):
        cluster.connect(head.address)


def test_the_token_may_come_from_a_file_as_ray_reads_it(head: Head, monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(head.environment["RAY_AUTH_TOKEN"] + "\n")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    cluster.check_token(head.address)
