"""The model stages as Serve deployments beside the curators: how many, how large, and on which share of a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from consumers.errors import ConfigurationError
from consumers.models.calls import MODEL_STAGES, configured
from consumers.models.worker import ModelWorker, load_worker
from consumers.pool import embedded_ray
from schemas.models import ModelsParams, OpenAIChatParams

DEPLOYMENTS = {"nsfw": "NsfwScorer", "aesthetic": "AestheticScorer", "captioner": "Captioner"}
"""Name of the deployment that serves each field of :class:`~schemas.models.ModelsParams`."""

_GPU_SHARES = {"nsfw": 0.2, "aesthetic": 0.2, "captioner": 0.6}
"""What a replica gets of a GPU where there is one and nothing is said: one replica of each fits on one GPU."""

_HEALTH_CHECK_PERIOD_S = 1.0
_HEALTH_CHECK_TIMEOUT_S = 60.0
_MAX_BACKOFF_S = 0.1
# A replica that is replaced goes on for so long after its last call: routers may not have heard of it yet.
_LINGER_S = 5.0
_MAX_CONSTRUCTOR_RETRIES = 2


@dataclass(frozen=True, slots=True)
class ModelPoolConfig:
    """How one model stage is deployed.

    Attributes:
        num_replicas: worker processes; the least where ``max_replicas`` is above.
        max_replicas: Serve adds replicas up to so many under load; None for a fixed number.
        max_batch: most clips in one batch.
        linger_s: longest wait for a batch to fill, in seconds.
        num_gpus: GPUs for a replica, a fraction up to 1 or a whole number; None is a share of one where the cluster
            has GPUs, else none.
        num_cpus: cores for a replica: that a cluster's scheduler counts, and threads of torch.
        resources: custom resources of Ray for a replica, such as {"A100": 1}, to choose nodes.
        stuck_after_s: a batch that takes longer ends its replica.
        drain_s: longest wait for calls in progress when a replica is replaced.
    """

    num_replicas: int = 1
    max_replicas: int | None = None
    max_batch: int = 16
    linger_s: float = 0.05
    num_gpus: float | None = None
    num_cpus: float = 1.0
    resources: Mapping[str, float] = field(default_factory=dict)
    stuck_after_s: float = 300.0
    drain_s: float = 60.0

    def __post_init__(self) -> None:
        if self.num_replicas < 1 or (self.max_replicas is not None and self.max_replicas < self.num_replicas):
            raise ConfigurationError(
                f"a model stage needs 1 replica or more, and at most max_replicas: {self.num_replicas}, "
                f"{self.max_replicas}"
            )
        if self.max_batch < 1 or self.linger_s < 0 or self.num_cpus < 0 or self.stuck_after_s <= 0 or self.drain_s < 0:
            raise ConfigurationError("a model stage's max_batch, linger_s, num_cpus or stuck_after_s makes no sense")
        gpus = self.num_gpus
        if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
            raise ConfigurationError(f"GPUs for a replica are a fraction up to 1 or a whole number, not {gpus:g}")


@dataclass(frozen=True, slots=True)
class ModelPools:
    """The models of a profile and how each is deployed.

    Attributes:
        models: pinned.
        configs: by field of ``models``; the default for those that are missing.
    """

    models: ModelsParams
    configs: Mapping[str, ModelPoolConfig] = field(default_factory=dict)

    def config(self, name: str) -> ModelPoolConfig:
        """Return how the model ``name`` is deployed."""
        return self.configs.get(name, ModelPoolConfig())

    @property
    def names(self) -> tuple[str, ...]:
        """The configured models, in the order of the pipeline."""
        return tuple(configured(self.models))

    @property
    def num_processes(self) -> int:
        """Worker processes that all of them need at the start."""
        return sum(self.config(name).num_replicas for name in self.names)

    def gpus_per_replica(self, name: str, cluster_gpus: float) -> float:
        """Return the GPUs for a replica of ``name`` on a cluster with so many."""
        params = configured(self.models)[name]
        if isinstance(params, OpenAIChatParams) or params.device == "cpu":
            return 0.0
        stated = self.config(name).num_gpus
        if stated is not None:
            return stated
        return _GPU_SHARES[name] if cluster_gpus > 0 else 0.0


def check_room(pools: ModelPools, gpus_per_node: list[float]) -> None:
    """Return if the GPU shares of all first replicas find a place.

    Args:
        pools: what is to be placed.
        gpus_per_node: GPUs that each node has.

    Raises:
        ConfigurationError: one does not, and which.
    """
    # Ray fills whole GPUs with fractions, and never splits a fraction over two.
    gpus = [[1.0] * int(count) for count in gpus_per_node]
    total = sum(gpus_per_node)
    demands = [
        (pools.gpus_per_replica(name, total), name)
        for name in pools.names
        for _ in range(pools.config(name).num_replicas)
    ]
    for demand, name in sorted(demands, reverse=True):
        if demand > 0 and not _place(demand, gpus):
            raise ConfigurationError(
                f"a worker of {DEPLOYMENTS[name]} asks for {demand:g} GPU, and " + _remedy(name, total)
            )


def _remedy(name: str, total_gpus: float) -> str:
    if total_gpus == 0:
        return f"Ray sees none; set pool.{name}.gpus to 0 to run it on CPUs, or add GPUs"
    return (
        f"on the {total_gpus:g} that Ray sees there is no room for it beside the other workers of models; lower "
        f"pool.{name}.gpus or pool.{name}.replicas, set pool.{name}.gpus to 0 to run it on CPUs, or add GPUs"
    )


def _place(demand: float, gpus: list[list[float]]) -> bool:
    for node in gpus:
        if demand <= 1:
            for index, free in enumerate(node):
                if free + 1e-6 >= demand:
                    node[index] = free - demand
                    return True
        else:
            empty = [index for index, free in enumerate(node) if free == 1.0]
            if len(empty) >= demand:
                for index in empty[: int(demand)]:
                    node[index] = 0.0
                return True
    return False


def bind(
    pools: ModelPools, *, is_embedded: bool, cluster_gpus: float, logging_config: Any, board: str
) -> dict[str, Any]:
    """Return each model's deployment as a bound application, by field, to be composed with the curators'.

    Args:
        pools: what to deploy.
        is_embedded: Ray is on this machine for this process alone: cores are not counted.
        cluster_gpus: that Ray has.
        logging_config: of Serve.
        board: name of the board that the replicas write on.
    """
    return {
        name: _deployment(pools, name, is_embedded, cluster_gpus, logging_config).bind(
            _loader(pools, name, cluster_gpus), pools.config(name).stuck_after_s, MODEL_STAGES[name], board
        )
        for name in pools.names
    }


def _loader(pools: ModelPools, name: str, cluster_gpus: float) -> Callable[[], Any]:
    uses_gpu = pools.gpus_per_replica(name, cluster_gpus) > 0
    return partial(_load, pools.models, name, max(1, int(pools.config(name).num_cpus)), uses_gpu)


def _load(models: ModelsParams, name: str, num_threads: int, uses_gpu: bool) -> ModelWorker[Any]:
    if not uses_gpu:
        # Ray leaves the GPUs visible to a worker that has no share of one, and torch would take it.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return load_worker(models, name, num_threads)


def _deployment(pools: ModelPools, name: str, is_embedded: bool, cluster_gpus: float, logging_config: Any) -> Any:
    from ray import serve  # noqa: PLC0415 - see embedded_ray

    from consumers.pool.model_replica import ModelReplica  # noqa: PLC0415

    config = pools.config(name)
    options: dict[str, Any] = {
        "num_cpus": 0 if is_embedded else config.num_cpus,
        "num_gpus": pools.gpus_per_replica(name, cluster_gpus),
        "resources": dict(config.resources),
    }
    if not is_embedded:
        threads = str(max(1, int(config.num_cpus)))
        threaded = dict.fromkeys(embedded_ray.SINGLE_THREADED, threads)
        options["runtime_env"] = {"env_vars": {**threaded, **embedded_ray.FEW_ARENAS}}
    scaling: dict[str, Any] = {"num_replicas": config.num_replicas}
    if config.max_replicas is not None and config.max_replicas > config.num_replicas:
        scaling = {
            "autoscaling_config": {
                "min_replicas": config.num_replicas,
                "max_replicas": config.max_replicas,
                # A batch in the model and as much again waiting is what keeps a replica busy.
                "target_ongoing_requests": 2 * config.max_batch,
            }
        }
    return serve.deployment(
        name=DEPLOYMENTS[name],
        **scaling,
        max_ongoing_requests=4 * config.max_batch,
        request_router_config={"max_backoff_s": _MAX_BACKOFF_S},
        max_constructor_retry_count=_MAX_CONSTRUCTOR_RETRIES,
        ray_actor_options=options,
        # Not an argument of the constructor: Serve tells running replicas, instead of replacing them.
        user_config={"max_batch": config.max_batch, "linger_s": config.linger_s},
        health_check_period_s=_HEALTH_CHECK_PERIOD_S,
        health_check_timeout_s=_HEALTH_CHECK_TIMEOUT_S,
        graceful_shutdown_timeout_s=config.drain_s,
        graceful_shutdown_wait_loop_s=_LINGER_S,
        logging_config=logging_config,
    )(ModelReplica)
