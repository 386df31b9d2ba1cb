"""What the control plane's look-ups cost in tables that have grown: the wall of clips, one clip, stories, dead letters.

Usage: ``python -m benchmarks.library [--clips N] [--videos N] [--commits N] [--rounds N] [--folder DIR] [--json]``.
Prints a line per look-up, JSON with ``--json``: seconds of the first round, and the median of all; every round begins
with a library that knows nothing. The tables are made up, and kept in ``--folder`` for a second run, which then
compares another state of the code on the same rows.

``clip/oldest_by_scan`` is the look-up without the row that links carry: it ends after about a second, found or not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.reading.story import LetterFilter
from consumers.paimon.tables import TableNames, create_tables
from schemas.tables import CURATED, LEDGER, TableSpec
from service.library import ClipQuery
from service.paimon_library import PaimonLibrary
from service.settings import load_settings

NAMES = TableNames()
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
# One in so many videos failed, and one in so many was rejected.
_FAILED_ONE_IN, _REJECTED_ONE_IN = 500, 3
_THUMBNAIL = bytes(4096)
_CLIP = bytes(64)


def clip_id(number: int) -> str:
    """Return the id of the made-up clip of a row."""
    return f"{number:032x}"


def fill(folder: Path, num_clips: int, num_videos: int, num_commits: int) -> None:
    """Make both tables, in as many commits each."""
    config = CatalogConfig({"warehouse": str(folder)})
    create_tables(open_catalog(config, create=True), config, NAMES)
    _append(config, NAMES.curated, CURATED, _clips, num_clips, num_commits)
    _append(config, NAMES.ledger, LEDGER, _ledger_rows, num_videos, num_commits)


def _append(
    config: CatalogConfig,
    name: str,
    spec: TableSpec,
    make: Callable[[int, int], dict[str, Any]],
    num_rows: int,
    num_commits: int,
) -> None:
    committer = TableCommitter(load_table(open_catalog(config), config, name), "bench", lambda manager, latest: None)
    for number in range(num_commits):
        start, end = num_rows * number // num_commits, num_rows * (number + 1) // num_commits
        given = make(start, end)
        rows = pa.table(
            {
                field.name: pa.array(_column(field, given, end - start), field.type)
                for field in spec.schema
                if field.name in given or not field.nullable
            }
        )
        committer.publish(committer.write(rows, number + 1), number + 1, {"bench": "1"})
    committer.close()


def _column(field: pa.Field, given: Mapping[str, Any], num_rows: int) -> Sequence[Any]:
    value = given.get(field.name, _filler(field.type))
    return value if isinstance(value, list) else [value] * num_rows


def _filler(kind: pa.DataType) -> Any:
    if pa.types.is_string(kind):
        return "x"
    if pa.types.is_timestamp(kind):
        return BEGIN
    return pa.types.is_floating(kind) * 0.5 if not pa.types.is_boolean(kind) else False


def _clips(start: int, end: int) -> dict[str, Any]:
    numbers = range(start, end)
    return {
        "clip_id": [clip_id(number) for number in numbers],
        "ingest_date": f"2026-01-{1 + start * 20 // 100_000 % 28:02}",
        "source_table": "sluice.raw_videos",
        "source_row_id": [number // 3 for number in numbers],
        "source_uri": [f"s3://videos/{number // 3}.mp4" for number in numbers],
        "caption": [f"a dog runs over a field, take {number}" for number in numbers],
        "motion_score": [float(number % 17) for number in numbers],
        "thumbnail_jpeg": _THUMBNAIL,
        "clip": _CLIP,
        "cut_method": "stream_copy",
        "consumer": "default",
        "processed_at": [BEGIN + timedelta(seconds=number) for number in numbers],
    }


def _ledger_rows(start: int, end: int) -> dict[str, Any]:
    numbers = range(start, end)
    status = [
        "failed" if not n % _FAILED_ONE_IN else "rejected" if not n % _REJECTED_ONE_IN else "curated" for n in numbers
    ]

    def clips_of(number: int, outcome: str) -> list[dict[str, Any]]:
        kept = outcome == "curated"
        rejected = {"rejected_by": "motion_filter", "reason": "motion_below_min"}
        clip = {"clip_id": clip_id(number), "clip_index": 0, "start_s": 0.0, "end_s": 2.0, "kept": kept}
        return [] if outcome == "failed" else [clip | ({} if kept else rejected)]

    def if_failed(value: str) -> list[str | None]:
        return [value if outcome == "failed" else None for outcome in status]

    return {
        "consumer": "default",
        "source_table": "sluice.raw_videos",
        "source_row_id": list(numbers),
        "row_kind": "+I",
        "video_id": [f"v{number}" for number in numbers],
        "source_uri": [f"s3://videos/{number}.mp4" for number in numbers],
        "status": status,
        "clips": [clips_of(number, outcome) for number, outcome in zip(numbers, status, strict=True)],
        "failure_stage": if_failed("decode"),
        "failure_class": if_failed("not_a_video"),
        "failure_message": if_failed("it is a text file"),
        "attempts": 1,
        "run": 1,
        "epoch": 1,
        "commit_sequence": 1 + start,
        "processed_at": [BEGIN + timedelta(seconds=number) for number in numbers],
    }


def look_ups(num_videos: int) -> dict[str, Callable[[PaimonLibrary], Any]]:
    """Return what is timed, by name."""

    def thumbnail(library: PaimonLibrary, row: int | None) -> bytes | None:
        record = library.clip(clip_id(0), row)
        return None if record is None else library.thumbnail(record)

    return {
        "wall/newest_24": lambda library: library.clips(ClipQuery(), 24),
        "wall/text_of_one_old_clip": lambda library: library.clips(ClipQuery(text="take 7"), 24),
        "wall/text_that_nothing_has": lambda library: library.clips(ClipQuery(text="a cat"), 24),
        "clip/oldest": lambda library: thumbnail(library, 0),
        "clip/oldest_by_scan": lambda library: thumbnail(library, None),
        "story/oldest": lambda library: library.runs(1),
        "story/newest": lambda library: library.runs(num_videos - 1),
        "story/places_of_old_clips": lambda library: library.clip_places(0, [clip_id(0)], BEGIN, BEGIN),
        "dead_letters/newest_50": lambda library: library.dead_letters(LetterFilter(), 50),
        "dead_letters/of_a_stage_that_has_none": lambda library: library.dead_letters(LetterFilter(stage="open"), 50),
        "rejected/newest_50": lambda library: library.rejected(num_videos, 50),
    }


def measure(folder: Path, num_videos: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a case per look-up."""
    settings_file = folder / "sluice.toml"
    settings_file.write_text(f'[catalog]\nwarehouse = "{folder / "warehouse"}"\n')
    settings = load_settings(settings_file)
    for name, look_up in look_ups(num_videos).items():
        times_s = []
        for _ in range(rounds):
            library = PaimonLibrary(settings)
            started_s = time.perf_counter()
            look_up(library)
            times_s.append(time.perf_counter() - started_s)
        yield {
            "case": name,
            "first_s": round(times_s[0], 3),
            "median_s": round(statistics.median(times_s), 3),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000, help="rows of the curated table")
    parser.add_argument("--videos", type=int, default=1_000_000, help="rows of the ledger")
    parser.add_argument("--commits", type=int, default=500, help="commits of each table")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the tables here, or take those that are there")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with ExitStack() as closing:
        folder = options.folder or Path(closing.enter_context(tempfile.TemporaryDirectory()))
        if not (folder / "warehouse").exists():
            folder.mkdir(exist_ok=True)
            fill(folder / "warehouse", options.clips, options.videos, options.commits)
        for case in measure(folder, options.videos, options.rounds):
            text = json.dumps(case) if options.json else ", ".join(f"{key} {value}" for key, value in case.items())
            print(text, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
