import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from consumers.errors import ConfigurationError
from consumers.models.aesthetic import AestheticScorer
from consumers.models.captioners import load_captioner
from consumers.models.hub import content_hash, locate, pin, pull
from consumers.models.nsfw import NsfwScorer
from schemas.models import AestheticModelParams, CaptionerParams, ModelsParams, NsfwModelParams
from schemas.profile import Profile
from tests.support import tiny_models
from tests.support.fake_hub import serve_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.nsfw(tmp_path / "nsfw")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serve_hub(tiny_models.nsfw(tmp_path / "hub"), "owner/nsfw", COMMIT) as (address, requests):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield requests


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path) -> NsfwScorer:
    return NsfwScorer.load(NsfwModelParams(source=str(folder)))


def test_loaded_model_says_what_it_is(folder: Path) -> None:
    info = load(folder).info
    assert (info.model_id, info.revision) == (str(folder), content_hash(folder))
    assert (info.device, info.dtype) == (("cuda:0", info.dtype) if torch.cuda.is_available() else ("cpu", "float32"))
    assert info.parameters is not None
    assert info.memory_bytes is not None
    assert info.memory_bytes >= info.parameters * 2


def test_checkpoint_without_its_head_is_refused(folder: Path) -> None:
    edit_weights(folder, lambda weights: [weights.pop(key) for key in list(weights) if key.startswith("classifier")])
    with pytest.raises(ConfigurationError, match=r"2 weights are missing .* such as classifier\.bias"):
        load(folder)


def test_plain_clip_in_place_of_an_aesthetic_predictor_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.aesthetic(tmp_path / "clip")
    edit_weights(folder, lambda weights: [weights.pop(key) for key in list(weights) if key.startswith("layers.")])
    with pytest.raises(ConfigurationError, match=r"10 weights are missing .* layers\.0\.bias; they would be random"):
        AestheticScorer.load(AestheticModelParams(source=str(folder)))


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"classifier.weight": torch.zeros(3, 32)}))
    with pytest.raises(ConfigurationError, match=r"classifier\.weight \(\(3, 32\) where \(2, 32\) is needed\)"):
        load(folder)


def test_pickle_only_checkpoint_is_refused_unread(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"would run code if it were read")
    with pytest.raises(ConfigurationError, match=r"only in pytorch_model\.bin, a format that can run code"):
        load(folder)


def test_checkpoint_with_code_of_its_own_is_refused_and_the_code_not_run(folder: Path) -> None:
    tiny_models.edit_config(folder, auto_map={"AutoModelForImageClassification": "evil.Model"})
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    with pytest.raises(ConfigurationError, match="needs code of its own"):
        load(folder)
    assert not (folder / "ran").exists()


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no directory .*nowhere; mount it or correct the source"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"holds no config\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"holds no model\.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678901234567890"), "cannot be loaded"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), r"holds no preprocessor_config\.json"),
        (lambda folder: tiny_models.edit_config(folder, model_type="unheard-of"), "cannot be loaded"),
    ],
)
def test_damaged_directory_is_refused_with_the_file_that_is_wrong(
    folder: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(folder)
    with pytest.raises(ConfigurationError, match=rf"model {folder}: .*{message}"):
        load(folder)


def test_missing_shard_is_refused_by_name(folder: Path) -> None:
    shutil.move(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ConfigurationError, match=r"1 of 2 weight files are missing .* model-00002-of-00002"):
        load(folder)


def test_classifier_without_an_nsfw_class_is_refused_with_its_classes(tmp_path: Path) -> None:
    folder = tiny_models.nsfw(tmp_path / "pets", labels=("cat", "dog"))
    with pytest.raises(ConfigurationError, match="no class named 'nsfw'; its classes are cat, dog"):
        load(folder)


def test_captioner_of_another_family_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.blip2(tmp_path / "blip2")
    with pytest.raises(ConfigurationError, match=r"it is a blip-2, but kind = 'qwen3_vl' is configured"):
        load_captioner(CaptionerParams(kind="qwen3_vl", source=str(folder)))


def test_chat_template_without_images_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.qwen3_vl(tmp_path / "qwen")
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message['role'] }}{% endfor %}")
    with pytest.raises(ConfigurationError, match="chat template does not show images"):
        load_captioner(CaptionerParams(kind="qwen3_vl", source=str(folder)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpu_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="device cuda:1 is configured, but this machine has no GPU"):
        NsfwScorer.load(NsfwModelParams(source=str(folder), device="cuda:1"))


def test_retrained_weights_and_changed_settings_change_the_hash_and_nothing_else_does(folder: Path) -> None:
    before = content_hash(folder)
    (folder / "README.md").write_text("read me")
    assert content_hash(folder) == before
    edit_weights(folder, lambda weights: weights.update({key: value * 1.001 for key, value in weights.items()}))
    retrained = content_hash(folder)
    tiny_models.edit_config(folder, hidden_act="relu")
    assert len({before, retrained, content_hash(folder)}) == 3


def test_pinned_directory_that_changed_is_refused(folder: Path) -> None:
    pinned = pin(ModelsParams(nsfw=NsfwModelParams(source=str(folder))))
    assert Profile(models=pinned).fingerprint == Profile(models=pin(pinned)).fingerprint
    tiny_models.edit_config(folder, hidden_act="relu")
    with pytest.raises(ConfigurationError, match="restore the directory, or set the revision to the new hash"):
        pin(pinned)


def test_hub_model_is_fetched_once_and_then_read_from_the_cache(hub: list[str]) -> None:
    params = NsfwModelParams(source="owner/nsfw", revision=COMMIT)
    scorer = NsfwScorer.load(params)
    assert (scorer.info.model_id, scorer.info.revision) == ("owner/nsfw", COMMIT)
    assert hub
    hub.clear()
    assert NsfwScorer.load(params).info == scorer.info
    assert hub == []


def test_pulled_copy_is_used_without_network_and_keeps_id_and_revision(hub: list[str], tmp_path: Path) -> None:
    params = NsfwModelParams(source="owner/nsfw", revision=COMMIT)
    copy = pull(params, tmp_path / "models")
    assert copy == tmp_path / "models" / "owner--nsfw" / COMMIT
    hub.clear()
    assert pull(params, tmp_path / "models") == copy
    info = NsfwScorer.load(params, str(tmp_path / "models")).info
    assert (info.model_id, info.revision) == ("owner/nsfw", COMMIT)
    assert hub == []


def test_hub_model_missing_from_the_pulled_copies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"run `sluice models pull .*` on a machine with a network"):
        locate(NsfwModelParams(source="owner/nsfw", revision=COMMIT), str(tmp_path))


@pytest.mark.usefixtures("hub")
def test_model_id_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"model owner/typo: there is no such model on http.*or it is private"):
        locate(NsfwModelParams(source="owner/typo", revision=COMMIT))


@pytest.mark.usefixtures("hub")
def test_revision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=f"it has no revision {COMMIT[::-1]}"):
        locate(NsfwModelParams(source="owner/nsfw", revision=COMMIT[::-1]))


@pytest.mark.usefixtures("hub")
def test_uncached_model_while_offline_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match="HF_HUB_OFFLINE is set; run `sluice models pull DIR`"):
        locate(NsfwModelParams(source="owner/nsfw", revision=COMMIT))
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("hub")
def test_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"http://127\.0\.0\.1:9 does not give revision .*without a network"):
        locate(NsfwModelParams(source="owner/nsfw", revision=COMMIT))
    assert time.monotonic() - began < 10
