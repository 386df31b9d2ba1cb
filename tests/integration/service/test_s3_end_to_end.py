from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from consumers.errors import ConfigurationError
from consumers.media.samples import write_samples
from tests.support.command_line import sluice_json
from tests.support.faulty_store import Fault, FaultyStore, Request
from tests.support.s3_server import S3Server, catalog_options


@pytest.fixture
def videos(s3_server: S3Server, tmp_path: Path) -> str:
    """A bucket with sample videos; returns its name."""
    bucket = s3_server.make_bucket("end-to-end-videos")
    client: Any = s3_server.client()
    for path in write_samples(tmp_path / "samples", count=2):
        client.upload_file(str(path), bucket, f"landing/2026-05/{path.name}")
    client.put_object(Bucket=bucket, Key="landing/notes.txt", Body=b"not a video")
    client.put_object(Bucket=bucket, Key="elsewhere/film.mp4", Body=b"not allowed")
    return bucket


def test_warehouse_and_videos_on_s3_are_curated_from_init_to_export(
    s3_server: S3Server, videos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse = s3_server.make_bucket("end-to-end-warehouse")
    requests: list[Request] = []
    monkeypatch.chdir(tmp_path)
    with FaultyStore(s3_server.port) as store:
        store.plan = lambda request: requests.append(request) or Fault.NONE  # type: ignore[func-returns-value]
        monkeypatch.setenv("SLUICE_CATALOG__OPTIONS", json.dumps(catalog_options(store.endpoint)))
        with pytest.raises(ConfigurationError, match=r"s3://no-such-bucket/w .*there is no such bucket; create it"):
            sluice_json("init", "--warehouse", "s3://no-such-bucket/w")
        assert not (tmp_path / "sluice.toml").exists()
        created = sluice_json("init", "--warehouse", f"s3://{warehouse}/w", "--allow", f"s3://{videos}/landing")
        assert len(created["created"]) == 4

        ingested = sluice_json("ingest", f"s3://{videos}/landing")
        assert ingested == {"added": ingested["added"], "already_present": 0}
        assert sluice_json("ingest", f"s3://{videos}/landing/2026-05") == {
            "added": 0,
            "already_present": ingested["added"],
        }
        with pytest.raises(ConfigurationError, match=r"elsewhere/film\.mp4' is not under an allowed prefix"):
            sluice_json("ingest", f"s3://{videos}/elsewhere")
        with pytest.raises(ConfigurationError, match=r"s3://no-such-bucket/x: does not exist"):
            sluice_json("ingest", "s3://no-such-bucket/x")

        report = sluice_json("run", "--until-caught-up", "--pool", "inline")
        assert report["lag"] == 0
        audit = sluice_json("audit")
        assert (audit["rows"], audit["missing"], audit["duplicated"], audit["unaccounted"]) == (
            ingested["added"],
            0,
            0,
            0,
        )
        assert audit["clips"] > 0
        sluice_json("clips", "--export", str(tmp_path / "dataset"))
    exported = Counter(path.suffix for path in (tmp_path / "dataset").rglob("*") if path.is_file())
    assert exported[".mp4"] == exported[".jpg"] == audit["clips"]
    reads = [request for request in requests if f"/{videos}/landing" in request.path and request.method == "GET"]
    whole = [request for request in reads if "prefix=" not in request.path and "range" not in request.headers]
    assert reads
    assert not whole
