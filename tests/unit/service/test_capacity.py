import json

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from consumers.errors import ConfigurationError
from service.capacity import Gpu, Load, Resolution, plan
from service.cli import plan as plan_command

LOADS = st.builds(
    Load,
    videos_per_day=st.floats(1, 1e7),
    mean_seconds=st.floats(0.5, 1e4),
    resolution=st.sampled_from(Resolution),
    kept_share=st.floats(0, 1),
    gpu=st.sampled_from(Gpu),
    utilisation=st.floats(0.1, 1),
)


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    plan_command.register(app)
    return app


def test_known_load_gives_the_figures_worked_out_by_hand() -> None:
    # 86,400 videos of 10 s are 10 s of video per second; 74 ms + 341 ms x 6/23 x 0.5 = 118.5 ms of CPU each.
    need = plan(Load(86400, 10, Resolution.P720, utilisation=1.0, mbit_per_s=8.0))
    assert need.video_seconds_per_second == 10
    assert need.cpu_cores == 2
    assert need.gpus == 1
    assert need.read_bytes_per_second == 10e6
    assert need.curated_bytes_per_day == pytest.approx(10e6 * 86400 / 2)
    assert need.commits_per_day == 8640


@given(load=LOADS)
def test_more_load_never_needs_less(load: Load) -> None:
    from dataclasses import replace

    once, twice = plan(load), plan(replace(load, videos_per_day=load.videos_per_day * 2))
    assert twice.cpu_cores >= once.cpu_cores >= 1
    assert twice.gpus >= once.gpus
    assert twice.read_bytes_per_day == pytest.approx(2 * once.read_bytes_per_day)


@given(load=LOADS)
def test_planned_cores_cover_the_work_at_the_planned_utilisation(load: Load) -> None:
    from service.capacity import CPU_MS_PER_VIDEO_SECOND

    need = plan(load)
    least = need.video_seconds_per_second * CPU_MS_PER_VIDEO_SECOND[load.resolution] / 1000 / load.utilisation
    assert need.cpu_cores >= least * (1 - 1e-9)


def test_command_prints_figures_and_where_each_rate_comes_from(app: typer.Typer) -> None:
    run = CliRunner().invoke(
        app, ["plan", "--videos-per-day", "1000000", "--mean-seconds", "54", "--resolution", "1080p"]
    )
    assert run.exit_code == 0, run.output
    assert "CPU cores" in run.output
    assert "measured on one x86 server core" in run.output
    assert "published by the authors of Data-Juicer for rtx-5090, not measured by us" in run.output


def test_json_holds_load_capacity_and_rates(app: typer.Typer) -> None:
    run = CliRunner().invoke(
        app, ["plan", "--videos-per-day", "1000", "--mean-seconds", "60", "--gpu", "none", "--json"]
    )
    document = json.loads(run.stdout)
    assert set(document) == {"load", "capacity", "rates"}
    assert document["capacity"]["gpus"] == 0
    assert "models" not in document["rates"]


@pytest.mark.parametrize(
    ("option", "value", "name"),
    [
        ("--kept-share", "1.5", "kept_share"),
        ("--utilisation", "0", "utilisation"),
        ("--mbit-per-s", "-1", "mbit_per_s"),
    ],
)
def test_figure_out_of_range_is_refused_by_name(app: typer.Typer, option: str, value: str, name: str) -> None:
    run = CliRunner().invoke(app, ["plan", "--videos-per-day", "10", "--mean-seconds", "5", option, value])
    assert isinstance(run.exception, ConfigurationError)
    assert name in str(run.exception)
