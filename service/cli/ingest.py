"""``sluice ingest``: register videos in the raw table, without copying them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service import wiring
from service.cli.options import ConfigOption
from service.cli.output import JsonOption, err, out, print_json
from service.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("ingest")(_ingest)


def _ingest(
    locations: Annotated[list[str], typer.Argument(metavar="PATH|URI...", help="Files, folders, globs, s3:// URIs.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Append one row for each video that has none yet; the same object twice adds no row."""
    settings = load_settings(config)
    objects = wiring.find_objects(settings, locations)
    with _progress(len(objects)) as advance:
        report = wiring.register(settings, objects, advance)
    if json:
        print_json({"added": report.num_added, "already_present": report.num_already_present})
    else:
        out.print(f"{report.num_added} videos registered, {report.num_already_present} were there already")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many are done: a bar on a terminal, plain lines elsewhere."""
    if not err.is_terminal:
        yield lambda done: err.print(f"registered {done} of {total}")
        return
    columns = (TextColumn("registering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("registering", total=total)
        yield lambda done: bar.update(task, completed=done)
