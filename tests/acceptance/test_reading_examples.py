"""Every example of ``docs/reading.md`` runs as it stands, on a disk and, where it names options, on S3."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.tables import create_tables
from consumers.ports import CommitBatch
from schemas.positions import Position
from tests.support.s3_server import S3Server, catalog_options
from tests.support.warehouse import NAMES, PROFILE, append_raw, processed

_PAGE = Path(__file__).parents[2] / "docs" / "reading.md"
_OPTIONS = '{"warehouse": "warehouse"}'
_NUM_CLIPS = 7
_NEEDS = {"DuckDB": "duckdb", "Daft": "daft", "Files: an export": "webdataset"}


def _examples() -> dict[str, str]:
    sections = re.split(r"^## ", _PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for section in sections[1:]:
        title, _, text = section.partition("\n")
        if blocks := re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            found[title] = "\n".join(blocks)
    return found


EXAMPLES = _examples()


def _fill(config: CatalogConfig) -> None:
    create_tables(open_catalog(config, create=True), config, NAMES)
    append_raw(config, "ab")
    sink = PaimonSink(config, NAMES, "default", PROFILE)
    sink.open()
    for row_id, num_kept in enumerate((3, _NUM_CLIPS - 3)):
        video = processed(row_id, num_kept, source="sluice.raw_videos")
        sink.commit(CommitBatch((video,), Position(row_id + 1)))
    sink.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reading")
    (made / "sluice.toml").write_text('[catalog]\nwarehouse = "warehouse"\n')
    _fill(CatalogConfig({"warehouse": str(made / "warehouse")}, "sluice"))
    return made


@pytest.fixture(scope="module")
def on_s3(s3_server: S3Server) -> dict[str, str]:
    bucket = f"reading-{uuid.uuid4().hex[:8]}"
    s3_server.make_bucket(bucket)
    options = {**catalog_options(s3_server.endpoint), "warehouse": f"s3://{bucket}/warehouse"}
    _fill(CatalogConfig(options, "sluice"))
    return options


def _run(folder: Path, title: str, options: dict[str, str] | None = None, more: str = "") -> str:
    if (needed := _NEEDS.get(title)) and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    text = EXAMPLES[title]
    if options is not None:
        assert _OPTIONS in text
        text = text.replace(_OPTIONS, repr(options))
    script = folder / f"example_{re.sub(r'[^a-z0-9]+', '_', title.lower())}.py"
    script.write_text(text + more)
    command = [sys.executable, script.name]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def _check(title: str, output: str) -> None:
    if title == "pypaimon and pandas":
        assert re.search(rf"2026-\d\d-\d\d\s+{_NUM_CLIPS}\s+0\.0", output), output
    elif title == "The bytes of one clip, by range":
        assert re.search(r"^[0-9a-f]{32} b' 0/", output), output
    elif title == "PyTorch":
        assert sum(map(int, output.splitlines()[0].split())) == _NUM_CLIPS
    elif title == "One state of the table":
        assert output.split()[1] == str(_NUM_CLIPS)
    elif title == "Ray Data":
        assert output.split() == [str(_NUM_CLIPS), f"{_NUM_CLIPS:.1f}"]
    elif title == "DuckDB":
        assert re.search(rf"v1\s*│\s*{_NUM_CLIPS - 3}\s*│", output), output
    elif title == "Files: an export":
        samples = [line for line in output.splitlines() if re.fullmatch(r"[0-9a-f]{32} 1\.0 \d+ 4", line)]
        assert len(set(samples)) == _NUM_CLIPS, output
    else:
        assert title == "Daft"
        assert output.rsplit(maxsplit=1)[-1] == str(_NUM_CLIPS)


@pytest.mark.parametrize(
    "title", [pytest.param(title, marks=[pytest.mark.ray] if title == "Ray Data" else []) for title in EXAMPLES]
)
def test_example_runs_on_a_disk(folder: Path, title: str) -> None:
    _check(title, _run(folder, title))


@pytest.mark.parametrize("title", ["pypaimon and pandas", "The bytes of one clip, by range", "PyTorch"])
def test_example_runs_on_s3(folder: Path, on_s3: dict[str, str], title: str) -> None:
    _check(title, _run(folder, title, on_s3))


_EACH_ONCE = f"""
    assert len({{*before, *after}}) == len(before) + len(after) == {_NUM_CLIPS}
    of_ranks = [
        [row["clip_id"] for row in Clips(OPTIONS, newest, ["clip_id"], rank, 3, chunk_rows=1)] for rank in range(3)
    ]
    assert sorted(map(len, of_ranks)) == [2, 2, 3]
    assert sorted(sum(of_ranks, [])) == sorted(before + after)
    for num_seen in range({_NUM_CLIPS} + 1):
        rows = list(Clips(OPTIONS, newest, ["clip_id"], chunk_rows=3))
        seen = {{0: (rows[num_seen - 1]["chunk"], rows[num_seen - 1]["_ROW_ID"])}} if num_seen else None
        assert list(Clips(OPTIONS, newest, ["clip_id"], chunk_rows=3, seen=seen)) == rows[num_seen:]
"""


def test_clips_come_once_each_to_whichever_rank_and_worker_and_go_on_behind_what_was_seen(folder: Path) -> None:
    _run(folder, "PyTorch", more=_EACH_ONCE)
