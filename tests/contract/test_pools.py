import functools
import itertools
import os
import signal
import subprocess
import threading
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.loop.reports import SilentObserver
from consumers.pool.inline import InlinePool
from consumers.pool.ray_serve import RayPoolConfig, RayServePool
from consumers.pool_report import FIRST_STAGE
from consumers.testing import FakeSink, FakeSource, FakeTables
from schemas.positions import Position
from schemas.records import Stage, VideoStatus
from service.host.supervisor import Incarnation, Supervisor
from tests.contract.pool_suite import PATIENCE_S, IsolatingPoolSuite, PoolSuite, consume
from tests.contract.report_suite import ReportSuite, eventually
from tests.support.pool_processors import make_scripted, task

ROOT = Path(__file__).parents[2]


class HeldByAFile:
    """The two fixtures of the report's suite for pools of make_scripted."""

    @pytest.fixture
    def gate(self, tmp_path):
        yield tmp_path / "gate"
        (tmp_path / "gate").touch()

    @pytest.fixture
    def hold(self, gate):
        return lambda pool, row_id, stage: pool.submit(task(row_id, "stand_at", f"{stage}@{gate}"))

    @pytest.fixture
    def let_go(self, gate):
        return gate.touch


class TestInlinePool(PoolSuite, HeldByAFile, ReportSuite):
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


_numbers = itertools.count()
CONFIG = RayPoolConfig(app_name="pool-suite", num_replicas=2, deadline_grace_s=0.5, worker_memory_bytes=2**30)


def workers(pool):
    """Return the process ids of the replicas of ``pool``."""
    futures = [pool.submit(task(row_id, "tell_pid")) for row_id in range(20)]
    return {int(future.result(PATIENCE_S).clips[0].clip_id.split("-")[0]) for future in futures}


@pytest.mark.ray
class TestRayServePool(IsolatingPoolSuite, HeldByAFile, ReportSuite):
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
        # They share the Ray that ``pool`` started; each has a name of its own, as its predecessor may still be closing.
        name = f"pool-suite-{next(_numbers)}"
        return functools.partial(RayServePool, config=replace(CONFIG, app_name=name, num_replicas=1))

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

    def test_the_death_of_the_board_costs_the_report_only(self, pool, hold, let_go):
        future = hold(pool, 1, Stage.DECODE)
        eventually(lambda: pool.report().videos[1].stage is Stage.DECODE)
        # Counted now and then; an earlier test may have killed one just before.
        eventually(lambda: pool.report().replicas[FIRST_STAGE].num_running in {1, 2})
        os.kill(min(children_running("StageBoard")), signal.SIGKILL)
        others = [pool.submit(task(row_id)) for row_id in range(10, 20)]
        let_go()
        assert all(each.result(PATIENCE_S).status is VideoStatus.CURATED for each in [future, *others])

    def test_workers_use_one_thread_each(self, pool):
        outcome = pool.submit(task(0, "tell_environment", "OMP_NUM_THREADS")).result(PATIENCE_S)
        assert outcome.clips[0].clip_id == "1-0"

    def test_workers_begin_with_two_heaps(self, pool):
        outcome = pool.submit(task(0, "tell_environment", "MALLOC_ARENA_MAX")).result(PATIENCE_S)
        assert outcome.clips[0].clip_id == "2-0"

    def test_ray_leaves_the_signal_handler_and_the_home_directory_alone(self, pool):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "1"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    def test_no_other_user_reaches_the_sockets_of_ray(self, pool):
        sockets = [
            Path(connection.laddr)
            for process in psutil.Process().children(recursive=True)
            for connection in process.net_connections("unix")
            if "/sluice-ray-" in str(connection.laddr)
        ]
        assert sockets
        listing = subprocess.run(
            ["ls", *{str(path.parent) for path in sockets}], capture_output=True, text=True, user=65534, check=False
        )
        assert listing.stdout == ""
        assert "Permission denied" in listing.stderr

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

    # The last one: it takes the pool of the others with it.
    def test_a_ray_that_dies_under_load_is_replaced_and_every_video_ends_once(self, pool, tmp_path):
        gate, source, tables = tmp_path / "gate", FakeSource(), FakeTables()
        scripts = [("keep", "")] * 4 + [("wait_for_file", str(gate))] * 8
        source.append(*(scripted(row_id, *script) for row_id, script in enumerate(scripts)))
        observer, attempts = Attempts(), []

        def build():
            # The first incarnation runs on the pool of the class, and never gets beyond the gate.
            if attempts:
                gate.touch()
            own = pool if not attempts else RayServePool(make_scripted, replace(CONFIG, num_replicas=1))
            attempts.append(own)
            config = ProcessorConfig(CommitPolicy(0.2), poll_interval_s=0.1)
            loop = Processor(source, FakeSink(tables), own, SystemClock(), config=config, observer=observer)
            return Incarnation(loop, own.start, own.close)

        supervisor = Supervisor("suite", build, SystemClock())
        supervisor.start()
        try:
            eventually(lambda: tables.position == Position(4) and len(pool.report().videos) == 4)
            for child in psutil.Process().children():
                if child.name() == "raylet":
                    child.kill()
            eventually(lambda: tables.position == Position(12), 2 * PATIENCE_S)
        finally:
            supervisor.shutdown(5.0)
            assert supervisor.join(PATIENCE_S)
        status = supervisor.status()
        assert (status.num_restarts, status.last_error.error_class) == (1, "PoolLostError")
        assert "no video is to blame" in status.last_error.message
        assert sorted(tables.ledger) == list(range(12))
        assert (tables.duplicates(), tables.failures, observer.num_retries) == ([], {}, 0)


class Attempts(SilentObserver):
    def __init__(self):
        self.num_retries = 0

    def retried(self, video, attempt, reason, delay_s):
        self.num_retries += 1


def scripted(row_id, do, argument):
    return task(row_id, do, argument).video


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
