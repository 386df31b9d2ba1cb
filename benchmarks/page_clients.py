"""People at the page and programs at the API: what they ask for, again and again, each in a thread of its own."""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

_TIMEOUT_S = 60.0
_PAGES_PER_SESSION = 200
# A link of the page to a clip's picture or bytes.
_CLIP = re.compile(r"/api/v1/clips/[0-9a-f]{32}/(?:media|thumbnail)(?:\?row=\d+)?")
_SEARCHES = ("dog", "harbour, take 1", "take 77", "nothing that any clip has")


class PageClients:
    """Watchers and readers of one service, from :meth:`start` to :meth:`close`.

    Args:
        url: of the service.
        token: to read with.
        consumer: its consumer.
        num_rows: tells how many videos are through.
        num_readers: threads that load pages.
        think_s: rest of a reader between two requests, in seconds.

    Attributes:
        answers: how often each status was answered, to all readers; 0 is no answer.
        num_events: events that the watchers have seen.
    """

    def __init__(
        self,
        url: str,
        token: str,
        consumer: str,
        num_rows: Callable[[], int],
        *,
        num_watchers: int = 3,
        num_readers: int = 3,
        think_s: float = 0.2,
    ) -> None:
        self._url = url
        self._token = token
        self._headers = {"Authorization": f"Bearer {token}"}
        self._consumer = consumer
        self._num_rows = num_rows
        self._think_s = think_s
        self._stop = threading.Event()
        self.answers: Counter[int] = Counter()
        self.num_events = 0
        self._stalled: socket.socket | None = None
        works = [(self._watch, number) for number in range(num_watchers)]
        works += [(self._read, number) for number in range(num_readers)]
        self._threads = [
            threading.Thread(target=work, args=(number,), name=f"{work.__name__}-{number}", daemon=True)
            for work, number in works
        ]

    def start(self) -> None:
        """Begin; one watcher more connects and never reads."""
        self._stalled = self._stall()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End."""
        self._stop.set()
        if self._stalled is not None:
            self._stalled.close()
        for thread in self._threads:
            thread.join(2 * _TIMEOUT_S)

    def _stall(self) -> socket.socket:
        place = urlsplit(self._url)
        connection = socket.create_connection((place.hostname or "", place.port or 80))
        head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": place.netloc, **self._headers}.items())
        connection.sendall(f"GET /api/v1/events HTTP/1.1\r\n{head}\r\n".encode())
        return connection

    def _watch(self, number: int) -> None:
        last_id = ""
        while not self._stop.is_set():
            headers = {**self._headers, "Accept": "text/event-stream", "Last-Event-ID": last_id}
            with (
                suppress(httpx.HTTPError),
                httpx.stream("GET", f"{self._url}/api/v1/events", headers=headers, timeout=_TIMEOUT_S) as answer,
            ):
                for line in answer.iter_lines():
                    if line.startswith("id: "):
                        last_id = line.removeprefix("id: ")
                        self.num_events += 1
                    # A browser's tab is closed now and then, and opened again.
                    if self._stop.is_set() or (line.startswith("id: ") and self.num_events % 1000 == number):
                        break

    def _read(self, number: int) -> None:
        chance = random.Random(number)
        while not self._stop.is_set():
            with httpx.Client(base_url=self._url, timeout=_TIMEOUT_S) as client:
                with suppress(httpx.HTTPError):
                    client.post("/api/v1/session", json={"token": self._token})
                for _ in range(_PAGES_PER_SESSION):
                    if self._stop.wait(self._think_s):
                        return
                    path, parameters = self._choose(chance)
                    links = _CLIP.findall(self._get(client, path, **parameters))
                    for link in chance.sample(links, min(3, len(links))):
                        self._get(client, link)

    def _choose(self, chance: random.Random) -> tuple[str, dict[str, Any]]:
        row = chance.randrange(max(1, self._num_rows()))
        consumer = f"/api/v1/consumers/{self._consumer}"
        pages: list[tuple[str, dict[str, Any]]] = [
            ("/", {}),
            ("/clips", {}),
            ("/clips", {"text": chance.choice(_SEARCHES)}),
            ("/clips", {"before": row}),
            ("/videos", {"status": "failed"}),
            ("/videos", {"status": "rejected"}),
            (f"/videos/{row}", {}),
            ("/log", {}),
            ("/api/v1/clips", {"text": chance.choice(_SEARCHES), "limit": 200}),
            ("/api/v1/clips", {"source_row_id": row}),
            (f"/api/v1/videos/{row}", {}),
            (f"{consumer}/lag", {}),
            (f"{consumer}/stages", {}),
            (f"{consumer}/commits", {}),
            (f"{consumer}/dead-letters", {"stage": "open"}),
            (f"{consumer}/position", {}),
            (f"{consumer}/takedowns", {}),
        ]
        return chance.choice(pages)

    def _get(self, client: httpx.Client, path: str, **parameters: Any) -> str:
        try:
            answer = client.get(path, params=parameters or None)
        except httpx.HTTPError:
            self.answers[0] += 1
            # The service is busy, or over.
            time.sleep(self._think_s)
            return ""
        self.answers[answer.status_code] += 1
        return answer.text if "html" in answer.headers.get("content-type", "") else ""
