"""``sluice run`` with models configured, in the process of the test."""

import json
import sys
from pathlib import Path

import pytest

from consumers.media.samples import Shot, write_video
from consumers.models.hub import content_hash
from service.cli.main import main
from service.settings import load_settings
from service.wiring import clip_reader
from tests.support import tiny_models


@pytest.fixture
def sluice(tmp_path, monkeypatch, capsys):
    """Run the command line in a folder of its own; return exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sluice", *arguments])
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        else:
            code = 0
        return code, *capsys.readouterr()

    return run


def write_settings(folder: Path, models: str) -> None:
    (folder / "warehouse").mkdir(exist_ok=True)
    (folder / "sluice.toml").write_text(
        f'[catalog]\nwarehouse = "{folder / "warehouse"}"\n[input]\nallow = ["{folder}"]\n'
        f'[pool]\nkind = "inline"\nreplicas = 1\n[profile.frames]\nsize_px = 64\n{models}'
    )


def test_a_run_with_models_writes_scores_that_name_model_and_revision(sluice, tmp_path):
    checkpoint = tiny_models.nsfw(tmp_path / "nsfw")
    write_settings(tmp_path, f'[profile.nsfw]\nmode = "score_only"\n[profile.models.nsfw]\nsource = "{checkpoint}"\n')
    write_video(tmp_path / "a.mp4", (Shot(1.2, seed=1, speed_px=4),), width=128, height=96)
    assert sluice("init")[0] == 0
    assert sluice("ingest", "a.mp4")[0] == 0
    code, out, err = sluice("run", "--until-caught-up", "--json")
    assert code == 0, err
    assert json.loads(out)["num_clips_committed"] == 1
    (clip,) = clip_reader(load_settings()).clips()
    assert 0 <= clip.values["nsfw_score"] <= 1
    assert clip.values["nsfw_model_id"] == str(checkpoint)
    assert clip.values["nsfw_model_revision"] == content_hash(checkpoint)


def test_a_model_that_is_not_there_stops_the_start_before_anything_is_read(sluice, tmp_path):
    write_settings(tmp_path, '[profile.models.nsfw]\nsource = "./nothing"\n')
    assert sluice("init")[0] == 0
    code, _, err = sluice("run", "--until-caught-up")
    assert code == 2
    assert err == ("sluice: model ./nothing: there is no directory nothing; mount it or correct the source\n")


def test_a_pinned_model_that_is_not_on_this_machine_is_refused_by_the_worker(sluice, tmp_path):
    write_settings(tmp_path, f'[profile.models.nsfw]\nsource = "./nothing"\nrevision = "{"0" * 64}"\n')
    assert sluice("init")[0] == 0
    code, _, err = sluice("run", "--until-caught-up")
    assert code == 2
    assert "there is no directory nothing" in err
