"""Finds a configured checkpoint on disk, fetching it first where it has to come from the hub. Loads nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors

from consumers.errors import ConfigurationError
from schemas.models import CheckpointParams, ModelsParams

_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "LICENSE*"]
_HASHED_SUFFIXES = {".json", ".txt", ".model", ".jinja"}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_HUB_TIMEOUT_S = 10
_SAMPLES = 256
_SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        path: the directory that holds config.json and the weights.
        model_id: hub id, or the directory as configured.
        revision: commit, or hash of the directory's contents.
        config: the contents of config.json.
    """

    path: Path
    model_id: str
    revision: str
    config: Mapping[str, Any]


def locate(params: CheckpointParams, directory: str | None = None) -> Checkpoint:
    """Return the checkpoint that ``params`` name.

    Args:
        params: source and revision.
        directory: ``ModelsParams.directory``: where pulled copies of hub models are; the network is not used then.

    Raises:
        ConfigurationError: it cannot be had, is not complete, holds no safetensors, or is not the pinned one.
    """
    if params.is_local:
        path = Path(params.source).expanduser()
        config = _inspect(path, params.source)
        found = content_hash(path)
        if params.revision not in {None, found}:
            raise ConfigurationError(
                f"model {params.source}: its contents have the hash {found}, but {params.revision} is configured; "
                "restore the directory, or set the revision to the new hash if the change is meant"
            )
        return Checkpoint(path, params.source, found, config)
    revision = str(params.revision)
    if directory is not None:
        path = pulled_path(Path(directory).expanduser(), params.source, revision)
        if not path.is_dir():
            raise ConfigurationError(
                f"model {params.source}: {path} does not exist; run `sluice models pull {directory}` on a machine with "
                "a network, or correct profile.models.directory"
            )
    else:
        path = _cached(params.source, revision)
    return Checkpoint(path, params.source, revision, _inspect(path, params.source))


def pin(models: ModelsParams) -> ModelsParams:
    """Return ``models`` with the revision of every directory filled in, so that the profile has its fingerprint.

    Raises:
        ConfigurationError: a directory holds no loadable checkpoint, or not the pinned one.
    """
    update = {}
    for name in ("nsfw", "aesthetic", "captioner"):
        params = getattr(models, name)
        if isinstance(params, CheckpointParams) and params.is_local:
            update[name] = params.model_copy(update={"revision": locate(params).revision})
    return models.model_copy(update=update)


def pull(params: CheckpointParams, directory: Path) -> Path:
    """Fetch a hub checkpoint into ``directory`` for machines without a network; return where it is.

    A complete copy is left as it is. The copy appears under its final name only once it is complete.

    Raises:
        ConfigurationError: the hub does not give it, or it holds no safetensors.
    """
    revision = str(params.revision)
    target = pulled_path(directory, params.source, revision)
    if not target.is_dir():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{target.parent} cannot be created ({error}); choose another") from error
        partial = target.with_name(f"{revision}.partial")
        _download(params.source, revision, local_dir=str(partial))
        _inspect(partial, params.source)
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        partial.rename(target)
    _inspect(target, params.source)
    return target


def pulled_path(directory: Path, model_id: str, revision: str) -> Path:
    """Return where a pulled copy lies: ``DIRECTORY/owner--name/REVISION``."""
    return directory / model_id.replace("/", "--") / revision


def content_hash(path: Path) -> str:
    """Return 64 hexadecimal digits over the contents of a checkpoint directory.

    Configuration and vocabulary count in full; of each weights file the size, the header (names, types, shapes) and
    256 evenly spread blocks of 4 KiB: any retraining changes those, and tens of gigabytes need not be read.
    """
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.suffix not in _HASHED_SUFFIXES and file.suffix != ".safetensors":
            continue
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        if file.suffix != ".safetensors":
            digest.update(file.read_bytes())
            continue
        with file.open("rb") as stream:
            header = min(int.from_bytes(stream.read(8), "little"), size)
            digest.update(stream.read(header))
            for index in range(_SAMPLES):
                stream.seek(8 + header + max(0, size - 8 - header - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _cached(model_id: str, revision: str) -> Path:
    # A pinned commit never changes, so that a cached copy needs no question to the hub.
    try:
        return Path(
            huggingface_hub.snapshot_download(
                model_id, revision=revision, allow_patterns=_PATTERNS, local_files_only=True
            )
        )
    except errors.LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE:
            raise ConfigurationError(
                f"model {model_id}: revision {revision} is not in the cache {constants.HF_HUB_CACHE}, and "
                "HF_HUB_OFFLINE is set; run `sluice models pull DIR` on a machine with a network and set "
                "profile.models.directory to the copy"
            ) from error
    return _download(model_id, revision)


def _download(model_id: str, revision: str, local_dir: str | None = None) -> Path:
    try:
        # Asked first because this one call is not repeated for half a minute where there is no network.
        huggingface_hub.HfApi().model_info(model_id, revision=revision, timeout=_HUB_TIMEOUT_S)
        return Path(
            huggingface_hub.snapshot_download(
                model_id, revision=revision, allow_patterns=_PATTERNS, local_dir=local_dir, etag_timeout=_HUB_TIMEOUT_S
            )
        )
    except errors.GatedRepoError as error:
        raise ConfigurationError(
            f"model {model_id}: its owner grants access on request; ask for it on https://huggingface.co/{model_id} "
            "and set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ConfigurationError(
            f"model {model_id}: there is no such model on {constants.ENDPOINT}, or it is private; check the id, or set "
            "HF_TOKEN for a private one"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ConfigurationError(
            f"model {model_id}: it has no revision {revision}; take one from https://huggingface.co/{model_id}/commits/main"
        ) from error
    # The hub's client lets the errors of its HTTP library through, which have no common base but Exception.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(
            f"model {model_id}: {constants.ENDPOINT} does not give revision {revision} ({reason}); without a network "
            "use a copy made by `sluice models pull DIR` and set profile.models.directory to it"
        ) from error


def _inspect(path: Path, model: str) -> Mapping[str, Any]:
    if not path.is_dir():
        raise ConfigurationError(f"model {model}: there is no directory {path}; mount it or correct the source")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"model {model}: {path} holds no config.json; give a directory as written by save_pretrained"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"model {model}: {path / 'config.json'} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise ConfigurationError(f"model {model}: {path / 'config.json'} is not a JSON object")
    _require_safetensors(path, model)
    return config


def _require_safetensors(path: Path, model: str) -> None:
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ConfigurationError(f"model {model}: {index} cannot be understood; fetch the model anew") from error
        missing = sorted(shard for shard in shards if not (path / shard).is_file())
        if missing:
            raise ConfigurationError(
                f"model {model}: {len(missing)} of {len(shards)} weight files are missing in {path}, such as "
                f"{missing[0]}; fetch the model anew"
            )
        return
    if (path / "model.safetensors").is_file():
        return
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        raise ConfigurationError(
            f"model {model}: its weights are only in {', '.join(pickles[:3])}, a format that can run code when it is "
            "loaded, and are refused; take a revision with model.safetensors, or convert them in a sandbox"
        )
    raise ConfigurationError(
        f"model {model}: {path} holds no model.safetensors (weights in other formats are neither fetched nor loaded); "
        "take a revision that has it"
    )
