import ctypes
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from huggingface_hub import constants
from typer.testing import CliRunner

from consumers.errors import ConfigurationError
from service.cli import models
from tests.support import tiny_models
from tests.support.fake_hub import serve_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()
    models.register(application)
    application.command("unused")(lambda: None)
    return application


def run(app: typer.Typer, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", *arguments])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def settings(folder: Path, profile: str) -> str:
    file = folder / "sluice.toml"
    file.write_text(f'[catalog]\nwarehouse = "{folder}"\n{profile}')
    return str(file)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serve_hub(tiny_models.nsfw(tmp_path / "hub"), "owner/nsfw", COMMIT) as (address, _requests):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield


def test_check_without_models_says_that_the_built_ins_serve(app: typer.Typer, tmp_path: Path) -> None:
    config = settings(tmp_path, '[profile]\nmodels = "none"\n')
    text = " ".join(run(app, "check", "--config", config).split())
    assert "the weight-free built-ins serve. See [profile.models] in the settings." in text
    assert json.loads(run(app, "check", "--json", "--config", config))["models"] == []


def test_check_says_what_would_decode_videos_here_and_refuses_what_cannot(app: typer.Typer, tmp_path: Path) -> None:
    config = settings(tmp_path, "")
    assert 'Decoder of videos on this machine: cpu (pool.decoder = "cpu")' in " ".join(
        run(app, "check", "--config", config).split()
    )
    config = settings(tmp_path, '[pool]\ndecoder = "nvdec"\n')
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        with pytest.raises(ConfigurationError, match="cannot use it: no NVIDIA driver was found"):
            run(app, "check", "--config", config)


def test_check_loads_and_runs_every_configured_model(app: typer.Typer, tmp_path: Path) -> None:
    nsfw, aesthetic, blip2 = (getattr(tiny_models, name)(tmp_path / name) for name in ("nsfw", "aesthetic", "blip2"))
    config = settings(
        tmp_path,
        f'[profile.models.nsfw]\nsource = "{nsfw}"\n[profile.models.aesthetic]\nsource = "{aesthetic}"\n'
        f'[profile.models.captioner]\nkind = "blip2"\nsource = "{blip2}"\n',
    )
    report = json.loads(run(app, "check", "--json", "--config", config))["models"]
    assert [item["stage"] for item in report] == ["nsfw", "aesthetic", "captioner"]
    for item, source in zip(report, (nsfw, aesthetic, blip2), strict=True):
        assert item["info"]["model_id"] == str(source)
        assert len(item["info"]["revision"]) == 64
        assert item["info"]["dtype"] in {"float32", "bfloat16"}
        assert item["info"]["memory_bytes"] > 1000
        assert item["run_ms"] > 0
    assert 0 <= report[0]["answer"] <= 1
    assert isinstance(report[2]["answer"], str)
    assert "run ms" in run(app, "check", "--config", config)


def test_check_names_every_model_that_cannot_be_loaded(app: typer.Typer, tmp_path: Path) -> None:
    config = settings(
        tmp_path,
        f'[profile.models.nsfw]\nsource = "{tmp_path}/a"\n[profile.models.aesthetic]\nsource = "{tmp_path}/b"\n',
    )
    with pytest.raises(ConfigurationError) as caught:
        run(app, "check", "--config", config)
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["nsfw", "aesthetic"]
    assert all("there is no directory" in line for line in lines)


@pytest.mark.usefixtures("hub")
def test_pulled_models_pass_the_check_without_a_network(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = f'[profile.models.nsfw]\nsource = "owner/nsfw"\nrevision = "{COMMIT}"\n'
    target = tmp_path / "copies"
    text = run(app, "pull", str(target), "--config", settings(tmp_path, profile))
    assert f'profile.models.directory = "{target}"' in text
    assert (target / "owner--nsfw" / COMMIT / "model.safetensors").is_file()

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = settings(tmp_path, f'[profile.models]\ndirectory = "{target}"\n{profile}')
    (item,) = json.loads(run(app, "check", "--json", "--config", config))["models"]
    assert (item["info"]["model_id"], item["info"]["revision"]) == ("owner/nsfw", COMMIT)


@pytest.mark.usefixtures("hub")
def test_failed_pull_leaves_no_copy_that_looks_complete(app: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "hub" / "model.safetensors").unlink()
    config = settings(tmp_path, f'[profile.models.nsfw]\nsource = "owner/nsfw"\nrevision = "{COMMIT}"\n')
    with pytest.raises(ConfigurationError, match=r"nsfw: model owner/nsfw: .*holds no model\.safetensors"):
        run(app, "pull", str(tmp_path / "copies"), "--config", config)
    assert not (tmp_path / "copies" / "owner--nsfw" / COMMIT).exists()


def test_pull_has_nothing_to_fetch_for_directories(app: typer.Typer, tmp_path: Path) -> None:
    config = settings(tmp_path, f'[profile.models.nsfw]\nsource = "{tmp_path}/a"\n')
    (item,) = json.loads(run(app, "pull", str(tmp_path / "copies"), "--json", "--config", config))["models"]
    assert (item["path"], item["note"]) == (None, "a directory already")
