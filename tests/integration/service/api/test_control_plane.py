"""The real service: uvicorn, a real inline consumer, tables on disk, from outside."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from consumers.media.samples import write_samples

SLUICE = str(Path(sys.executable).with_name("sluice"))
TOKENS = {"operate": "operate-token-of-the-tests", "read": "read-token-of-the-tests"}


class Service:
    """`sluice run` in a process of its own, with ports that it chose itself."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [SLUICE, "run", "--pool", "inline"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if found := re.search(r"control plane (\S+), metrics (\S+)", line):
                break
        else:
            raise AssertionError("".join(said))
        self.metrics_url = found[2]
        self._last_event = 0
        self.client = httpx.Client(
            base_url=f"{found[1]}/api/v1", headers={"Authorization": f"Bearer {TOKENS['operate']}"}, timeout=30
        )

    def get(self, path: str) -> Any:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for(self, kind: str, **wanted: Any) -> None:
        """Follow the events, from the last one that was waited for, until one of this kind says this."""
        headers = {"Last-Event-ID": str(self._last_event)}
        event: dict[str, str] = {}
        with self.client.stream("GET", "/events", headers=headers) as events:
            for line in events.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    event[name] = value
                    continue
                found, data = event, json.loads(event.get("data", "{}"))
                event = {}
                if found.get("event") == kind and all(data[name] == value for name, value in wanted.items()):
                    self._last_event = int(found["id"])
                    return
        raise AssertionError(f"the events ended without {kind} {wanted}")

    def measured(self, **wanted: Any) -> Any:
        """Return what is said of the consumer once a measurement of the lag shows it so; each answer takes a while."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = self.get("/consumers/films")
            if all(found[name] == value for name, value in wanted.items()):
                return found
        raise AssertionError(found)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.client.close()
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    media = tmp_path / "media"
    media.mkdir()
    for word, token in TOKENS.items():
        monkeypatch.setenv(f"SLUICE_API__TOKENS__{word.upper()}", token)
    run = subprocess.run(
        [SLUICE, "init", "--warehouse", str(tmp_path / "warehouse"), "--allow", str(media)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "created" in run.stdout
    settings = (tmp_path / "sluice.toml").read_text().replace('id = "default"', 'id = "films"\ncommit_interval_s = 0.5')
    # A broken upload is mended under its own name, and its row replayed.
    settings = settings.replace("[input]\n", '[input]\non_replaced = "take_new"\n')
    (tmp_path / "sluice.toml").write_text(
        settings + "\n[api]\nport = 0\nmetrics_port = 0\nprobe_interval_s = 0.3\ncontrol_poll_interval_s = 0.2\n"
    )
    return tmp_path


@pytest.fixture
def samples(folder: Path) -> list[str]:
    return [str(path) for path in write_samples(folder / "media", count=3)]


@pytest.fixture
def start(folder: Path) -> Iterator[Any]:
    running: list[Service] = []

    def _start() -> Service:
        running.append(Service(folder))
        return running[-1]

    yield _start
    for service in running:
        if service.process.poll() is None:
            service.end(signal.SIGKILL)


def test_pause_with_a_reason_outlives_a_kill_and_is_taken_back(start: Any, samples: list[str]) -> None:
    service = start()
    assert service.client.post("/videos", json={"uris": samples[:1]}).json()["num_added"] == 1
    service.wait_for("commit", num_videos=1)
    assert service.measured(lag_records=0)["position"]["watermark"] == 1
    answer = service.client.put("/consumers/films/pause", json={"reason": "store maintenance"})
    assert answer.status_code == 202
    service.wait_for("state", to="paused")
    assert service.client.post("/videos", json={"uris": samples}).json()["num_already_present"] == 1
    service.end(signal.SIGKILL)

    service = start()
    service.wait_for("state", to="paused")
    found = service.measured(verdict="paused", lag_records=len(samples) - 1)
    assert (found["desired"]["actor"], found["desired"]["reason"]) == ("operate", "store maintenance")
    assert found["lag"]["seconds"] > 0
    assert service.client.put("/consumers/films/resume").status_code == 202
    service.wait_for("commit")
    found = service.measured(lag_records=0, verdict="current")
    assert (found["position"]["watermark"], found["observed"]) == (3, "running")
    clips = service.get("/clips")["items"]
    assert clips
    media = service.client.get(f"/clips/{clips[0]['clip_id']}/media", headers={"Range": "bytes=4-7"})
    assert (media.status_code, media.content) == (206, b"ftyp")
    for link in (clips[0], *service.get(f"/videos/{clips[0]['values']['source_row_id']}")["clips"]):
        assert service.client.get(link["thumbnail_url"].removeprefix("/api/v1")).content.startswith(b"\xff\xd8")
    assert service.get("/consumers/films/audit")["is_clean"] is True
    assert 'sluice_lag_records{consumer="films"} 0.0' in httpx.get(service.metrics_url).text
    assert service.end() == 0


def test_dead_letter_is_replayed_once_its_object_has_been_mended(start: Any, folder: Path, samples: list[str]) -> None:
    target = folder / "media" / "late.mp4"
    good = Path(samples[0]).read_bytes()
    target.write_bytes(b"this is no video " * 100)
    service = start()
    assert service.client.post("/videos", json={"uris": [str(target)]}).json()["num_added"] == 1
    service.wait_for("commit", num_videos=1)
    (letter,) = service.get("/consumers/films/dead-letters")["items"]
    target.write_bytes(good)
    answer = service.client.post("/consumers/films/dead-letters/replay", json={"row_ids": [letter["row_id"]]})
    assert answer.json()["num_accepted"] == 1
    service.wait_for("replay", num_rows=1)
    service.wait_for("commit", num_videos=1)
    story = service.get(f"/videos/{letter['row_id']}")
    assert story["status"] == "curated"
    assert [run["status"] for run in story["runs"]] == ["failed", "curated"]
    assert service.get("/consumers/films/dead-letters")["items"] == []
    assert service.get("/consumers/films/audit")["is_clean"] is True
    assert service.end() == 0


def test_second_copy_and_a_port_that_is_taken_are_refused_in_one_clear_line(start: Any, folder: Path) -> None:
    service = start()
    before = service.get("/consumers/films/position")
    port = service.client.base_url.port
    for further, message in (
        ((), f"consumer films: process {service.process.pid} on "),
        (("--consumer", "others"), "table sluice.curated_clips holds the clips of sluice.raw_videos by consumer films"),
        (("--consumer", "others", "--second-consumer"), f"cannot listen on 127.0.0.1:{port}"),
    ):
        second = subprocess.run(
            [SLUICE, "run", "--pool", "inline", "--port", str(port), *further],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 2
        assert message in second.stderr
        assert "Traceback" not in second.stderr
    replay = subprocess.run([SLUICE, "replay", "--all"], cwd=folder, capture_output=True, text=True, check=False)
    assert (replay.returncode, replay.stdout.strip()) == (0, "no dead letter matches; nothing has changed")
    assert service.get("/consumers/films/position") == before
    assert service.end() == 0
