import functools
import os
import signal
import threading
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from consumers.errors import ConfigurationError
from consumers.pool.inline import InlinePool
from consumers.pool.ray_serve import RayPoolConfig, RayServePool
from tests.contract.pool_suite import PATIENCE_S, IsolatingPoolSuite, PoolSuite, consume
from tests.pool_processors import make_scripted, task

ROOT = Path(__file__).parents[2]


class TestInlinePool(PoolSuite):
    @pytest.fixture
    def make_pool(self):
        return functools.partial(InlinePool, num_workers=2)

    @pytest.fixture(scope="class")
    @classmethod
    def pool(cls):
        pool = InlinePool(make_scripted, num_workers=2)
        pool.start()
        yield pool
        pool.close()

    def test_no_workers_are_refused(self):
        with pytest.raises(ConfigurationError, match="not 0"):
            InlinePool(make_scripted, num_workers=0)


CONFIG = RayPoolConfig(app_name="pool-suite", num_replicas=2, deadline_grace_s=0.5, worker_memory_bytes=2**30)


def workers(pool):
    """Return the process ids of the replicas of ``pool``."""
    futures = [pool.submit(task(row_id, "tell_pid")) for row_id in range(20)]
    return {int(future.result(PATIENCE_S).clips[0].clip_id.split("-")[0]) for future in futures}


class TestRayServePool(IsolatingPoolSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def pool(cls):
        with pytest.MonkeyPatch.context() as patch:
            # The workers import the test's processors.
            patch.setenv("PYTHONPATH", str(ROOT))
            pool = RayServePool(make_scripted, CONFIG)
            pool.start()
            yield pool
            pool.close()

    @pytest.fixture
    def make_pool(self, pool):
        # They share the Ray that ``pool`` started.
        return functools.partial(RayServePool, config=replace(CONFIG, app_name="pool-suite-second", num_replicas=1))

    def test_a_worker_killed_under_load_loses_no_video(self, pool, tmp_path):
        gate = tmp_path / "gate"
        busy = [pool.submit(task(row_id, "wait_for_file", str(gate))) for row_id in range(2)]
        killer = threading.Timer(
            1.0, lambda: (os.kill(min(children_running(VIDEO_CURATOR)), signal.SIGKILL), gate.touch())
        )
        killer.start()
        report, tables = consume(pool, [("wait_for_file", str(gate))] * 12)
        killer.join()
        assert not wait(busy, PATIENCE_S).not_done
        assert report.counts.num_curated == 12
        assert len(tables.clips) == 12

    def test_workers_use_one_thread_each(self, pool):
        outcome = pool.submit(task(0, "tell_environment", "OMP_NUM_THREADS")).result(PATIENCE_S)
        assert outcome.clips[0].clip_id == "1-0"

    def test_ray_leaves_the_signal_handler_and_the_home_directory_alone(self, pool):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "1"

    def test_only_replicas_listen_beyond_loopback(self, pool):
        beyond = {
            process.name()
            for process in psutil.Process().children(recursive=True)
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and "127.0.0.1" not in connection.laddr.ip
        }
        assert {name for name in beyond if not name.startswith("ray::ServeRepl")} == set()

    def test_what_ray_says_about_dead_workers_stays_off_standard_output(self, pool, capfd):
        pool.submit(task(0, "exit")).exception(PATIENCE_S)
        assert workers(pool)
        assert capfd.readouterr().out == ""


VIDEO_CURATOR = "VideoCurator"


def children_running(name):
    """Return the ids of this process's descendants whose title says that they run ``name``."""
    return {
        child.pid
        for child in psutil.Process().children(recursive=True)
        if any(name in word for word in child.cmdline())
    }


def test_an_address_without_a_cluster_is_a_configuration_error():
    pool = RayServePool(make_scripted, replace(CONFIG, address="127.0.0.1:1"))
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:1"):
        pool.start()


@pytest.mark.parametrize(
    "bad", [{"app_name": "a/b"}, {"num_replicas": 0}, {"address": "ray://host:10001"}, {"start_timeout_s": 0}]
)
def test_a_senseless_ray_pool_is_refused(bad):
    with pytest.raises(ConfigurationError):
        RayPoolConfig(**bad)
