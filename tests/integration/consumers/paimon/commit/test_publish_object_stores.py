from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pypaimon.common.file_io import FileIO
from pypaimon.common.options import Options
from pypaimon.snapshot.snapshot import Snapshot
from typer.testing import CliRunner

from consumers.errors import ConfigurationError, StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.publish import NoClobberSnapshotCommit, snapshot_commit_for
from consumers.paimon.commit.publish_oss import OssFolder
from consumers.paimon.commit.publish_s3 import S3Folder
from consumers.paimon.stores.s3 import open_s3
from consumers.paimon.tables import create_tables
from service.cli.main import app
from tests.support.faulty_store import Fault, FaultyStore, Request, no_faults
from tests.support.s3_server import S3Server, catalog_options
from tests.support.warehouse import NAMES, make_warehouse, table

_buckets = itertools.count()


def _unasked(snapshot: Any, following: Any) -> bool:
    raise AssertionError("the names alone tell")


def _snapshot(snapshot_id: int, user: str = "me") -> Snapshot:
    return Snapshot(3, snapshot_id, 0, "base", "delta", 0, 0, user, snapshot_id, "APPEND", 1_700_000_000_000)


@pytest.fixture
def store(s3_server: S3Server) -> Iterator[FaultyStore]:
    with FaultyStore(s3_server.port) as opened:
        yield opened


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    return s3_server.make_bucket(f"publish-{next(_buckets)}")


@pytest.fixture
def folder(store: FaultyStore, bucket: str) -> S3Folder:
    return S3Folder(open_s3(f"s3://{bucket}/t/snapshot", catalog_options(store.endpoint)))


def _only_publish(fault: Fault, times: int = 1) -> Any:
    left = [times]

    def plan(request: Request) -> Fault:
        if request.is_publish and left[0]:
            left[0] -= 1
            return fault
        return Fault.NONE

    return plan


def test_second_writer_of_a_snapshot_on_s3_is_told_so_and_overwrites_nothing(folder: S3Folder) -> None:
    assert NoClobberSnapshotCommit(folder, _unasked).commit(None, _snapshot(1, "first"), [])
    assert not NoClobberSnapshotCommit(folder, _unasked).commit(None, _snapshot(1, "second"), [])
    assert b'"first"' in (folder.read("snapshot-1") or b"")
    assert sorted(folder.names()) == ["LATEST", "snapshot-1"]


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.ERROR_AFTER])
def test_commit_whose_answer_is_lost_is_found_to_have_succeeded(
    store: FaultyStore, folder: S3Folder, fault: Fault
) -> None:
    store.plan = _only_publish(fault, times=10)
    assert NoClobberSnapshotCommit(folder, _unasked).commit(None, _snapshot(1), [])
    assert store.counts[fault] >= 1


@pytest.mark.parametrize("fault", [Fault.CUT_AFTER, Fault.ERROR_AFTER, Fault.REFUSE, Fault.UNAVAILABLE])
def test_commit_that_lost_the_race_and_its_answer_is_found_to_have_failed(
    store: FaultyStore, folder: S3Folder, fault: Fault
) -> None:
    assert NoClobberSnapshotCommit(folder, _unasked).commit(None, _snapshot(1, "first"), [])
    store.plan = _only_publish(fault, times=10)
    assert not NoClobberSnapshotCommit(folder, _unasked).commit(None, _snapshot(1, "second"), [])


def test_store_that_stays_away_leaves_the_outcome_open(store: FaultyStore, folder: S3Folder) -> None:
    store.plan = _only_publish(Fault.REFUSE, times=100)
    with pytest.raises(Exception, match="Generic S3 error"):
        NoClobberSnapshotCommit(folder, _unasked).commit(None, _snapshot(1), [])
    store.plan = no_faults
    assert folder.read("snapshot-1") is None


def test_snapshot_whose_base_has_expired_is_not_published_on_s3(folder: S3Folder) -> None:
    commit = NoClobberSnapshotCommit(folder, _unasked)
    for snapshot_id in (1, 2, 3):
        assert commit.commit("uuid", _snapshot(snapshot_id), [])
    for snapshot_id in (1, 2):
        folder.delete(f"snapshot-{snapshot_id}")
    assert not commit.commit("uuid", _snapshot(2, "late"), [])
    assert not commit.commit(None, _snapshot(1, "later still"), [])
    assert "snapshot-2" not in folder.names()


def test_s3_that_overwrites_all_the_same_is_refused_at_the_start(s3_server: S3Server, bucket: str) -> None:
    with (
        FaultyStore(s3_server.port, strip=frozenset({"if-none-match"})) as store,
        pytest.raises(ConfigurationError, match=r"does not honour 'If-None-Match: \*'.*a REST catalog"),
    ):
        S3Folder.checked("db.t", f"s3://{bucket}/t/snapshot", catalog_options(store.endpoint))
    assert S3Folder(open_s3(f"s3://{bucket}/t/snapshot", catalog_options(s3_server.endpoint))).names() == []


def _jdbc(folder: Path, endpoint: str, bucket: str) -> CatalogConfig:
    options = {"metastore": "jdbc", "uri": f"jdbc:sqlite:{folder}/catalog.db", "warehouse": f"s3://{bucket}/w"}
    return CatalogConfig({**options, **catalog_options(endpoint)}, "sluice")


