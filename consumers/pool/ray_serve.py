"""The worker pool on Ray Serve: an application of :class:`~consumers.pool.deployments.VideoCurator` replicas.

Where models are configured, each model stage is a deployment of its own beside the curators, which ask it by handle.

Ray Serve keeps the replicas alive and places them; what is decided here is which video goes to a replica when, and
what the end of a replica means for the video it held. Each replica takes one call at a time, and calls wait here, not
at a replica, so the only video that a dying replica takes with it is the one it was working on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError, PoolLostError, SluiceError, WorkerDiedError
from consumers.models.calls import MODEL_STAGES
from consumers.pool import cluster, embedded_ray
from consumers.pool.board import open_board
from consumers.pool.call_log import take_tail
from consumers.pool.deployments import VideoCurator
from consumers.pool.endings import translated
from consumers.pool.model_deployments import DEPLOYMENTS, ModelPools, bind, check_room
from consumers.pool.watch import Liveness, Reader
from consumers.pool.worker import OpenFutures
from consumers.pool_report import FIRST_STAGE, NOTHING_TO_REPORT, PoolReport, StageReplicas, compose
from consumers.ports import VideoProcessor
from schemas.models import ModelsParams
from schemas.records import Stage, VideoOutcome, VideoTask

_HEALTH_CHECK_PERIOD_S = 1.0
# A replica in native code that holds the interpreter's lock answers late, and is not to be killed for it.
_HEALTH_CHECK_TIMEOUT_S = 60.0
# A replica that is replaced goes on for so long after its last call: routers may not have heard of it yet.
_LINGER_S = 5.0
_POLL_S = 0.05
_AWAY_POLL_S = 1.0
_MAX_BACKOFF_S = 0.1
_MAX_CONSTRUCTOR_RETRIES = 3
# What a traceback puts before a message that is for a person already.
_OF_OURS = f"{ConfigurationError.__module__}.{ConfigurationError.__qualname__}: "


@dataclass(frozen=True, slots=True)
class RayPoolConfig:
    """Where and how large the pool is.

    Attributes:
        app_name: name of the Serve application: the same for each incarnation of a consumer, so that a new one takes
            over its predecessor's replicas, and different for each consumer.
        address: of a running Ray cluster, as host:port of its head or "auto"; None starts Ray on this machine, inside
            this process's life.
        num_replicas: worker processes.
        num_cpus_per_replica: cores that a cluster's scheduler counts for one.
        deadline_grace_s: time above a video's deadline after which its replica is ended.
        object_store_bytes: memory for results on their way, with Ray on this machine.
        start_timeout_s: time for the first replica to get ready.
        worker_memory_bytes: private memory that a worker may have; beyond it its video fails. None is no bound,
            and on a cluster a share of what the node has.
        drain_s: longest wait for a video in progress when a change of settings replaces its replica.
    """

    app_name: str = "sluice"
    address: str | None = None
    num_replicas: int = field(default_factory=lambda: os.cpu_count() or 1)
    num_cpus_per_replica: float = 1.0
    deadline_grace_s: float = 10.0
    object_store_bytes: int = 256 * 2**20
    start_timeout_s: float = 180.0
    worker_memory_bytes: int | None = None
    drain_s: float = 60.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.app_name):
            raise ConfigurationError(f"not a name for a Serve application: {self.app_name!r}")
        if self.address is not None and "://" in self.address:
            raise ConfigurationError(f"a Ray address is host:port or auto, without a scheme: {self.address}")
        if self.num_replicas < 1:
            raise ConfigurationError(f"the Ray pool needs 1 replica or more, not {self.num_replicas}")
        if self.num_cpus_per_replica < 0 or self.deadline_grace_s < 0 or self.start_timeout_s <= 0:
            raise ConfigurationError(
                "the Ray pool's num_cpus_per_replica, deadline_grace_s and start_timeout_s make no sense"
            )


class RayServePool:
    """Worker processes under Ray Serve. See the module for what is whose.

    Args:
        make_processor: picklable; called once in each replica, which must be able to import it.
        config: where and how large.
        models: the model stages; then ``make_processor`` is called with
            :class:`~consumers.models.calls.ClipModels`.
    """

    def __init__(
        self,
        make_processor: Callable[..., VideoProcessor],
        config: RayPoolConfig | None = None,
        models: ModelPools | None = None,
    ) -> None:
        self._make_processor = make_processor
        self._config = config or RayPoolConfig()
        self._models = models or ModelPools(ModelsParams())
        self._clock = SystemClock()
        self._open = OpenFutures(self._clock)
        self._is_started = False
        self._lost: PoolLostError | None = None
        self._board: Any = None
        self._reader: Reader | None = None
        self._liveness: Liveness | None = None
        self._gpus: dict[str, float] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._deployed_at_s: float | None = None
        self._takes_over = False
        self._call_numbers = itertools.count()

    @property
    def capacity(self) -> int:
        """One video for each replica, and one that waits for it."""
        return 2 * self._config.num_replicas

    def start(self) -> None:
        """Connect to Ray, or start it, and deploy; returns when one replica can take a video. Idempotent.

        Raises:
            ConfigurationError: no cluster at the address, Ray did not start, or no replica got ready.
        """
        if self._is_started:
            return
        if self._config.address is None:
            embedded_ray.acquire(
                self._config.num_replicas + self._models.num_processes,
                self._config.object_store_bytes,
                with_gpus=bool(self._models.names),
            )
        else:
            cluster.connect(self._config.address)
        self._is_started = True
        self._logs = embedded_ray.make_directory()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sluice-ray-calls", daemon=True)
        self._thread.start()
        self._slots = asyncio.Semaphore(self._config.num_replicas)
        try:
            self._handle = self._deploy()
            self._wait_for_replicas()
            self._watch()
        except SluiceError:
            self.close()
            raise
        except Exception as error:
            self.close()
            raise ConfigurationError(f"the workers could not be deployed: {type(error).__name__}: {error}") from error

    def _deploy(self) -> Any:
        from ray import serve  # noqa: PLC0415 - see embedded_ray
        from ray.serve.config import ProxyLocation  # noqa: PLC0415
        from ray.serve.schema import LoggingConfig  # noqa: PLC0415

        config = self._config
        # Importing Serve has set it to INFO, on a stream of its own.
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
        serve.start(proxy_location=ProxyLocation.Disabled, logging_config=quiet)
        # Embedded, every replica has its place: nothing is gained by counting cores, and consumers may share one Ray.
        actor_options: dict[str, Any] = {"num_cpus": 0}
        if config.address is not None:
            environment = {"env_vars": embedded_ray.WORKER_ENVIRONMENT}
            actor_options = {"num_cpus": config.num_cpus_per_replica, "runtime_env": environment}
        deployment = serve.deployment(
            name=VideoCurator.__name__,
            num_replicas=config.num_replicas,
            max_ongoing_requests=1,
            # A call that meets a replica still busy with the end of the last one looks again soon.
            request_router_config={"max_backoff_s": _MAX_BACKOFF_S},
            max_constructor_retry_count=_MAX_CONSTRUCTOR_RETRIES,
            ray_actor_options=actor_options,
            health_check_period_s=_HEALTH_CHECK_PERIOD_S,
            health_check_timeout_s=_HEALTH_CHECK_TIMEOUT_S,
            graceful_shutdown_timeout_s=config.drain_s,
            graceful_shutdown_wait_loop_s=_LINGER_S,
            logging_config=quiet,
        )(VideoCurator)
        app = deployment.bind(
            self._make_processor,
            config.deadline_grace_s,
            config.worker_memory_bytes,
            self._bound_models(quiet),
            self._board_name,
            None if config.address is None else config.num_cpus_per_replica,
        )
        self._takes_over = self._app_status() is not None
        # The private form does not wait for every replica, of which a cluster may have room for some only.
        handle = serve.api._run(app, _blocking=False, name=config.app_name, route_prefix=None)
        self._deployed_at_s = self._app_status().last_deployed_time_s
        return handle

    def _bound_models(self, logging_config: Any) -> dict[str, Any]:
        ray = _ray()
        gpus = [node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]]
        is_embedded = self._config.address is None
        if is_embedded or sum(gpus) > 0:
            # A cluster without GPUs may be one that adds nodes on demand.
            check_room(self._models, gpus)
        self._gpus = {name: self._models.gpus_per_replica(name, sum(gpus)) for name in self._models.names}
        return bind(
            self._models,
            is_embedded=is_embedded,
            cluster_gpus=sum(gpus),
            logging_config=logging_config,
            board=self._board_name,
        )

    @property
    def _board_name(self) -> str:
        return f"{self._config.app_name}-board"

    def _watch(self) -> None:
        self._head = cluster.head()
        self._board = open_board(self._board_name)
        self._reader = reader = Reader(
            self._board,
            lambda: [video.row_id for video in self._open.videos() if video.begun_s is not None],
            self._count_replicas,
            cluster.is_own_node_alive,
            self._is_well,
        )
        self._liveness = Liveness(
            lambda: embedded_ray.is_alive() and not reader.is_node_dead,
            lambda: cluster.answers(self._head),
            self._on_lost,
        )

    def _is_well(self) -> bool:
        return embedded_ray.is_alive() and cluster.answers(self._head)

    def _count_replicas(self) -> dict[Stage, StageReplicas]:
        app = self._app_status()
        if app is None:
            return {}
        names = {FIRST_STAGE: (VideoCurator.__name__, 0.0)}
        names |= {MODEL_STAGES[name]: (DEPLOYMENTS[name], self._gpus[name]) for name in self._models.names}
        return {
            stage: StageReplicas(app.deployments[name].replica_states.get("RUNNING", 0), gpus)
            for stage, (name, gpus) in names.items()
            if name in app.deployments
        }

    def _on_lost(self, what: str) -> None:
        self._lost = PoolLostError(f"{what}; the worker pool is started anew, and no video is to blame")
        self._open.lose(self._lost)

    def _app_status(self) -> Any:
        from ray import serve  # noqa: PLC0415

        return serve.status().applications.get(self._config.app_name)

    def _wait_for_replicas(self) -> None:
        """Return when every deployment has a replica."""
        give_up_at_s = time.monotonic() + self._config.start_timeout_s
        needed = [VideoCurator.__name__, *(DEPLOYMENTS[name] for name in self._models.names)]
        while True:
            app = self._app_status()
            found = {} if app is None else app.deployments
            missing = [
                name for name in needed if name not in found or found[name].replica_states.get("RUNNING", 0) == 0
            ]
            # Serve does not say whose replicas run: those of a predecessor count only once the change is complete.
            # At first not even the deployments have heard of the change; the application has.
            is_changing = self._takes_over and (
                (app is not None and app.status != "RUNNING")
                or any(found[name].status != "HEALTHY" for name in needed if name in found)
            )
            is_late = time.monotonic() > give_up_at_s
            if not missing and (is_late or not is_changing):
                return
            if app is not None and app.status == "DEPLOY_FAILED":
                # Others that are not there yet have a message as well: that they are still waiting.
                messages = [status.message for status in found.values() if status.status == "DEPLOY_FAILED"]
                raise ConfigurationError(f"no worker could be started: {_last_line((messages or [app.message])[0])}")
            if is_late:
                raise ConfigurationError(
                    f"no {' and no '.join(missing)} got ready within {self._config.start_timeout_s:g} s; "
                    f"{self._room_wanted(missing)}"
                )
            time.sleep(_POLL_S)

    def _room_wanted(self, missing: list[str]) -> str:
        ray = _ray()
        total, free = ray.cluster_resources(), ray.available_resources()
        cpus = {VideoCurator.__name__: self._config.num_cpus_per_replica}
        gpus = {VideoCurator.__name__: 0.0}
        for name in self._models.names:
            cpus[DEPLOYMENTS[name]] = self._models.config(name).num_cpus
            gpus[DEPLOYMENTS[name]] = self._models.gpus_per_replica(name, total.get("GPU", 0.0))
        wanted = ", ".join(f"{name} {cpus[name]:g} CPU and {gpus[name]:g} GPU" for name in missing)
        has = ", ".join(f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU"))
        return f"a replica needs: {wanted}; the cluster has free: {has}. Lower the shares in [pool], or add nodes"

    def submit(self, task: VideoTask) -> Future[VideoOutcome]:
        """Queue one video for the next free replica; never blocks."""
        future = self._open.add(task.video.row_id)
        if not future.done():
            # A pool that is being closed at this moment has ended the future, or will; then nobody needs the loop.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._begin, task, future)
        return future

    def report(self) -> PoolReport:
        """Return where the videos stand, as their workers have told the board."""
        reader = self._reader
        if reader is None:
            return NOTHING_TO_REPORT
        return compose(self._open.videos(), reader.heard, reader.replicas, self._clock.monotonic_s())

    def _begin(self, task: VideoTask, future: Future[VideoOutcome]) -> None:
        call = self._loop.create_task(self._call(task, future))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, task: VideoTask, future: Future[VideoOutcome]) -> None:
        async with self._slots:
            if not self._open.begin(future):
                return
            began_s = time.monotonic()
            log_path = self._logs[0] / f"{next(self._call_numbers)}.log"
            result: VideoOutcome | WorkerDiedError
            try:
                result = await self._handle.process.remote(task, str(log_path))
            except Exception as error:
                elapsed_s, log_tail = time.monotonic() - began_s, take_tail(log_path)
                while not await asyncio.to_thread(self._is_well):
                    # It may come back; if not, the liveness check ends this future with all others.
                    await asyncio.sleep(_AWAY_POLL_S)
                result = translated(error, task, elapsed_s, log_tail)
        self._open.end(future, result)

    def close(self) -> None:
        """End the open futures, remove the application, and stop Ray if this process started it. Idempotent."""
        if not self._open.close() or not self._is_started:
            return
        if self._reader is not None and self._liveness is not None:
            self._reader.stop()
            self._liveness.stop()
            self._reader = None
        asyncio.run_coroutine_threadsafe(self._cancel_calls(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        embedded_ray.remove_directory(*self._logs)
        try:
            # The application ends with its Ray; asking a Ray that is broken to remove it could take for ever.
            is_left_to_others = self._config.address is not None or embedded_ray.is_shared()
            if is_left_to_others and self._lost is None:
                self._delete_app()
        finally:
            if self._config.address is None:
                embedded_ray.release()
            else:
                cluster.disconnect()

    async def _cancel_calls(self) -> None:
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def _delete_app(self) -> None:
        """Remove the application, unless a newer incarnation of the consumer has taken it over."""
        from ray import serve  # noqa: PLC0415

        if self._deployed_at_s is None:
            return
        try:
            app = self._app_status()
            if app is not None and app.last_deployed_time_s == self._deployed_at_s:
                # Not waited for: a replica may still be busy with a video whose future has ended here.
                serve.delete(self._config.app_name, _blocking=False)
                if self._board is not None:
                    _ray().kill(self._board)
        except Exception:
            logging.getLogger(__name__).warning("The application %s could not be removed.", self._config.app_name)


def _ray() -> Any:
    import ray  # noqa: PLC0415 - see embedded_ray

    return ray


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix(_OF_OURS) if lines else "no reason given"
