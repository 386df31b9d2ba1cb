"""``sluice status``: how far the consumer is, read from the tables."""

from __future__ import annotations

import typer

from schemas.positions import Position
from schemas.records import VideoStatus
from schemas.shards import EVERYTHING
from service import wiring
from service.cli.options import LOOK, ConfigOption
from service.cli.output import JsonOption, counted, out, print_json, print_table
from service.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("status", rich_help_panel=LOOK)(_status)


def _status(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show position, lag and what became of the videos so far; works whether or not the service runs."""
    settings = load_settings(config)
    head = wiring.build_source(settings).head()
    ledger = wiring.ledger_reader(settings)
    committed = ledger.committed()
    position = committed.position if committed else Position()
    lag = committed.num_missing(head) if committed else head.num_missing(Position(), EVERYTHING)
    # Where offsets have gaps they tell nothing about how many rows there are.
    of_all = f" of {head.next_offset}" if head.count is None else ""
    shards = f", {committed.num_shards} shards" if committed and committed.num_shards > 1 else ""
    summary = ledger.summary()
    videos = {status.value: summary.videos.get(status.value, 0) for status in VideoStatus}
    if json:
        print_json(
            {
                "consumer": settings.consumer.id,
                "lag_rows": lag,
                "head": head.next_offset,
                "shards": committed.num_shards if committed else 1,
                "watermark": position.watermark,
                "sequence": committed.sequence if committed else 0,
                "epoch": committed.epoch if committed else 0,
                "videos": videos,
                "clips_kept": summary.clips_kept,
                "rejections": [[*key, count] for key, count in sorted(summary.rejections.items())],
                "failures": [[*key, count] for key, count in sorted(summary.failures.items())],
            }
        )
        return
    if committed is None and any(videos.values()):
        out.print(
            f"consumer {settings.consumer.id}: its newest commit has expired, or lies far back; the next `sluice run` "
            "finds its place by the rows of the ledger",
            markup=False,
        )
    elif committed is None:
        out.print(
            f"consumer {settings.consumer.id}: has committed nothing yet; {counted(lag, 'row')} of the raw table "
            f"{'waits' if lag == 1 else 'wait'} for `sluice run`",
            markup=False,
        )
    else:
        out.print(
            f"consumer {settings.consumer.id}: {lag}{of_all} rows behind, commit #{committed.sequence}, "
            f"epoch {committed.epoch}{shards}",
            markup=False,
        )
    out.print(
        f"videos: {videos['curated']} curated, {videos['rejected']} rejected, {videos['failed']} failed"
        f"{_retired(videos)}; {counted(summary.clips_kept, 'clip')} kept"
    )
    rows = [(stage, reason, count) for (stage, reason), count in sorted(summary.rejections.items())]
    rows += [(stage, f"failed: {name}", count) for (stage, name), count in sorted(summary.failures.items())]
    if rows:
        print_table("Why not", ("stage", "reason", "count"), rows)


def _retired(videos: dict[str, int]) -> str:
    num_retired = videos[VideoStatus.RETIRED.value]
    return f", {num_retired} retired" if num_retired else ""
