"""A Paimon REST catalog over warehouses on disk, in a process of its own that ends with the one that started it.

It answers what pypaimon's client asks for: configuration, databases, tables, the latest snapshot, and a commit that
compares and swaps: a snapshot becomes the latest one only if it was made on top of the one that is. Every request needs
the bearer token.
"""

from __future__ import annotations

import json
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pypaimon import CatalogFactory
from pypaimon.catalog.catalog_exception import (
    DatabaseAlreadyExistException,
    DatabaseNotExistException,
    TableAlreadyExistException,
    TableNotExistException,
)
from pypaimon.common.json_util import JSON
from pypaimon.schema.schema import Schema
from pypaimon.snapshot.snapshot import Snapshot

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.tables import create_tables
from tests.support.child_server import ChildServer
from tests.support.warehouse import NAMES

_TOKEN = "rest-test-token"


def catalog_options(uri: str, warehouse: str) -> dict[str, str]:
    """Return Paimon's options for the catalog at ``uri``, with the warehouse's name."""
    return {"metastore": "rest", "uri": uri, "warehouse": warehouse, "token.provider": "bear", "token": _TOKEN}


def make_rest_warehouse(uri: str, warehouse: str) -> CatalogConfig:
    """Create the four tables in ``warehouse``, through the catalog at ``uri``."""
    config = CatalogConfig(catalog_options(uri, warehouse), "db")
    create_tables(open_catalog(config), config, NAMES)
    return config


class RestCatalogServer(ChildServer):
    """Serves the folders in ``root`` as warehouses while the context is open; ``port`` and ``uri`` say where."""

    def __init__(self, root: Path) -> None:
        super().__init__([sys.executable, "-m", "tests.support.rest_catalog", str(root)], "the REST catalog")
        self._root = root

    @property
    def uri(self) -> str:
        """What Paimon's option ``uri`` is set to."""
        return self.url

    def make_warehouse(self, name: str) -> str:
        """Make an empty warehouse and return its name."""
        (self._root / name).mkdir()
        return name


class _RefusedError(Exception):
    """What the client is told."""

    def __init__(self, code: int, kind: str, name: str) -> None:
        super().__init__(f"{kind.lower()} {name}: code {code}")
        self.code, self.kind, self.name = code, kind, name


class _Catalogs:
    """The state behind the server. One lock around everything makes the swap atomic."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()

    def answer(self, method: str, parts: list[str], query: dict[str, list[str]], body: Any) -> dict[str, Any]:
        """Return what a request comes to; ``parts`` of its path begin behind the version."""
        with self._lock:
            if (method, parts) == ("GET", ["config"]):
                # The client encodes the name, and then the query.
                name = unquote(query["warehouse"][0])
                self._open(name)
                return {"defaults": {}, "overrides": {"prefix": name}}
            catalog = self._open(parts[0])
            match (method, parts[1:]):
                case ("POST", ["databases"]):
                    catalog.create_database(body["name"], False)
                    return {}
                case ("POST", ["databases", database, "tables"]):
                    schema = JSON.from_json(json.dumps(body["schema"]), Schema)
                    catalog.create_table(f"{database}.{body['identifier']['object']}", schema, False)
                    return {}
                case ("GET", ["databases", database, "tables", name]):
                    return _describe(name, catalog.get_table(f"{database}.{name}"))
                case ("GET", ["databases", database, "tables", name, "snapshot"]):
                    return _latest(name, catalog.get_table(f"{database}.{name}"))
                case ("POST", ["databases", database, "tables", name, "commit"]):
                    return {"success": _commit(name, catalog.get_table(f"{database}.{name}"), body)}
        raise _RefusedError(501, "REQUEST", f"{method} {'/'.join(parts)}")

    def _open(self, name: str) -> Any:
        if not (self._root / name).is_dir():
            raise _RefusedError(404, "WAREHOUSE", name)
        return CatalogFactory.create({"warehouse": str(self._root / name)})


def _describe(name: str, table: Any) -> dict[str, Any]:
    path = Path(table.table_path)
    return {
        "id": _table_id(path),
        "name": name,
        "path": path.as_uri(),
        "isExternal": False,
        "schemaId": table.table_schema.id,
        "schema": json.loads(JSON.to_json(table.table_schema.to_schema())),
    }


def _latest(name: str, table: Any) -> dict[str, Any]:
    latest = table.snapshot_manager().get_latest_snapshot()
    if latest is None:
        raise _RefusedError(404, "SNAPSHOT", name)
    statistics = {
        "recordCount": latest.total_record_count,
        "fileSizeInBytes": 0,
        "fileCount": 0,
        "lastFileCreationTime": latest.time_millis,
    }
    return {"snapshot": {"snapshot": json.loads(JSON.to_json(latest)), **statistics}}


def _commit(name: str, table: Any, body: Any) -> bool:
    if body["tableId"] != _table_id(Path(table.table_path)):
        raise _RefusedError(404, "TABLE", name)
    manager = table.snapshot_manager()
    latest = manager.get_latest_snapshot()
    made: Any = JSON.from_json(json.dumps(body["snapshot"]), Snapshot)
    if (made.id - 1, body.get("baseSnapshotUuid")) != ((0, None) if latest is None else (latest.id, latest.uuid)):
        return False
    folder = Path(manager.snapshot_dir)
    folder.mkdir(exist_ok=True)
    _write(folder / f"snapshot-{made.id}", JSON.to_json(made))
    _write(folder / "LATEST", str(made.id))
    return True


def _table_id(path: Path) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, path.as_uri()))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _handler_of(catalogs: _Catalogs) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            parts = [unquote(part) for part in url.path.split("/")[2:]]
            try:
                if self.headers.get("Authorization") != f"Bearer {_TOKEN}":
                    raise _RefusedError(401, "TOKEN", "that was sent")
                said = json.loads(body) if body else None
                self._answer(200, catalogs.answer(self.command, parts, parse_qs(url.query), said))
            except _RefusedError as refused:
                self._refuse(refused.code, refused.kind, refused.name, str(refused))
            except (DatabaseNotExistException, TableNotExistException) as error:
                self._refuse(404, "TABLE", "", str(error))
            except (DatabaseAlreadyExistException, TableAlreadyExistException) as error:
                self._refuse(409, "TABLE", "", str(error))
            except Exception as error:
                self._refuse(500, "SERVER", "", repr(error))

        do_GET = do_POST = _handle  # noqa: N815

        def _refuse(self, code: int, kind: str, name: str, message: str) -> None:
            self._answer(code, {"resourceType": kind, "resourceName": name, "message": message, "code": code})

        def _answer(self, code: int, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response_only(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Stay silent."""

    return Handler


def _serve(root: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(_Catalogs(root)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
