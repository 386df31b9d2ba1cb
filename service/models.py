"""From the settings to the models: pinned revisions, how each is deployed, and the inline pool's own copies."""

from __future__ import annotations

import threading
from collections.abc import Callable

from consumers.errors import ConfigurationError
from consumers.models.calls import ClipModels, configured
from consumers.pool.model_deployments import ModelPoolConfig, ModelPools
from consumers.ports import VideoProcessor
from schemas.models import CheckpointParams, ModelsParams
from service.settings import ModelPoolSettings, Settings


def pinned(settings: Settings) -> Settings:
    """Return ``settings`` with the revision of every model directory filled in: rows name what scored them.

    A directory whose revision is stated need not be on this machine; the workers check theirs.

    Raises:
        ConfigurationError: a directory holds no checkpoint that can be loaded, or the packages are missing.
    """
    models = settings.profile.models
    open_ones = [
        params
        for params in configured(models).values()
        if isinstance(params, CheckpointParams) and params.is_local and params.revision is None
    ]
    if models is None or not open_ones:
        return settings
    try:
        from consumers.models.hub import pin  # noqa: PLC0415 - of the optional packages
    except ModuleNotFoundError as error:
        raise ConfigurationError(missing_packages(error)) from error
    profile = settings.profile.model_copy(update={"models": pin(models)})
    return settings.model_copy(update={"profile": profile})


def missing_packages(error: ModuleNotFoundError) -> str:
    """Return what to tell a person whose models need packages that are not installed."""
    return (
        f"models are configured, but {error.name} is not installed; run "
        "`pip install -c constraints.txt -e '.[models]'`, or set models = \"none\" in [profile]"
    )


def model_pools(settings: Settings) -> ModelPools | None:
    """Return how the configured models are deployed in the Ray pool; None where there are none."""
    models = settings.profile.models
    if models is None or not configured(models):
        return None
    pool = settings.pool
    return ModelPools(
        models,
        {name: _config(getattr(pool, name)) for name in configured(models)},
    )


def _config(pool: ModelPoolSettings) -> ModelPoolConfig:
    return ModelPoolConfig(
        num_replicas=pool.replicas,
        max_replicas=pool.max_replicas,
        max_batch=pool.max_batch,
        linger_s=pool.linger_s,
        num_gpus=pool.gpus,
        num_cpus=pool.cpus,
        resources=pool.resources,
        stuck_after_s=pool.batch_timeout_s,
    )


class WithLocalModels:
    """Makes processors for the threads of one process, which share one copy of each model.

    Args:
        make_processor: takes the models.
        models: loaded when the first processor is made.
    """

    def __init__(self, make_processor: Callable[[ClipModels], VideoProcessor], models: ModelsParams) -> None:
        self._make_processor = make_processor
        self._models = models
        self._lock = threading.Lock()
        self._loaded: ClipModels | None = None

    def __call__(self) -> VideoProcessor:
        """Return a processor.

        Raises:
            ConfigurationError: a model cannot be had or loaded.
        """
        with self._lock:
            if self._loaded is None:
                try:
                    from consumers.models.worker import load_local  # noqa: PLC0415 - loads torch

                    self._loaded = load_local(self._models)
                except ModuleNotFoundError as error:
                    raise ConfigurationError(missing_packages(error)) from error
        return self._make_processor(self._loaded)
