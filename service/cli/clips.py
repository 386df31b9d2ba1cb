"""``sluice clips``: list curated clips, or write them to a folder, ready for training."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from consumers.errors import ConfigurationError
from consumers.paimon.reading.clips import ClipFilter, ClipRecord
from schemas.object_names import object_name
from service import wiring
from service.cli.options import LOOK, ConfigOption
from service.cli.output import JsonOption, counted, err, out, print_json, print_table
from service.export import ExportReport, IndexForm, export
from service.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("clips", rich_help_panel=LOOK)(_clips)


def _clips(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--export",
            help="Write the clips into this folder, those that it has not got yet.",
            show_default=False,
        ),
    ] = None,
    index: Annotated[IndexForm, typer.Option("--format", help="How an export describes its clips.")] = IndexForm.JSONL,
    webdataset: Annotated[
        bool, typer.Option("--webdataset", help="Export tar files of up to 1000 clips instead of a file for each.")
    ] = False,
    tag: Annotated[
        str | None, typer.Option(help="As they were when this tag was made, see `sluice dataset`.", show_default=False)
    ] = None,
    date: Annotated[str | None, typer.Option(help="Only this ingest date, YYYY-MM-DD (UTC).")] = None,
    row: Annotated[int | None, typer.Option(help="Only clips of this raw row.")] = None,
    consumer: Annotated[str | None, typer.Option(help="Only clips of this consumer.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many; a listing shows 50 unless told.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List curated clips, newest first, or export them: again and again into the same folder, each clip once."""
    if date is not None:
        _check_date(date)
    settings = load_settings(config)
    reader = wiring.clip_reader(settings, tag)
    wanted = ClipFilter(consumer=consumer, ingest_date=date, source_row_id=row)
    if folder is not None:
        if consumer is None:
            _check_one_consumer(reader.clips(wanted, limit=limit))
        found = reader.clips(wanted, limit=limit)
        report = export(reader, found, folder, form=index, shards=webdataset, on_progress=_tell_progress)
        if json:
            print_json(
                {
                    "clips": report.num_new + report.num_known,
                    "new": report.num_new,
                    "new_without_bytes": report.num_references,
                    "folder": str(folder),
                    "index": str(folder / index.files),
                }
            )
        else:
            out.print(_sentence(report, folder), markup=False)
        return
    records = list(reader.clips(wanted, newest_first=True, limit=limit or 50))
    if json:
        print_json([dict(record.values) for record in records])
        return
    if not records:
        chosen = [
            f"{name} {value}"
            for name, value in (("row", row), ("date", date), ("consumer", consumer))
            if value is not None
        ]
        what = f"no clips of {', '.join(chosen)}" if chosen else "no clips yet"
        out.print(f"{what}: `sluice status` says what became of the videos", markup=False)
        return
    print_table("", ("clip", "video", "from s", "to s", "motion px", "quality", "cut", "caption"), map(_cells, records))


def _check_date(text: str) -> None:
    with suppress(ValueError):
        # A day has no zone here; Python reads other forms of a date as well.
        if datetime.strptime(text, "%Y-%m-%d").strftime("%Y-%m-%d") == text:
            return
    raise ConfigurationError(f"--date {text}: is no date; write it as YYYY-MM-DD, such as 2026-05-31")


def _tell_progress(count: int) -> None:
    if err.is_terminal:
        err.print(f"exported {count}", end="\r")


def _sentence(report: ExportReport, folder: Path) -> str:
    known = f", {counted(report.num_known, 'clip')} there already" if report.num_known else ""
    without = (
        f"; {counted(report.num_references, 'clip')} without bytes, described only" if report.num_references else ""
    )
    return f"{counted(report.num_new, 'new clip')} in {folder}{known}{without}"


def _cells(record: ClipRecord) -> tuple[object, ...]:
    values = record.values
    return (
        values["clip_id"][:12],
        object_name(values["source_uri"]),
        values["start_s"],
        values["end_s"],
        values["motion_score"],
        values["technical_quality"],
        values["cut_method"],
        values["caption"],
    )


def _check_one_consumer(records: Iterable[ClipRecord]) -> None:
    """Check, before anything is written, that no clip would be written over by one of another consumer.

    Raises:
        ConfigurationError: the clips are of several consumers, which share their ids.
    """
    consumers = {str(record.values["consumer"]) for record in records}
    if len(consumers) > 1:
        raise ConfigurationError(
            f"the curated table holds clips of the consumers {' and '.join(sorted(consumers))}, each clip of one video "
            "under the same id; choose one with --consumer"
        )
