"""Loads every configured model and runs it once, so that a person knows before a worker does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from consumers.clock import Clock
from consumers.errors import ConfigurationError, SluiceError
from consumers.models.aesthetic import AestheticScorer
from consumers.models.base import Captioner, Frame, FrameScorer, ModelInfo
from consumers.models.captioners import load_captioner
from consumers.models.hub import pull
from consumers.models.nsfw import NsfwScorer
from schemas.models import CheckpointParams, ModelsParams


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What one model did.

    Attributes:
        stage: ``nsfw``, ``aesthetic`` or ``captioner``, as in the settings.
        info: what is loaded.
        load_s: seconds from nothing to loaded.
        first_ms: milliseconds of the first call on one frame, warming up included.
        run_ms: milliseconds of the second such call.
        peak_bytes: most GPU memory held since the load began; None on a CPU or behind a server.
        answer: the score or the caption of a plain colour gradient.
    """

    stage: str
    info: ModelInfo
    load_s: float
    first_ms: float
    run_ms: float
    peak_bytes: int | None
    answer: float | str


@dataclass(frozen=True, slots=True)
class Pulled:
    """Where a checkpoint lies; ``path`` is None where there is nothing to fetch, and ``note`` says why."""

    stage: str
    source: str
    path: Path | None
    note: str


def check_models(models: ModelsParams, clock: Clock) -> list[ModelCheck]:
    """Load and run every model of ``models``, one after the other.

    Raises:
        ConfigurationError: one line for each that cannot be loaded or run.
    """
    checks = []
    problems = []
    for stage, load in _loaders(models).items():
        try:
            checks.append(_check(stage, load, clock))
        except SluiceError as error:
            problems.append(f"{stage}: {error}")
    if problems:
        raise ConfigurationError("\n".join(problems))
    return checks


def pull_models(models: ModelsParams, directory: Path) -> list[Pulled]:
    """Fetch every hub checkpoint of ``models`` into ``directory``.

    Raises:
        ConfigurationError: one line for each that cannot be fetched; the others are there.
    """
    pulled = []
    problems = []
    for stage in ("nsfw", "aesthetic", "captioner"):
        params = getattr(models, stage)
        if params is None:
            continue
        if not isinstance(params, CheckpointParams):
            pulled.append(Pulled(stage, params.model, None, f"served by {params.base_url}"))
        elif params.is_local:
            pulled.append(Pulled(stage, params.source, None, "a directory already"))
        else:
            try:
                pulled.append(Pulled(stage, params.source, pull(params, directory), f"revision {params.revision}"))
            except ConfigurationError as error:
                problems.append(f"{stage}: {error}")
    if problems:
        raise ConfigurationError("\n".join(problems))
    return pulled


def _loaders(models: ModelsParams) -> dict[str, Callable[[], FrameScorer | Captioner]]:
    loaders: dict[str, Callable[[], FrameScorer | Captioner]] = {}
    nsfw, aesthetic, captioner = models.nsfw, models.aesthetic, models.captioner
    if nsfw is not None:
        loaders["nsfw"] = lambda: NsfwScorer.load(nsfw, models.directory)
    if aesthetic is not None:
        loaders["aesthetic"] = lambda: AestheticScorer.load(aesthetic, models.directory)
    if captioner is not None:
        loaders["captioner"] = lambda: load_captioner(captioner, models.directory)
    return loaders


def _check(stage: str, load: Callable[[], FrameScorer | Captioner], clock: Clock) -> ModelCheck:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    marks = [clock.monotonic_s()]
    model = load()
    marks.append(clock.monotonic_s())
    answers = []
    for _ in range(2):
        answers.append(_run(model, _gradient()))
        marks.append(clock.monotonic_s())
    peak = torch.cuda.max_memory_allocated() if model.info.device.startswith("cuda") else None
    load_s, first_s, run_s = (later - earlier for earlier, later in pairwise(marks))
    return ModelCheck(stage, model.info, load_s, 1000 * first_s, 1000 * run_s, peak, answers[-1])


def _run(model: FrameScorer | Captioner, frame: Frame) -> float | str:
    if hasattr(model, "score"):
        return model.score([[frame]])[0][0]
    return model.caption([[frame]])[0]


def _gradient() -> Frame:
    rows, columns = np.mgrid[0:224, 0:398]
    return np.stack([rows, columns * 255 // 398, 255 - rows], axis=-1).astype(np.uint8)
