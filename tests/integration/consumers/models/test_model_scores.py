"""The models against a straight computation with transformers and its own processors on the same frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    CLIPVisionModelWithProjection,
    GenerationConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
    ViTForImageClassification,
)

from consumers.models.aesthetic import AestheticScorer
from consumers.models.base import Captioner, Frame, FrameScorer
from consumers.models.captioners import load_captioner
from consumers.models.nsfw import NsfwScorer
from schemas.models import AestheticModelParams, CaptionerParams, GenerationParams, NsfwModelParams
from tests.support import tiny_models
from tests.support.tiny_models import IMAGE_PX, random_frames

BATCH_TOLERANCE = 1e-5
"""Sums in another order, in float32."""
PIXEL_TOLERANCE = 0.02
"""A preprocessed pixel may differ by 1/255 from the reference processor's; a random network passes that on."""
GENERATION = GenerationParams(num_beams=3, max_new_tokens=12)
FAMILIES = {"video_blip": "blip2", "blip2": "blip2", "qwen2_5_vl": "qwen2_5_vl", "qwen3_vl": "qwen3_vl"}
# Frames of the model's own size: no resizing, so that preprocessing is equal to the last bit.
EXACT = [random_frames(count, IMAGE_PX, IMAGE_PX, seed) for seed, count in enumerate([3, 1, 2, 3, 3])]
RESIZED = [random_frames(3, 48, 64, 1), random_frames(1, 90, 50, 2), random_frames(2, 33, 120, 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in ("nsfw", "aesthetic", "blip2", "qwen2_5_vl", "qwen3_vl"):
        getattr(tiny_models, name)(root / name)
    return root


def nsfw(folder: Path, batch_size: int = 4) -> NsfwScorer:
    return NsfwScorer.load(NsfwModelParams(source=str(folder / "nsfw"), batch_size=batch_size, device="cpu"))


def aesthetic(folder: Path, batch_size: int = 4) -> AestheticScorer:
    params = AestheticModelParams(source=str(folder / "aesthetic"), batch_size=batch_size, device="cpu")
    return AestheticScorer.load(params)


def captioner(folder: Path, kind: Any, **changes: Any) -> Captioner:
    changes = {"batch_size": 4, "generation": GENERATION, **changes}
    return load_captioner(CaptionerParams(kind=kind, source=str(folder / FAMILIES[kind]), device="cpu", **changes))


def flat(scores: Sequence[Sequence[float]]) -> list[float]:
    return [score for clip in scores for score in clip]


def reference_nsfw(folder: Path, frames: Sequence[Frame]) -> list[float]:
    model = ViTForImageClassification.from_pretrained(folder / "nsfw").eval()
    pixels = AutoImageProcessor.from_pretrained(folder / "nsfw")(list(frames), return_tensors="pt")
    with torch.inference_mode():
        return list(model(**pixels).logits.softmax(-1)[:, 1].tolist())


def reference_aesthetic(folder: Path, frames: Sequence[Frame], scorer: AestheticScorer) -> list[float]:
    own = scorer._model
    pixels = AutoImageProcessor.from_pretrained(folder / "aesthetic")(list(frames), return_tensors="pt")
    clip = CLIPVisionModelWithProjection(own.config).eval()
    clip.load_state_dict({key: value for key, value in own.state_dict().items() if not key.startswith("layers.")})
    with torch.inference_mode():
        embeddings = torch.nn.functional.normalize(clip(**pixels).image_embeds, dim=-1)
        for index in (0, 2, 4, 6, 7):
            embeddings = own.layers[index](embeddings)
    return [value / 10 for value in embeddings.squeeze(-1).tolist()]


def test_nsfw_scores_equal_a_straight_computation(folder: Path) -> None:
    frames = [frame for clip in EXACT for frame in clip]
    assert flat(nsfw(folder).score(EXACT)) == pytest.approx(reference_nsfw(folder, frames), abs=BATCH_TOLERANCE)


def test_aesthetic_scores_equal_a_straight_computation(folder: Path) -> None:
    scorer = aesthetic(folder)
    frames = [frame for clip in EXACT for frame in clip]
    expected = reference_aesthetic(folder, frames, scorer)
    assert flat(scorer.score(EXACT)) == pytest.approx(expected, abs=BATCH_TOLERANCE)
    assert len({round(value, 3) for value in expected}) > 3


def test_scores_of_resized_frames_stay_close_to_the_reference(folder: Path) -> None:
    one_by_one = [frame for clip in RESIZED for frame in clip]
    expected = [reference_nsfw(folder, [frame])[0] for frame in one_by_one]
    assert flat(nsfw(folder).score(RESIZED)) == pytest.approx(expected, abs=PIXEL_TOLERANCE)
    scorer = aesthetic(folder)
    expected = [reference_aesthetic(folder, [frame], scorer)[0] for frame in one_by_one]
    assert flat(scorer.score(RESIZED)) == pytest.approx(expected, abs=PIXEL_TOLERANCE)


def test_score_belongs_to_the_class_by_name_not_by_place(tmp_path: Path) -> None:
    tiny_models.nsfw(tmp_path / "nsfw", labels=("NSFW", "normal"))
    frames = EXACT[0]
    ours = nsfw(tmp_path).score([frames])[0]
    assert ours == pytest.approx([1 - value for value in reference_nsfw(tmp_path, frames)], abs=BATCH_TOLERANCE)


@pytest.mark.parametrize("load", [nsfw, aesthetic])
def test_scores_do_not_depend_on_the_batch(folder: Path, load: Any) -> None:
    clips = [*EXACT, *RESIZED]
    scorer: FrameScorer = load(folder)
    together = scorer.score(clips)
    assert [len(scores) for scores in together] == [len(clip) for clip in clips]
    assert together == scorer.score(clips)
    alone: FrameScorer = load(folder, batch_size=1)
    one_by_one = [alone.score([[frame]])[0][0] for clip in clips for frame in clip]
    assert flat(together) == pytest.approx(one_by_one, abs=BATCH_TOLERANCE)


def test_bfloat16_scores_stay_close_to_float32(folder: Path) -> None:
    params = NsfwModelParams(source=str(folder / "nsfw"), dtype="bfloat16", device="cpu")
    half = NsfwScorer.load(params)
    assert half.info.dtype == "bfloat16"
    assert flat(half.score(EXACT)) == pytest.approx(flat(nsfw(folder).score(EXACT)), abs=0.1)


@pytest.mark.parametrize("load", [nsfw, aesthetic])
def test_clip_without_frames_is_an_error_and_never_a_score(folder: Path, load: Any) -> None:
    scorer = load(folder)
    with pytest.raises(ValueError, match="clip 1 of 2 has no frames"):
        scorer.score([EXACT[0], []])
    assert scorer.score([]) == []


def generation(tokenizer: Any, model: Any) -> GenerationConfig:
    own = model.generation_config
    return GenerationConfig(
        do_sample=False,
        num_beams=GENERATION.num_beams,
        max_new_tokens=GENERATION.max_new_tokens,
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id,
    )


def reference_blip2(folder: Path, frame: Frame, prompt: str) -> str:
    """Caption as transformers 5 does it: with an ``<image>`` token added to tokenizer, embeddings and config."""
    path = folder / "blip2"
    model = Blip2ForConditionalGeneration.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    queries = model.config.num_query_tokens
    processor = Blip2Processor(AutoImageProcessor.from_pretrained(path), tokenizer, num_query_tokens=queries)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    inputs = processor(images=frame, text=prompt or "<s>", return_tensors="pt")
    config = generation(tokenizer, model.language_model)
    ids = model.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :]
    # The word that stands for pictures is no word of the checkpoint, so that the two may part only there.
    assert model.config.image_token_index not in ids.tolist()
    return " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())


@pytest.mark.parametrize("prompt", ["", "a cat on"])
def test_blip2_caption_of_the_middle_frame_equals_a_straight_computation(folder: Path, prompt: str) -> None:
    ours = captioner(folder, "blip2", prompt=prompt).caption(EXACT)
    expected = [reference_blip2(folder, clip[len(clip) // 2], prompt) for clip in EXACT]
    assert ours == expected
    assert len(set(ours)) > 1


def test_video_blip_with_one_frame_is_blip2(folder: Path) -> None:
    clips = [clip[:1] for clip in EXACT]
    assert captioner(folder, "video_blip").caption(clips) == captioner(folder, "blip2").caption(clips)


def test_video_blip_looks_at_the_vision_tokens_of_all_frames(folder: Path) -> None:
    path, clip = folder / "blip2", EXACT[0]
    model = Blip2ForConditionalGeneration.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    pixels = AutoImageProcessor.from_pretrained(path)(clip, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        tokens = torch.cat([model.vision_model(image[None]).last_hidden_state for image in pixels], dim=1)
        seen = model.language_projection(
            model.qformer(query_embeds=model.query_tokens, encoder_hidden_states=tokens).last_hidden_state
        )
        begin = model.get_input_embeddings()(torch.tensor([[model.config.text_config.bos_token_id]]))
        ids = model.language_model.generate(
            inputs_embeds=torch.cat([seen, begin], dim=1),
            attention_mask=torch.ones((1, seen.shape[1] + 1), dtype=torch.long),
            generation_config=generation(tokenizer, model.language_model),
        )
    expected = " ".join(tokenizer.decode(ids[0], skip_special_tokens=True).split())
    assert captioner(folder, "video_blip").caption([clip]) == [expected]


@pytest.mark.parametrize(
    ("kind", "model_class"),
    [("qwen2_5_vl", Qwen2_5_VLForConditionalGeneration), ("qwen3_vl", Qwen3VLForConditionalGeneration)],
)
def test_qwen_caption_equals_a_straight_computation(folder: Path, kind: str, model_class: Any) -> None:
    path = folder / kind
    model = model_class.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    processor = AutoImageProcessor.from_pretrained(path)
    expected = []
    for clip in EXACT:
        images = processor(clip, return_tensors="pt")
        pads = [int(grid.prod()) // processor.merge_size**2 for grid in images["image_grid_thw"]]
        shown = "".join(f"<|vision_start|>{'<|image_pad|>' * count}<|vision_end|>" for count in pads)
        text = tokenizer(f"<|im_start|>user\n{shown}look<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt")
        kinds = (text["input_ids"] == model.config.image_token_id).int()
        ids = model.generate(
            input_ids=text["input_ids"],
            attention_mask=text["attention_mask"],
            mm_token_type_ids=kinds,
            **images,
            generation_config=generation(tokenizer, model),
        )
        words = tokenizer.decode(ids[0, text["input_ids"].shape[1] :], skip_special_tokens=True)
        expected.append(" ".join(words.split()))
    assert captioner(folder, kind, prompt="look").caption(EXACT) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("kind", FAMILIES)
def test_captions_do_not_depend_on_the_batch_or_the_run(folder: Path, kind: str) -> None:
    clips = [*EXACT, *RESIZED]
    model = captioner(folder, kind)
    together = model.caption(clips)
    assert together == model.caption(clips)
    assert together == [model.caption([clip])[0] for clip in clips]
    assert together == captioner(folder, kind, batch_size=1).caption(clips)


@pytest.mark.parametrize("kind", ["video_blip", "qwen3_vl"])
def test_clip_with_more_frames_than_allowed_shows_them_spread_evenly(folder: Path, kind: str) -> None:
    clip = random_frames(5, IMAGE_PX, IMAGE_PX, seed=9)
    limited = captioner(folder, kind, max_frames=3).caption([clip])
    assert limited == captioner(folder, kind).caption([[clip[0], clip[2], clip[4]]])


def test_sampling_recommended_by_a_checkpoint_is_left_behind(tmp_path: Path) -> None:
    path = tiny_models.qwen3_vl(tmp_path / "qwen3_vl")
    plain = captioner(tmp_path, "qwen3_vl").caption(EXACT)
    config = GenerationConfig.from_pretrained(path)
    config.do_sample, config.temperature, config.top_p, config.repetition_penalty = True, 5.0, 0.9, 9.0
    config.save_pretrained(path)
    assert captioner(tmp_path, "qwen3_vl").caption(EXACT) == plain
