from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from consumers.errors import ConfigurationError
from consumers.models.captioners.qwen_vl import PatchPreprocessor
from consumers.models.preprocess import Preprocessor, resize_rounded, to_batch
from tests.support.tiny_models import random_frames

CPU = torch.device("cpu")
LEVEL = 1 / 255
ROUNDING = 1e-6
PROCESSORS = {
    "vit": ViTImageProcessorPil(size={"height": 96, "width": 96}),
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 96}, crop_size={"height": 96, "width": 96}),
    "clip_cut_further": CLIPImageProcessorPil(size={"shortest_edge": 96}, crop_size={"height": 80, "width": 64}),
}
sides = st.integers(40, 260)


def denormalized(pixels: torch.Tensor, processor: Any) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (processor.image_mean, processor.image_std))
    return pixels * std + mean


@pytest.mark.parametrize("name", PROCESSORS)
@settings(max_examples=24, deadline=None)
@given(data=st.data())
def test_any_frame_sizes_give_what_the_reference_processor_gives(name: str, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.tuples(sides, sides), min_size=1, max_size=2))
    seed = data.draw(st.integers(0, 1000))
    processor = PROCESSORS[name]
    # Sizes alternate, so that grouping by size has to put the frames back in order.
    frames = [frame for height, width in [*sizes, sizes[0]] for frame in random_frames(1, height, width, seed)]
    ours = Preprocessor.from_config(processor.to_dict(), "m")(frames, CPU, torch.float32)
    reference = torch.cat([processor(frame, return_tensors="pt")["pixel_values"] for frame in frames])
    assert ours.shape == reference.shape
    difference = (denormalized(ours, processor) - denormalized(reference, processor)).abs()
    assert difference.max() <= 2 * LEVEL + ROUNDING
    assert (difference > LEVEL + ROUNDING).float().mean() < 1e-3


@settings(max_examples=12, deadline=None)
@given(height=sides, width=sides, seed=st.integers(0, 1000))
def test_qwen_patches_equal_those_of_the_reference_processor(height: int, width: int, seed: int) -> None:
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112})
    frames = random_frames(2, height, width, seed)
    ours, (rows, columns) = PatchPreprocessor.from_config(processor.to_dict(), "m")(frames, CPU, torch.float32)
    reference = processor(frames, return_tensors="pt")
    assert reference["image_grid_thw"].tolist() == [[1, rows, columns]] * 2
    # Values are normalised: a level is 1/255 over the deviation.
    assert (ours - reference["pixel_values"]).abs().max() <= (2 * LEVEL + ROUNDING) / min(processor.image_std)


@settings(max_examples=25, deadline=None)
@given(height=sides, width=sides, mode=st.sampled_from(["bilinear", "bicubic"]), seed=st.integers(0, 1000))
def test_gpu_arithmetic_of_resizing_stays_within_two_levels_of_pillow(
    height: int, width: int, mode: str, seed: int
) -> None:
    frame = random_frames(1, height, width, seed)[0]
    rounded = resize_rounded(to_batch([frame], CPU), (64, 48), mode)[0].permute(1, 2, 0).numpy().astype(int)
    pillow = np.asarray(Image.fromarray(frame).resize((48, 64), Image.Resampling[mode.upper()])).astype(int)
    difference = np.abs(rounded - pillow)
    assert difference.max() <= 2
    assert (difference > 1).mean() < 1e-3


def test_sharp_noise_is_no_worse_than_smooth_pictures() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    processor = PROCESSORS["clip"]
    ours = Preprocessor.from_config(processor.to_dict(), "m")([frame], CPU, torch.float32)
    reference = processor(frame, return_tensors="pt")["pixel_values"]
    assert (denormalized(ours, processor) - denormalized(reference, processor)).abs().max() <= LEVEL + ROUNDING


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 1}, "resampling filter 1"),
        ({"do_pad": True}, "padding"),
        ({"do_center_crop": False}, "leaves the input size open"),
        ({"crop_size": {"height": 300, "width": 300}}, "crops"),
        ({"image_mean": None}, "cannot be understood"),
    ],
)
def test_configuration_that_is_not_understood_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"model m: preprocessor_config\.json .*{message}"):
        Preprocessor.from_config({**CLIPImageProcessorPil().to_dict(), **change}, "m")
