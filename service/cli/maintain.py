"""``sluice maintain``: one round of maintenance, or what it would do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from service import wiring
from service.cli.options import RUN, ConfigOption
from service.cli.output import JsonOption, human_bytes, out, print_json
from service.host.upkeep import said
from service.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("maintain", rich_help_panel=RUN)(_maintain)


def _maintain(
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would be done.")] = False,
    json: JsonOption = False,
) -> None:
    """Compact the tables, empty deleted rows, expire old snapshots, and sweep up what nothing refers to.

    `sluice run` does the same every hour unless told otherwise; consumers may run meanwhile.
    """
    settings = load_settings(config)
    with wiring.maintenance(settings) as maintainer:
        reports = maintainer.run(dry=dry_run)
    if json:
        print_json({"dry_run": dry_run, "tables": [asdict(report) for report in reports]})
        return
    for report in reports:
        out.print(f"{report.table}: {said(report, human_bytes, dry=dry_run)}", markup=False)
