"""Seconds of video per GPU-second of the model stages: ``python -m benchmarks.gpu --json``.

Full-size models of the default architectures with random weights: throughput does not depend on the weights' values.
Then decoding, on the CPU and with NVDEC. Without a GPU nothing is measured, and the output says so; ``--small`` runs
the same code on tiny models, on a CPU as well, to show that it works, and prints no figure.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    CLIPVisionConfig,
    ViTConfig,
    ViTForImageClassification,
)

from benchmarks.gpu_decode import decode_cases
from consumers.models.aesthetic import AestheticModel, AestheticScorer
from consumers.models.base import Frame, ModelInfo, OutOfMemoryError
from consumers.models.captioners.blip import BlipCaptioner
from consumers.models.nsfw import NsfwScorer
from consumers.models.preprocess import Normalization, Preprocessor
from schemas.models import CaptionerParams, GenerationParams

_HALF = Normalization(1 / 255, (0.5,) * 3, (0.5,) * 3)
_FIGURES = ("clips_per_s", "video_s_per_gpu_s", "gpu_utilization_percent", "rounds")
_OUT_OF_MEMORY = (torch.OutOfMemoryError, OutOfMemoryError)
_LARGEST = {"nsfw": 4096, "aesthetic": 4096, "captioner": 256}
_TINY: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
_OPT_2_7B = {
    "model_type": "opt",
    "hidden_size": 2560,
    "word_embed_proj_dim": 2560,
    "ffn_dim": 10240,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 50304,
}
_CLIP_L_14 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 768,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}


class _Words:
    """Stands in for a tokenizer: no prompt is encoded, and the ids of random weights spell nothing."""

    def batch_decode(self, ids: torch.Tensor, *, skip_special_tokens: bool) -> list[str]:
        """Return the number of tokens of each row."""
        return [f"{len(row)} tokens" for row in ids if skip_special_tokens]


@dataclass(frozen=True)
class Workload:
    """What is measured: clips of ``clip_s`` seconds with ``frames`` frames each, captions of ``tokens`` tokens."""

    device: torch.device
    small: bool
    clip_s: float
    frames: int
    tokens: int
    seconds: float

    def clips(self, count: int) -> list[list[Frame]]:
        """Return ``count`` clips of 16:9 frames with a short side of 224 pixels, as the decode pass hands them on."""
        frame = np.random.default_rng(0).integers(0, 256, (224, 398, 3), dtype=np.uint8)
        return [[frame] * self.frames] * count


@dataclass
class Utilization:
    """Percent of time that the GPU computed, sampled while a measurement ran."""

    samples: list[float] = field(default_factory=list)

    @property
    def percent(self) -> float | None:
        """The mean, or None where nothing could be sampled."""
        return statistics.fmean(self.samples) if self.samples else None


def build(
    stage: str, work: Workload, dtype: torch.dtype, batch_size: int
) -> NsfwScorer | AestheticScorer | BlipCaptioner:
    """Return the stage's model with random weights. ``batch_size`` counts frames, for the captioner clips."""
    model = _network(stage, work.small, dtype, work.device)
    info = ModelInfo(
        f"random/{stage}",
        None,
        str(work.device),
        _name(dtype),
        sum(parameter.numel() for parameter in model.parameters()),
        model.get_memory_footprint(),
    )
    if stage == "nsfw":
        return NsfwScorer(model, Preprocessor((224, 224), None, None, "bilinear", _HALF), 1, info, batch_size)
    if stage == "aesthetic":
        return AestheticScorer(model, Preprocessor(None, 224, (224, 224), "bicubic", _HALF), info, batch_size)
    params = CaptionerParams(
        batch_size=batch_size,
        max_frames=work.frames,
        generation=GenerationParams(num_beams=4, max_new_tokens=work.tokens),
    )
    # Random weights would end captions at random; these all have the stated length.
    model.language_model.generation_config.eos_token_id = None
    model.language_model.generation_config.pad_token_id = 1
    return BlipCaptioner(model, _Words(), Preprocessor((224, 224), None, None, "bicubic", _HALF), params, info)


