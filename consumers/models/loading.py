"""Loads checkpoints with transformers, and refuses whatever would load into something else than was published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoTokenizer
from transformers.utils import logging as transformers_logging

from consumers.errors import ConfigurationError
from consumers.models.base import ModelInfo
from consumers.models.hub import Checkpoint
from schemas.models import CheckpointParams


def resolve_device(params: CheckpointParams) -> torch.device:
    """Return the device that ``params`` ask for.

    Raises:
        ConfigurationError: it is a GPU that is not there.
    """
    available = torch.cuda.is_available()
    if params.device == "auto":
        return torch.device("cuda:0" if available else "cpu")
    device = torch.device(params.device)
    if device.type == "cuda" and not (available and (device.index or 0) < torch.cuda.device_count()):
        found = f"{torch.cuda.device_count()} GPU(s)" if available else "no GPU, or a torch built without CUDA"
        raise ConfigurationError(
            f"model {params.source}: device {params.device} is configured, but this machine has {found}; "
            'set device = "auto"'
        )
    return device


def resolve_dtype(params: CheckpointParams, device: torch.device) -> torch.dtype:
    """Return the dtype that ``params`` ask for; auto is bfloat16 on a GPU with the hardware for it, else float32."""
    if params.dtype == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if params.dtype == "bfloat16" else torch.float32


def refuse_custom_code(checkpoint: Checkpoint) -> None:
    """Return if the checkpoint works without code of its own.

    Raises:
        ConfigurationError: its config.json names Python code to be run.
    """
    if checkpoint.config.get("auto_map"):
        raise ConfigurationError(
            f"model {checkpoint.model_id}: it needs code of its own (auto_map in config.json), which is never run; "
            "choose a model of an architecture that transformers has built in"
        )


def load_model(
    checkpoint: Checkpoint, model_class: Any, params: CheckpointParams, config: Any = None
) -> tuple[Any, ModelInfo]:
    """Return the model, in evaluation mode on its device, and what is to be recorded of it.

    Args:
        checkpoint: from :func:`consumers.models.hub.locate`.
        model_class: a transformers class with ``from_pretrained``.
        params: device and dtype.
        config: a transformers configuration in place of the checkpoint's own.

    Raises:
        ConfigurationError: weights are missing, or do not fit in shape, or the files cannot be read.
    """
    device = resolve_device(params)
    dtype = resolve_dtype(params, device)
    keywords = {} if config is None else {"config": config}
    with _quiet():
        try:
            model, report = model_class.from_pretrained(
                str(checkpoint.path),
                dtype=dtype,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                # Reported and refused below, with a message that names the weights.
                ignore_mismatched_sizes=True,
                **keywords,
            )
        # transformers, safetensors and torch share no base class for what a damaged checkpoint makes them raise.
        except Exception as error:
            raise ConfigurationError(
                f"model {checkpoint.model_id}: {checkpoint.path} cannot be loaded: {_first_line(error)}; fetch it "
                "anew, or choose a checkpoint that fits this stage"
            ) from error
    _refuse_gaps(checkpoint, report)
    model = model.to(device).eval().requires_grad_(False)
    info = ModelInfo(
        checkpoint.model_id,
        checkpoint.revision,
        str(device),
        str(dtype).removeprefix("torch."),
        sum(parameter.numel() for parameter in model.parameters()),
        int(model.get_memory_footprint()),
    )
    return model, info


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """Return the checkpoint's tokenizer.

    Raises:
        ConfigurationError: it has none that can be loaded.
    """
    with _quiet():
        try:
            return AutoTokenizer.from_pretrained(str(checkpoint.path), trust_remote_code=False, local_files_only=True)
        # As above: there is no common base class.
        except Exception as error:
            raise ConfigurationError(
                f"model {checkpoint.model_id}: {checkpoint.path} holds no tokenizer that can be loaded: "
                f"{_first_line(error)}; fetch the model anew"
            ) from error


def load_image_config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return what the checkpoint's reference image processor does, with the defaults of its class filled in.

    Raises:
        ConfigurationError: it has none that can be loaded.
    """
    with _quiet():
        try:
            processor = AutoImageProcessor.from_pretrained(
                str(checkpoint.path), trust_remote_code=False, local_files_only=True
            )
        # As above: there is no common base class.
        except Exception as error:
            raise ConfigurationError(
                f"model {checkpoint.model_id}: {checkpoint.path} holds no preprocessor_config.json that can be used: "
                f"{_first_line(error)}; fetch the model anew"
            ) from error
    config: Mapping[str, Any] = processor.to_dict()
    return config


def _refuse_gaps(checkpoint: Checkpoint, report: Mapping[str, Any]) -> None:
    # transformers fills what is missing with random numbers and goes on: scores would look like scores.
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        raise ConfigurationError(
            f"model {checkpoint.model_id}: {len(missing)} weights are missing from the checkpoint, such as "
            f"{missing[0]}; they would be random. Choose a checkpoint that was trained for this stage"
        )
    mismatched = sorted(report["mismatched_keys"], key=str)
    if mismatched:
        name, found, needed = mismatched[0]
        raise ConfigurationError(
            f"model {checkpoint.model_id}: {len(mismatched)} weights do not fit config.json, such as {name} "
            f"({tuple(found)} where {tuple(needed)} is needed); fetch the model anew, or choose another"
        )
    if report.get("error_msgs"):
        raise ConfigurationError(f"model {checkpoint.model_id}: cannot be loaded: {report['error_msgs'][0]}")


@contextmanager
def _quiet() -> Iterator[None]:
    # The library's own reports and progress bars would stand beside, and contradict, our one clear line.
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
