"""`sluice run` as a whole while callers hold everything open that they can: commits go on, and the probe answers."""

from __future__ import annotations

import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from consumers.media.samples import Shot, write_video
from consumers.paimon.catalog import CatalogConfig
from tests.support.page import TOKENS, RunningService, prepare
from tests.support.warehouse import rows_of, table

_NUM_HALF_SENT, _NUM_SLOW, _NUM_DEAF = 1100, 20, 20
_NUM_BACK = 5
_NUM_VIDEOS = 4
_HALF_SENT = (
    b"",
    b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
    b"POST /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
)


class Attack:
    """Holds half-sent requests open, drips others byte by byte, and asks for what it never reads."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[socket.socket] = []
        self._is_over = threading.Event()
        self.is_complete = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _connect(self, sent: bytes) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        with suppress(OSError):
            opened.sendall(sent)
        opened.setblocking(False)
        return opened

    def _run(self) -> None:
        deaf = f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKENS['read']}\r\n\r\n"
        slow: list[socket.socket] = []
        for number in range(_NUM_HALF_SENT):
            if self._is_over.is_set():
                return
            self._open.append(self._connect(_HALF_SENT[number % len(_HALF_SENT)]))
        self._open += [self._connect(deaf.encode()) for _ in range(_NUM_DEAF)]
        self.is_complete.set()
        while not self._is_over.wait(0.1):
            # Some of those that were sent away come again.
            gone = [number for number, opened in enumerate(self._open) if _is_closed(opened)]
            for number in gone[:_NUM_BACK]:
                self._open[number].close()
                self._open[number] = self._connect(_HALF_SENT[number % len(_HALF_SENT)])
            for opened in slow:
                with suppress(OSError):
                    opened.sendall(b"x")
            while len(slow) < _NUM_SLOW:
                slow.append(self._connect(_HALF_SENT[1]))
                self._open.append(slow[-1])

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(30)
        for opened in self._open:
            opened.close()


def _is_closed(opened: socket.socket) -> bool:
    try:
        return opened.recv(65536, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class Probe:
    """Asks /livez all along, each time on a connection of its own, and gives it a second.

    Attributes:
        num_answers: how often it was alive.
        longest_silence: so many in a row were not answered.
        failures: why.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_over = threading.Event()
        self.num_answers = self.longest_silence = 0
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        silence = 0
        while not self._is_over.wait(0.1):
            try:
                httpx.get(f"{self._url}/livez", timeout=1.0).raise_for_status()
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                silence += 1
                self.longest_silence = max(silence, self.longest_silence)
            else:
                self.num_answers += 1
                silence = 0

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(10)


def _eventually(what: Callable[[], bool], service: RunningService) -> None:
    pause = threading.Event()
    for _ in range(600):
        if what():
            return
        assert service.process.poll() is None, "the service has ended"
        pause.wait(0.05)
    raise AssertionError("it did not come true within half a minute")


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """The attackers' ends are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if wanted < _NUM_HALF_SENT + 500:
        pytest.skip("this process may not hold so many connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_commits_go_on_and_the_probe_answers_while_callers_hold_everything_open(tmp_path: Path) -> None:
    media = prepare(tmp_path)
    video = tmp_path / "video.mp4"
    write_video(video, [Shot(3, seed=1)], width=160, height=120, fps=12)
    config = CatalogConfig({"warehouse": str(tmp_path / "warehouse")}, "sluice")

    def curated() -> set[str]:
        return {str(row["video_id"]) for row in rows_of(config, "curation_ledger", ["video_id"])}

    def land(service: RunningService, number: int) -> None:
        path = media / f"{number}.mp4"
        path.write_bytes(video.read_bytes())
        # An operator with a good token, on a connection of its own like the attackers.
        with httpx.Client(base_url=f"{service.url}/api/v1", timeout=10) as client:
            answer = client.post(
                "/videos", json={"uris": [str(path)]}, headers={"Authorization": f"Bearer {TOKENS['operate']}"}
            )
        assert answer.status_code == 200, answer.text
        _eventually(lambda: len(curated()) == number + 1, service)

    # As many descriptors as a container gives a process that asks for nothing.
    service = RunningService(tmp_path, num_descriptors=1024)
    try:
        land(service, 0)
        num_before = table(config, "curated_clips").snapshot_manager().get_latest_snapshot().id
        with closing(Attack(service.port)) as attack, closing(Probe(service.url)) as probe:
            assert attack.is_complete.wait(20)
            for number in range(10):
                refused = httpx.get(
                    f"{service.url}/api/v1/consumers",
                    headers={"Authorization": f"Bearer wrong-token-number-{number}-0123456789"},
                    timeout=10,
                )
                assert refused.status_code in (401, 429)
            for number in range(1, _NUM_VIDEOS + 1):
                land(service, number)
        # A machine that is busy with other things may hold one up; a kubelet, too, waits for more than one.
        assert probe.num_answers >= 10
        assert probe.longest_silence <= 1, probe.failures
        snapshots = table(config, "curated_clips").snapshot_manager()
        assert snapshots.get_latest_snapshot().id >= num_before + _NUM_VIDEOS
    finally:
        service.end()
    assert service.process.returncode == 0