def _network(stage: str, small: bool, dtype: torch.dtype, device: torch.device) -> Any:
    size = _TINY if small else {}
    network: Any
    with torch.device(device):
        if stage == "nsfw":
            network = ViTForImageClassification._from_config(ViTConfig(**size), dtype=dtype)
        elif stage == "aesthetic":
            network = AestheticModel._from_config(CLIPVisionConfig(**(size or _CLIP_L_14)), dtype=dtype)
        else:
            text = {**_OPT_2_7B, "hidden_size": 32, "word_embed_proj_dim": 32, "ffn_dim": 64, "num_hidden_layers": 2}
            text["num_attention_heads"] = 2
            config = Blip2Config(vision_config=size, qformer_config=size, text_config=text if small else _OPT_2_7B)
            network = Blip2ForConditionalGeneration._from_config(config, dtype=dtype)
    return network.to(device).eval().requires_grad_(False)


def measure(work: Workload, count: int, run: Callable[[Sequence[Sequence[Frame]]], object]) -> dict[str, Any]:
    """Run ``count`` clips again and again for the set time, after one run to warm up."""
    clips = work.clips(count)
    run(clips)
    _synchronize(work.device)
    rounds = 0
    with _utilization(work.device) as used:
        began = time.perf_counter()
        while time.perf_counter() - began < work.seconds:
            run(clips)
            _synchronize(work.device)
            rounds += 1
        wall_s = time.perf_counter() - began
    per_s = rounds * count / wall_s
    return {
        "clips_per_s": round(per_s, 3),
        "video_s_per_gpu_s": round(per_s * work.clip_s, 2),
        "gpu_utilization_percent": used.percent,
        "rounds": rounds,
    }


