"""The commands that speak to a service, against a real server over fakes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from consumers.errors import ConfigurationError
from service.api.server import ApiServer
from service.api.tokens import Role
from service.cli import control, replay, watch
from service.cli.remote import Remote, ServiceError
from service.settings import ApiSettings
from tests.support.api import TOKENS, Service
from tests.unit.service.host.test_supervisor import wait_for

app = typer.Typer()
control.register(app)
replay.register(app)
watch.register(app)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Service, str]]:
    with Service() as service, ApiServer(ApiSettings(port=0)) as server:
        server.start(service.app)
        wait_for(lambda: service.prober.last is not None)
        yield service, server.url


@pytest.fixture
def sluice(running: tuple[Service, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("SLUICE_URL", running[1])
    monkeypatch.setenv("SLUICE_TOKEN", TOKENS[Role.ADMIN])
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def document(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def observed(service: Service) -> str:
    return service.supervisor.status().observed.value


Sluice = Callable[..., Result]


def test_lag_is_a_sentence_and_a_document(sluice: Sluice) -> None:
    said = sluice("lag").output
    assert "2 rows, about 2.0 KiB in 1 snapshot;" in said
    assert "may expire in 1 h 0 min" in said
    assert document(sluice("lag", "--json"))["lag"]["records"] == 2


def test_pause_and_resume_with_a_reason(sluice: Sluice, running: tuple[Service, str]) -> None:
    assert "meant to be paused until" in sluice("pause", "--reason", "tests", "--ttl", "3600").output
    wait_for(lambda: observed(running[0]) == "paused")
    assert document(sluice("pause", "--reason", "tests", "--json"))["desired"]["reason"] == "tests"
    assert document(sluice("resume", "--json"))["desired"]["state"] == "running"
    wait_for(lambda: observed(running[0]) == "running")


def test_position_is_shown_tried_and_refused_while_running(sluice: Sluice) -> None:
    assert "every row below 8" in sluice("position").output
    assert "5 rows would be read again" in sluice("position", "3", "--dry-run").output
    refused = sluice("position", "3")
    assert isinstance(refused.exception, ServiceError)
    assert "stop it first" in str(refused.exception)


def test_dead_letters_are_listed_in_pages_and_replayed(sluice: Sluice) -> None:
    assert "more: --before 3" in sluice("dead-letters", "--limit", "2").output
    assert [item["row_id"] for item in document(sluice("dead-letters", "--json"))["items"]] == [7, 3, 1]
    assert "no dead letters" in sluice("dead-letters", "--stage", "cut").output
    assert sluice("replay").exit_code == 2
    assert document(sluice("replay", "3", "--json")) == {"num_accepted": 1}


def test_replay_refuses_rows_that_are_no_dead_letters_and_chooses_by_time(sluice: Sluice) -> None:
    refused = sluice("replay", "--row", "3", "--row", "4")
    assert isinstance(refused.exception, ConfigurationError)
    assert "row 4: no such dead letter; nothing has changed" in str(refused.exception)
    assert document(sluice("replay", "--since", "2026-05-02", "--json")) == {"num_accepted": 0}
    assert document(sluice("replay", "--class", "cut_failed", "--json")) == {"num_accepted": 0}


def test_video_tells_its_story(sluice: Sluice) -> None:
    assert document(sluice("video", "0", "--json"))["status"] in {"waiting", "in_flight"}
    missing = sluice("video", "99")
    assert "the raw table has no row 99" in str(missing.exception)


def test_top_shows_verdict_rates_and_stages(sluice: Sluice) -> None:
    said = sluice("top", "--once").output
    assert "films:" in said
    assert "1 min" in said
    assert document(sluice("top", "--json"))["stages"]


def test_consumer_that_is_none_is_named(sluice: Sluice) -> None:
    assert "is not hosted here" in str(sluice("lag", "--consumer", "books").exception)


@pytest.mark.parametrize(
    ("name", "value", "kind", "expected"),
    [
        ("SLUICE_TOKEN", "", ConfigurationError, "there is no token"),
        ("SLUICE_TOKEN", "wrong-token-0123456789", ServiceError, "the token is not known"),
        ("SLUICE_TOKEN", "tökén", ConfigurationError, "copy the token alone"),
        ("SLUICE_URL", "ftp://here", ConfigurationError, "is not an http"),
        ("SLUICE_URL", "http://127.0.0.1:1", ServiceError, "cannot be reached"),
    ],
)
def test_service_that_cannot_be_asked_is_one_line(
    sluice: Sluice, monkeypatch: pytest.MonkeyPatch, name: str, value: str, kind: type[Exception], expected: str
) -> None:
    monkeypatch.setenv(name, value)
    error = sluice("lag").exception
    assert isinstance(error, kind)
    assert expected in str(error)
    assert "\n" not in str(error)


def test_videos_are_found_by_name(sluice: Sluice) -> None:
    said = sluice("videos", "3.mp4").output
    assert "not_a_video" in said
    assert [item["row_id"] for item in document(sluice("videos", "--status", "rejected", "--json"))["items"]] == [5]
    assert "no such video was processed" in sluice("videos", "nowhere").output


class Busy(Remote):
    """The service with every stage at work and many videos in flight."""

    def get(self, path: str, **params: Any) -> Any:
        found = super().get(path, **params)
        for stage in found.get("stages", ()) if isinstance(found, dict) else ():
            stage |= {
                "num_in": 12_345,
                "num_out": 12_000,
                "waiting": 17,
                "rejected": {"too_short": 200, "too_long": 145},
            }
        if isinstance(found, dict) and "in_flight" in found:
            video = {"row_id": 1, "video_id": "v1", "stage": "cut", "is_waiting": False, "stage_s": 3.0, "age_s": 9.0}
            found["in_flight"] = [video | {"num_failures": 0}] * 40
        return found


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40)])
def test_top_fits_the_terminal_and_leaves_out_no_stage(
    sluice: Sluice, running: tuple[Service, str], monkeypatch: pytest.MonkeyPatch, width: int, height: int
) -> None:
    console = Console(width=width, height=height, force_terminal=True, file=io.StringIO())
    monkeypatch.setattr(watch, "out", console)
    with Busy(running[1], None) as remote:
        path = remote.consumer(None)
        shown = console.render_lines(watch._view(remote, path, height))
        stages = [stage["stage"] for stage in remote.get(f"{path}/stages")["stages"]]
    lines = ["".join(part.text for part in line).rstrip() for line in shown]
    assert len(lines) <= height
    assert not any(first == second == "" for first, second in pairwise(lines))
    assert len(stages) >= 7
    for stage in stages:
        assert any(line.startswith(stage) for line in lines), stage


def test_token_and_place_of_the_service_can_be_named_on_the_command_line(
    running: tuple[Service, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SLUICE_URL", "SLUICE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "token"
    file.write_text(TOKENS[Role.ADMIN] + "\n")
    named = ("--url", running[1], "--token-file", str(file))
    assert document(CliRunner().invoke(app, ["lag", *named, "--json"]))["lag"]["records"] == 2
    monkeypatch.setenv("SLUICE_TOKEN_FILE", str(file))
    assert CliRunner().invoke(app, ["lag", "--url", running[1]]).exit_code == 0
    file.write_text(f"read {TOKENS[Role.ADMIN]}")
    refused = CliRunner().invoke(app, ["lag", *named])
    assert "copy the token alone, without its role" in str(refused.exception)
    file.unlink()
    assert "--token-file" in str(CliRunner().invoke(app, ["lag", *named]).exception)