def test_run_with_a_jdbc_catalog_is_refused_where_the_store_overwrites_and_works_where_it_does_not(
    s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = _jdbc(tmp_path, s3_server.endpoint, bucket)
    create_tables(open_catalog(direct), direct, NAMES)
    monkeypatch.chdir(tmp_path)
    Path("sluice.toml").write_text(f'[catalog]\nwarehouse = "{direct.warehouse}"\n')
    run = ["run", "--until-caught-up", "--pool", "inline"]
    with FaultyStore(s3_server.port, strip=frozenset({"if-none-match"})) as store:
        options = {**direct.options, "s3.endpoint": store.endpoint}
        monkeypatch.setenv("SLUICE_CATALOG__OPTIONS", json.dumps(options))
        refused = CliRunner().invoke(app, run)
    assert isinstance(refused.exception, ConfigurationError)
    said = r"store of s3://.* does not honour 'If-None-Match: \*', so two writers.*use a store that does .*REST catalog"
    assert re.search(said, str(refused.exception))
    for name in (NAMES.ledger, NAMES.curated):
        assert table(direct, name).snapshot_manager().get_latest_snapshot() is None, "nothing changed"
    monkeypatch.setenv("SLUICE_CATALOG__OPTIONS", json.dumps(dict(direct.options)))
    assert CliRunner().invoke(app, run).exit_code == 0
    assert table(direct, NAMES.curated).snapshot_manager().get_latest_snapshot() is not None


def test_bucket_that_does_not_exist_is_named(s3_server: S3Server) -> None:
    with pytest.raises(ConfigurationError, match=r"s3://no-such-bucket .*there is no such bucket"):
        S3Folder.checked("db.t", "s3://no-such-bucket/t/snapshot", catalog_options(s3_server.endpoint))


def test_store_that_does_not_answer_the_probe_may_be_asked_again(store: FaultyStore, bucket: str) -> None:
    store.plan = lambda request: Fault.REFUSE
    location = f"s3://{bucket}/t/snapshot"
    with pytest.raises(StoreUnavailableError, match="did not answer"):
        S3Folder.checked("db.t", location, catalog_options(store.endpoint))
    store.plan = no_faults
    assert S3Folder.checked("db.t", location, catalog_options(store.endpoint)).names() == []


class _OssServer(ThreadingHTTPServer):
    """Answers as OSS documents it: versioning, and a put that forbids overwriting."""

    daemon_threads = True

    def __init__(self, versioning: str, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _OssHandler)
        self.versioning, self.status = versioning, status
        self.objects: dict[str, bytes] = {}
        self.headers_of_puts: list[dict[str, str]] = []


class _OssHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _OssServer

    def do_GET(self) -> None:
        if not self.path.endswith("?versioning="):
            self._answer(404, b"")
            return
        state = f"<Status>{self.server.versioning}</Status>" if self.server.versioning else ""
        code = b"<Error><Code>AccessDenied</Code></Error>"
        answer = f"<VersioningConfiguration>{state}</VersioningConfiguration>".encode()
        self._answer(self.server.status, answer if self.server.status == 200 else code)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.headers_of_puts.append({name.lower(): value for name, value in self.headers.items()})
        path = unquote(self.path)
        if path in self.server.objects and self.headers.get("x-oss-forbid-overwrite") == "true":
            self._answer(409, b"<Error><Code>FileAlreadyExists</Code></Error>")
            return
        self.server.objects[path] = body
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-oss-request-id", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture
def oss(request: pytest.FixtureRequest) -> Iterator[_OssServer]:
    with _OssServer(*getattr(request, "param", ("",))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _oss_file_io(server: _OssServer, **more: str) -> Any:
    options = {
        "fs.oss.impl": "legacy",
        "fs.oss.endpoint": f"http://127.0.0.1:{server.server_address[1]}",
        "fs.oss.accessKeyId": "id",
        "fs.oss.accessKeySecret": "secret",
        "fs.oss.region": "cn-test",
    }
    return FileIO.get("oss://bkt/w", Options({**options, **more}))


_OSS_FOLDER = "oss://bkt/w/db.db/t/snapshot"


def test_put_on_oss_forbids_overwriting(oss: _OssServer) -> None:
    folder = OssFolder.checked("db.t", _OSS_FOLDER, _oss_file_io(oss))
    assert folder.create("snapshot-1", b"first", lambda: True)
    assert not folder.create("snapshot-1", b"second", lambda: True)
    assert not folder.create("snapshot-2", b"unwanted", lambda: False)
    assert oss.objects == {"/bkt/w/db.db/t/snapshot/snapshot-1": b"first"}
    assert [headers["x-oss-forbid-overwrite"] for headers in oss.headers_of_puts] == ["true", "true"]


@pytest.mark.parametrize("oss", [("Enabled",), ("Suspended",)], indirect=True)
def test_oss_bucket_with_versioning_is_refused(oss: _OssServer) -> None:
    with pytest.raises(ConfigurationError, match=r"versioning of oss://bkt.* is (Enabled|Suspended).*REST catalog"):
        OssFolder.checked("db.t", _OSS_FOLDER, _oss_file_io(oss))


@pytest.mark.parametrize("oss", [("", 403)], indirect=True)
def test_oss_bucket_whose_versioning_may_not_be_asked_is_refused(oss: _OssServer) -> None:
    with pytest.raises(ConfigurationError, match="grant oss:GetBucketVersioning"):
        OssFolder.checked("db.t", _OSS_FOLDER, _oss_file_io(oss))


def test_oss_without_a_region_is_refused(oss: _OssServer) -> None:
    with pytest.raises(ConfigurationError, match=r"Set fs\.oss\.region"):
        OssFolder.checked("db.t", _OSS_FOLDER, _oss_file_io(oss, **{"fs.oss.region": ""}))


def test_catalog_that_compares_and_swaps_by_itself_is_left_to_do_so(tmp_path: Any) -> None:
    ledger = table(make_warehouse(tmp_path / "warehouse"), NAMES.ledger)
    ledger.catalog_environment.supports_version_management = True
    assert type(snapshot_commit_for(ledger)).__name__ == "CatalogSnapshotCommit"