def results(work: Workload) -> Iterator[dict[str, Any]]:
    """Yield one result per case of the models. Where a case does not fit in memory, its ``reason`` says so."""
    dtypes = [torch.float32]
    if work.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        dtypes.append(torch.bfloat16)
    best = dtypes[-1]
    chosen: dict[str, int] = {}
    for stage in _LARGEST:
        rates: dict[tuple[torch.dtype, str], float] = {}
        for dtype in dtypes:
            try:
                largest = _largest_batch(stage, work, dtype)
                # Half of what fits: generation and neighbours on a shared GPU need room.
                many = max(1, min(largest // 2, 64 if stage == "captioner" else 512))
                for label, size in {"one": 1, "many": many}.items():
                    result = _case(stage, work, dtype, size)
                    rates[dtype, label] = result["video_s_per_gpu_s"]
                    yield {**result, "largest_batch": largest}
            except _OUT_OF_MEMORY as error:
                yield {"case": f"gpu/{stage}", "dtype": _name(dtype), "measured": False, "reason": _first_line(error)}
                continue
            if dtype is best:
                chosen[stage] = many
        if (best, "many") in rates:
            batching = rates[best, "many"] / rates[best, "one"]
            plain = rates.get((torch.float32, "many")) if len(dtypes) > 1 else None
            yield {
                "case": f"gpu/{stage}/gains",
                "batching": round(batching, 2),
                "bf16": round(rates[best, "many"] / plain, 2) if plain else None,
            }
    yield _together(work, best, chosen)


def _case(stage: str, work: Workload, dtype: torch.dtype, size: int) -> dict[str, Any]:
    model = build(stage, work, dtype, size)
    count = size if stage == "captioner" else max(1, -(-size // work.frames))
    return {
        "case": f"gpu/{stage}",
        "dtype": model.info.dtype,
        "parameters": model.info.parameters,
        "memory_bytes": model.info.memory_bytes,
        **measure(work, count, _call(model)),
        "batch": model.batch_limit,
    }


def _together(work: Workload, dtype: torch.dtype, sizes: dict[str, int]) -> dict[str, Any]:
    case = {"case": "gpu/together", "dtype": _name(dtype)}
    if sizes.keys() != _LARGEST.keys():
        return {**case, "measured": False, "reason": f"only {', '.join(sizes) or 'no stage'} fitted in memory alone"}
    try:
        models = {stage: build(stage, work, dtype, size) for stage, size in sizes.items()}
        calls = [_call(model) for model in models.values()]
        result = measure(work, sizes["captioner"], lambda clips: [call(clips) for call in calls])
    except _OUT_OF_MEMORY as error:
        return {**case, "measured": False, "reason": _first_line(error)}
    # Beside each other they may have had to make their batches smaller.
    return {**case, **result, "batches": {stage: model.batch_limit for stage, model in models.items()}}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _largest_batch(stage: str, work: Workload, dtype: torch.dtype) -> int:
    limit = 2 if work.small else _LARGEST[stage]
    model = build(stage, work, dtype, limit)
    _call(model)(work.clips(limit if stage == "captioner" else -(-limit // work.frames)))
    return model.batch_limit


def _call(model: NsfwScorer | AestheticScorer | BlipCaptioner) -> Callable[[Sequence[Sequence[Frame]]], object]:
    return model.caption if isinstance(model, BlipCaptioner) else model.score


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _utilization(device: torch.device) -> Iterator[Utilization]:
    used = Utilization()
    program = shutil.which("nvidia-smi")
    if device.type != "cuda" or program is None:
        yield used
        return
    query = [program, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    # Not by index: nvidia-smi counts all GPUs of the machine, torch those that this process may see.
    query += ["-i", f"GPU-{torch.cuda.get_device_properties(device).uuid}"]
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as process:
        lines = process.stdout or ()
        reader = threading.Thread(target=lambda: used.samples.extend(float(x) for x in lines if x.strip().isdigit()))
        reader.start()
        yield used
        process.terminate()
        reader.join()


def main() -> None:
    """Print one line per result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of text")
    parser.add_argument("--device", default="cuda:0", help="cuda:0, or cpu together with --small")
    parser.add_argument("--small", action="store_true", help="tiny models: shows that this runs, measures nothing real")
    parser.add_argument("--clip-seconds", type=float, default=5.0, help="length of a clip, in seconds of video")
    parser.add_argument("--frames", type=int, default=3, help="frames of a clip that each stage sees")
    parser.add_argument("--tokens", type=int, default=20, help="tokens of a caption; all captions have this length")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each measurement")
    options = parser.parse_args()
    if not re.fullmatch(r"cpu|cuda(:\d+)?", options.device):
        parser.error(f"--device {options.device}: it is cuda, cuda:0, cuda:1 and so on, or cpu")
    device = torch.device(options.device)
    if device.type == "cpu" and not options.small:
        parser.error("--device cpu measures a GPU's work on a CPU; add --small to see that it runs")
    is_real = device.type == "cuda" and not options.small

    def show(result: dict[str, Any]) -> None:
        shown = {"measured": is_real, **result}
        if not shown["measured"]:
            shown = {key: value for key, value in shown.items() if key not in _FIGURES}
        text = json.dumps(shown) if options.json else "  ".join(f"{key}={value}" for key, value in shown.items())
        print(text, flush=True)

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        reason = f"there is no {device}: torch sees {num_gpus or 'no'} GPU on this machine; nothing is claimed"
        show({"case": "gpu", "measured": False, "reason": reason, "torch": torch.__version__})
        return
    work = Workload(device, options.small, options.clip_seconds, options.frames, options.tokens, options.seconds)
    shape = {"clip_s": work.clip_s, "frames_per_clip": work.frames, "caption_tokens": work.tokens, "beams": 4}
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    show({"case": "gpu", "weights": "random", **shape, "torch": torch.__version__, "gpu": gpu})
    for result in results(work):
        # A ratio of rates is a figure, too.
        if is_real or not result["case"].endswith("/gains"):
            show(result)
    if is_real:
        for result in decode_cases():
            show(result)


if __name__ == "__main__":
    main()
