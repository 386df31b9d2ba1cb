"""``sluice rescale``: another number of shards."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from service import wiring
from service.cli.options import RUN, ConfigOption
from service.cli.output import JsonOption, out, print_json
from service.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("rescale", rich_help_panel=RUN)(_rescale)


def _rescale(
    count: Annotated[int, typer.Argument(help="How many shards there are from now on.", show_default=False)],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Change how many shards share the consumer's work, without loss or repeat, while they run or not."""
    settings = load_settings(config)
    report = wiring.rescale(settings, count)
    if json:
        print_json({"consumer": settings.consumer.id, **asdict(report)})
        return
    if not report.has_changed:
        out.print(f"consumer {settings.consumer.id}: has {count} shards already; nothing changed", markup=False)
        return
    out.print(
        f"consumer {settings.consumer.id}: {report.before} -> {report.after} shards; those that run stop at their next "
        f"commit. Start `sluice run --shard 0/{count}`" + (f" to {count - 1}/{count}" if count > 1 else ""),
        markup=False,
    )
