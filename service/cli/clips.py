"""``sluice clips``: list curated clips, or write them to a folder, ready for training."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers.errors import ConfigurationError
from consumers.paimon.reading.clips import ClipFilter, ClipReader, ClipRecord
from schemas.object_names import object_name
from service import wiring
from service.cli.options import LOOK, ConfigOption
from service.cli.output import JsonOption, counted, err, json_default, out, print_json, print_table
from service.settings import load_settings

INDEX_NAME = "clips.jsonl"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("clips", rich_help_panel=LOOK)(_clips)


def _clips(
    export: Annotated[
        Path | None, typer.Option(help=f"Write MP4s, JPEGs and {INDEX_NAME} into this folder.", show_default=False)
    ] = None,
    date: Annotated[str | None, typer.Option(help="Only this ingest date, YYYY-MM-DD (UTC).")] = None,
    row: Annotated[int | None, typer.Option(help="Only clips of this raw row.")] = None,
    consumer: Annotated[str | None, typer.Option(help="Only clips of this consumer.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many; a listing shows 50 unless told.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """List curated clips, newest first, or export them."""
    if date is not None:
        _check_date(date)
    settings = load_settings(config)
    reader = wiring.clip_reader(settings)
    wanted = ClipFilter(consumer=consumer, ingest_date=date, source_row_id=row)
    if export is not None:
        if consumer is None:
            _check_one_consumer(reader.clips(wanted, limit=limit))
        written = export_clips(reader, reader.clips(wanted, limit=limit), export)
        if json:
            print_json({"clips": written, "folder": str(export), "index": str(export / INDEX_NAME)})
        else:
            out.print(f"{counted(written, 'clip')} in {export}, described in {export / INDEX_NAME}", markup=False)
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


def export_clips(reader: ClipReader, records: Iterable[ClipRecord], folder: Path) -> int:
    """Write each clip's MP4 and JPEG into ``folder``, and one JSON line for each into ``clips.jsonl``.

    Every file appears under its name only when it is complete, the index last. Clips without bytes have only a line.

    Returns:
        The number of clips.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        count = 0
        partial_index = folder / f".{INDEX_NAME}.partial"
        with partial_index.open("w", encoding="utf-8") as index:
            for record in records:
                index.write(json_module.dumps(_export(reader, record, folder), default=json_default) + "\n")
                count += 1
                if err.is_terminal:
                    err.print(f"exported {count}", end="\r")
        partial_index.replace(folder / INDEX_NAME)
    except OSError as error:
        raise ConfigurationError(f"--export {folder}: cannot be written: {error.strerror or error}") from error
    return count


def _export(reader: ClipReader, record: ClipRecord, folder: Path) -> dict[str, Any]:
    line: dict[str, Any] = {"video_file": None, "thumbnail_file": None, **record.values}
    for key, suffix, data in (
        ("video_file", "mp4", reader.media(record)),
        ("thumbnail_file", "jpg", reader.thumbnail(record)),
    ):
        if data is not None:
            name = f"{record.values['clip_id']}.{suffix}"
            partial = folder / f".{name}.partial"
            partial.write_bytes(data)
            partial.replace(folder / name)
            line[key] = name
    return line
