"""One run of a consumer over a real warehouse, with made-up outcomes, until it has caught up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.loop.reports import RunReport
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.known_rows import KnownRows
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.source.sources import open_source
from consumers.paimon.tables import RawColumns, TableNames
from consumers.ports import Source
from consumers.testing import FakeClock, FakePool, SimulatedCrashError
from schemas.profile import clip_id
from schemas.records import VideoOutcome, VideoTask
from schemas.shards import WHOLE, Shard
from tests.support.warehouse import NAMES, PROFILE, processed, rows_of


def outcome_of(task: VideoTask, num_kept: int = 2) -> VideoOutcome:
    """Return a made-up outcome with ``num_kept`` clips, whose ids are those of the row."""
    video = task.video
    outcome = processed(video.row_id, num_kept, source=video.source_table).outcome
    clips = (
        replace(clip, clip_id=clip_id(video.source_table, video.row_id, clip.span, PROFILE.fingerprint))
        for clip in outcome.clips
    )
    return replace(outcome, clips=tuple(clips))


def consume(
    config: CatalogConfig,
    columns: RawColumns | None = None,
    *,
    shard: Shard = WHOLE,
    die_at: str | None = None,
    generation: int = 1,
    seen: list[str] | None = None,
    names: TableNames = NAMES,
) -> RunReport:
    """Run consumer ``main`` until it has caught up.

    Args:
        config: the catalog.
        columns: how the raw table's columns are mapped.
        shard: which part of the work.
        die_at: the step of a commit at which the process dies, if it comes to it.
        generation: which table of its name is accepted.
        seen: gets the id of each video that the pool is asked for.
        names: the tables.
    """

    def script(task: VideoTask) -> VideoOutcome:
        if seen is not None:
            seen.append(task.video.video_id)
        return outcome_of(task)

    def on_step(step: str) -> None:
        if step == die_at:
            raise SimulatedCrashError

    source: Source = open_source(config, names.raw, columns)
    has_gaps = not isinstance(source, RowIdSource)
    if isinstance(source, RowIdSource):
        source = KnownRows(source, config, names, "main", columns, shard=shard)
    sink = PaimonSink(
        config, names, "main", PROFILE, shard=shard, has_gaps=has_gaps, generation=generation, on_step=on_step
    )
    processor = Processor(
        source, sink, FakePool(script=script), FakeClock(), config=ProcessorConfig(max_in_flight_videos=4)
    )
    try:
        return processor.run(until_caught_up=True)
    finally:
        sink.close()


def ledgered(
    config: CatalogConfig, columns: Sequence[str] = ("source_table", "source_row_id")
) -> list[tuple[object, ...]]:
    """Return what the ledger says, sorted."""
    return sorted(tuple(row[column] for column in columns) for row in rows_of(config, NAMES.ledger, columns))


def standing(config: CatalogConfig) -> Counter[str]:
    """How many clips of each video stand in the curated table; fails where one clip stands there twice."""
    rows = rows_of(config, NAMES.curated, ["clip_id", "video_id"])
    assert len({row["clip_id"] for row in rows}) == len(rows)
    return Counter(row["video_id"] for row in rows)
