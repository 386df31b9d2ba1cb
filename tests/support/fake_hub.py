"""A model hub on a loopback port: the part of the hub's HTTP API that fetching a pinned revision needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

_JSON = {"Content-Type": "application/json"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, model_id: str, revision: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.model_id = model_id
        self.revision = revision
        self.requests: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_args: object) -> None:
        """Say nothing on standard error."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        server = self.server
        path = self.path.partition("?")[0]
        server.requests.append(f"{self.command} {path}")
        tree = f"/api/models/{server.model_id}/tree/{server.revision}"
        files = f"/{server.model_id}/resolve/{server.revision}/"
        if path == f"/api/models/{server.model_id}/revision/{server.revision}":
            self._send(200, json.dumps({"id": server.model_id, "sha": server.revision}).encode(), _JSON)
        elif path.startswith(tree):
            listing = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _etag(file)}
                for file in sorted(server.folder.iterdir())
            ]
            self._send(200, json.dumps(listing).encode(), _JSON)
        elif path.startswith(files):
            file = server.folder / path.removeprefix(files)
            headers = {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": server.revision, "Accept-Ranges": "bytes"}
            self._send(200, file.read_bytes(), headers)
        elif f"/{server.model_id}/" in path:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


@contextmanager
def serve_hub(folder: Path, model_id: str, revision: str) -> Iterator[tuple[str, list[str]]]:
    """Serve one model; yield the address and the list of requests so far."""
    server = _Server(folder, model_id, revision)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
