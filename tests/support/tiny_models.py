"""Tiny checkpoints of the real model classes with random weights, as ``save_pretrained`` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from consumers.models.aesthetic import AestheticModel

# More threads than that wait for each other longer than they compute on models of this size.
torch.set_num_threads(1)

IMAGE_PX = 32
VISION_TOKENS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def random_frames(count: int, height: int, width: int, seed: int) -> list[NDArray[np.uint8]]:
    """Return smooth random pictures, so that resizing them is a fair comparison."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    fine = generator.integers(-8, 9, (count, height, width, 3))
    large = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype(np.int64)
    return list(np.clip(large + fine, 0, 255).astype(np.uint8))


def nsfw(path: Path, labels: tuple[str, ...] = ("normal", "nsfw"), seed: int = 0) -> Path:
    """Write a ViT classifier."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=IMAGE_PX,
        patch_size=8,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        initializer_range=0.5,
    )
    ViTForImageClassification(config).save_pretrained(path)
    ViTImageProcessorPil(size={"height": IMAGE_PX, "width": IMAGE_PX}).save_pretrained(path)
    return path


def aesthetic(path: Path, seed: int = 0) -> Path:
    """Write a CLIP tower with the head, whose config.json names code of its own, as the published one does."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=IMAGE_PX,
        patch_size=8,
    )
    model = AestheticModel(config)
    for parameter in model.layers.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(path)
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_PX}, crop_size={"height": IMAGE_PX, "width": IMAGE_PX}
    ).save_pretrained(path)
    edit_config(path, model_type="aesthetics_predictor", auto_map={"AutoModel": "modeling.Predictor"})
    return path


def blip2(path: Path, seed: int = 0) -> Path:
    """Write a BLIP-2 over OPT, as Video-BLIP's checkpoint is laid out: without an ``<image>`` token."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(path, ("<pad>", "<s>", "</s>"))
    config = Blip2Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": IMAGE_PX,
            "patch_size": 8,
            "initializer_range": 0.5,
        },
        qformer_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 64,
            "initializer_range": 0.5,
        },
        text_config={
            "model_type": "opt",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "word_embed_proj_dim": 32,
            "max_position_embeddings": 256,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "init_std": 0.5,
        },
        num_query_tokens=4,
    )
    model = Blip2ForConditionalGeneration(config)
    # Zeros at birth: every query, and so every caption, would be the same.
    torch.nn.init.normal_(model.query_tokens)
    torch.nn.init.normal_(model.language_projection.weight, std=0.5)
    model.save_pretrained(path)
    BlipImageProcessorPil(size={"height": IMAGE_PX, "width": IMAGE_PX}).save_pretrained(path)
    return path


def qwen2_5_vl(path: Path, seed: int = 0) -> Path:
    """Write a Qwen2.5-VL."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(path, ("<|endoftext|>", *VISION_TOKENS))
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 8,
        "out_hidden_size": 32,
        "window_size": 32,
        "fullatt_block_indexes": [1],
    }
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**_qwen(tokenizer, vision, "qwen2_5_vl_text")))
    return _save_qwen(model, path, patch_size=8)


def qwen3_vl(path: Path, seed: int = 0) -> Path:
    """Write a Qwen3-VL."""
    torch.manual_seed(seed)
    tokenizer = _tokenizer(path, ("<|endoftext|>", *VISION_TOKENS))
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 8,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**_qwen(tokenizer, vision, "qwen3_vl_text")))
    return _save_qwen(model, path, patch_size=8)


def edit_config(path: Path, **changes: Any) -> None:
    """Change keys of config.json."""
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _qwen(tokenizer: PreTrainedTokenizerFast, vision: dict[str, Any], text_type: str) -> dict[str, Any]:
    token = tokenizer.convert_tokens_to_ids
    return {
        "vision_config": vision,
        "text_config": {
            "model_type": text_type,
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": 4096,
            "initializer_range": 0.5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
            "bos_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
        },
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
    }


def _save_qwen(model: Any, path: Path, patch_size: int) -> Path:
    model.save_pretrained(path)
    Qwen2VLImageProcessorPil(
        patch_size=patch_size, size={"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    ).save_pretrained(path)
    return path


def _tokenizer(path: Path, special: tuple[str, ...]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["a cat on a mat", "a dog in the sun"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=special[0],
        bos_token="<s>" if "<s>" in special else None,
        eos_token="</s>" if "</s>" in special else "<|im_end|>",
    )
    if VISION_TOKENS[0] in special:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(path)
    return fast
