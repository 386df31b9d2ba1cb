"""Seconds of video per GPU-second of the model stages: ``python -m benchmarks.gpu --json``.

Full-size models of the default architectures with random weights: throughput does not depend on the weights' values.
Without a GPU nothing is measured, and the output says so; ``--device cpu --small`` runs the same code on tiny models,
to show that it works, and measures nothing worth quoting.
"""

from __future__ import annotations

import argparse
import json
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

from consumers.models.aesthetic import AestheticModel, AestheticScorer
from consumers.models.base import Frame, ModelInfo
from consumers.models.captioners.blip import BlipCaptioner
from consumers.models.nsfw import NsfwScorer
from consumers.models.preprocess import Normalization, Preprocessor
from schemas.models import CaptionerParams, GenerationParams

_HALF = Normalization(1 / 255, (0.5,) * 3, (0.5,) * 3)
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
        str(dtype).removeprefix("torch."),
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
        "video_s_per_device_s": round(per_s * work.clip_s, 2),
        "gpu_utilization_percent": used.percent,
        "rounds": rounds,
    }


def results(work: Workload) -> Iterator[dict[str, Any]]:
    """Yield one result per case."""
    dtypes = [torch.float32]
    if work.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        dtypes.append(torch.bfloat16)
    best = dtypes[-1]
    chosen: dict[str, int] = {}
    for stage in _LARGEST:
        rates: dict[tuple[torch.dtype, str], float] = {}
        for dtype in dtypes:
            largest = _largest_batch(stage, work, dtype)
            # Half of what fits: generation and neighbours on a shared GPU need room.
            sizes = {"one": 1, "many": max(1, min(largest // 2, 64 if stage == "captioner" else 512))}
            chosen[stage] = sizes["many"]
            for label, size in sizes.items():
                model = build(stage, work, dtype, size)
                count = size if stage == "captioner" else max(1, -(-size // work.frames))
                result = measure(work, count, _call(model))
                rates[dtype, label] = result["video_s_per_device_s"]
                memory = {"parameters": model.info.parameters, "memory_bytes": model.info.memory_bytes}
                yield {
                    "case": f"gpu/{stage}",
                    "dtype": model.info.dtype,
                    "batch": size,
                    "largest_batch": largest,
                    **memory,
                    **result,
                }
                del model
        yield {
            "case": f"gpu/{stage}/gains",
            "batching": round(rates[best, "many"] / rates[best, "one"], 2),
            "bf16": round(rates[best, "many"] / rates[torch.float32, "many"], 2) if len(dtypes) > 1 else None,
        }
    calls = [_call(build(stage, work, best, size)) for stage, size in chosen.items()]
    together = measure(work, chosen["captioner"], lambda clips: [call(clips) for call in calls])
    yield {"case": "gpu/together", "dtype": str(best).removeprefix("torch."), "batches": chosen, **together}


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
    query += ["-i", str(device.index or 0)]
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
    device = torch.device(options.device)

    def show(result: dict[str, Any]) -> None:
        text = json.dumps(result) if options.json else "  ".join(f"{key}={value}" for key, value in result.items())
        print(text, flush=True)

    has_gpu = torch.cuda.is_available()
    if device.type == "cpu" and not options.small:
        parser.error("--device cpu measures a GPU's work on a CPU; add --small to see that it runs")
    machine = {
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(device) if has_gpu and device.type == "cuda" else None,
    }
    if device.type == "cuda" and not has_gpu:
        show(
            {
                "case": "gpu",
                "measured": False,
                "reason": "torch sees no GPU on this machine: nothing is claimed",
                **machine,
            }
        )
        return
    work = Workload(device, options.small, options.clip_seconds, options.frames, options.tokens, options.seconds)
    real = device.type == "cuda" and not options.small
    shape = {"clip_s": work.clip_s, "frames_per_clip": work.frames, "caption_tokens": work.tokens, "beams": 4}
    show({"case": "gpu", "measured": real, "weights": "random", **shape, **machine})
    for result in results(work):
        show({**result, "measured": real})


if __name__ == "__main__":
    main()
