"""``sluice run``: the service."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from consumers.reports import EndReason, RunReport
from service import wiring
from service.cli.options import ConfigOption, PoolOption
from service.cli.output import JsonOption, err, out, print_json
from service.cli.progress import LineObserver
from service.runtime import run_until_signalled
from service.settings import load_settings

EXIT_INCOMPLETE = 1


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("run")(_run)


def _run(
    config: ConfigOption = None,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="Exit when every row is committed, instead of waiting for more.")
    ] = False,
    pool: PoolOption = None,
    consumer: Annotated[str | None, typer.Option(help="Consumer id, instead of the one in the settings.")] = None,
    json: JsonOption = False,
) -> None:
    """Curate every row of the raw table that is not curated yet, and go on with those that come."""
    overrides: dict[str, Any] = {}
    if pool is not None:
        overrides["pool"] = {"kind": pool}
    if consumer is not None:
        overrides["consumer"] = {"id": consumer}
    settings = load_settings(config, overrides)
    # With --json standard output holds the report and nothing else.
    lines = err if json else out
    workers = wiring.build_pool(settings)
    processor = wiring.build_processor(settings, workers, LineObserver(lines, each_video=sys.stdout.isatty()))
    lines.print(
        f"consumer {settings.consumer.id}: {settings.tables.database}.{settings.tables.raw} -> "
        f"{settings.tables.database}.{settings.tables.curated}, profile {settings.profile.name} "
        f"({settings.profile.fingerprint}), {settings.pool.kind} pool",
        markup=False,
    )
    report = run_until_signalled(processor, workers, until_caught_up=until_caught_up)
    if json:
        print_json(_document(report))
    else:
        out.print(_sentence(report), markup=False)
    if report.reason is EndReason.DRAIN_INCOMPLETE:
        raise typer.Exit(EXIT_INCOMPLETE)


def _document(report: RunReport) -> dict[str, Any]:
    return {
        "reason": report.reason.value,
        **asdict(report.counts),
        "num_abandoned": report.num_abandoned,
        "sequence": report.sequence,
        "watermark": report.position.watermark,
        "lag": report.lag,
        "wall_s": round(report.wall_s, 3),
    }


def _sentence(report: RunReport) -> str:
    counts = report.counts
    left = f", {report.num_abandoned} left unfinished for the next run" if report.num_abandoned else ""
    return (
        f"{report.reason.value.replace('_', ' ')} after {report.wall_s:.1f} s: {counts.num_curated} videos curated, "
        f"{counts.num_rejected} rejected, {counts.num_failed} failed; {counts.num_clips_committed} clips in "
        f"{counts.num_commits} commits{left}"
    )
