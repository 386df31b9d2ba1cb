"""``sluice ingest``: register videos in the raw table, without copying them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumers.errors import ConfigurationError, StoreUnavailableError
from consumers.paimon.landing.watch import Watcher
from service import wiring
from service.cli.options import RUN, ConfigOption
from service.cli.output import JsonOption, counted, err, out, print_json
from service.host.runtime import until_signal
from service.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("ingest", rich_help_panel=RUN)(_ingest)


def _ingest(
    locations: Annotated[list[str], typer.Argument(metavar="PATH|URI...", help="Files, folders, globs, s3:// URIs.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on: follow these folders and prefixes until SIGTERM or Ctrl-C.")
    ] = False,
    poll_interval: Annotated[
        float | None,
        typer.Option(help="Seconds between two looks with --watch, instead of poll_interval_s in \\[watch]."),
    ] = None,
    any_name: Annotated[
        bool, typer.Option("--any", help="Take files that are named by themselves whatever their name ends in.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Append one row for each video that has none yet; the same object twice adds no row."""
    if poll_interval is not None and not watch:
        raise ConfigurationError("--poll-interval: goes with --watch only")
    if any_name and watch:
        raise ConfigurationError("--any: goes with files, and --watch follows folders and prefixes")
    settings = load_settings(config, {} if poll_interval is None else {"watch": {"poll_interval_s": poll_interval}})
    if watch:
        num_added = _watch(settings, locations, err if json else out)
        if json:
            print_json({"added": num_added})
        return
    objects = wiring.find_objects(settings, locations, any_name=any_name)
    with _progress(len(objects)) as advance:
        report = wiring.register(settings, objects, advance)
    if json:
        print_json({"added": report.num_added, "already_present": report.num_already_present})
    else:
        out.print(
            f"{counted(report.num_added, 'video')} registered, {report.num_already_present:,} "
            f"{'was' if report.num_already_present == 1 else 'were'} there already"
        )


def _watch(settings: Settings, locations: list[str], lines: Console) -> int:
    """Register what appears until a signal arrives, and return how many videos that were."""
    total = 0
    with until_signal() as wait, wiring.watchers(settings, locations) as watchers:
        for watcher in watchers:
            lines.print(f"watching {watcher.location}, every {settings.watch.poll_interval_s:g} s", markup=False)
        is_over = False
        while not is_over:
            for watcher in watchers:
                total += _poll(watcher, lambda: wait(0), lines)
            is_over = wait(settings.watch.poll_interval_s)
    lines.print(f"stopped: {counted(total, 'video')} registered", markup=False)
    return total


def _poll(watcher: Watcher, should_stop: Callable[[], bool], lines: Console) -> int:
    try:
        report = watcher.poll(should_stop)
    except StoreUnavailableError as error:
        # The next look tries again; meanwhile the other places are looked after.
        err.print(f"{error}; trying again", style="yellow", markup=False)
        return 0
    if report.num_added:
        lines.print(f"{watcher.location}: {counted(report.num_added, 'video')} registered", markup=False)
    for reason in report.refused:
        err.print(f"not registered: {reason}", style="yellow", markup=False)
    if report.num_refused > len(report.refused):
        err.print(f"not registered: {report.num_refused - len(report.refused)} more", style="yellow", markup=False)
    return report.num_added


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
