"""``sluice maintain``: one round of maintenance, or what it would do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from consumers.paimon.maintain.maintainer import TableReport
from service import wiring
from service.cli.options import RUN, ConfigOption
from service.cli.output import JsonOption, human_bytes, out, print_json
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
        out.print(f"{report.table}: {_sentence(report, dry_run)}", markup=False)


def _sentence(report: TableReport, dry_run: bool) -> str:
    if report.left_alone is not None:
        return f"left alone: {report.left_alone}"
    became = "would become" if dry_run else "became"
    will = "would go" if dry_run else "gone"
    expired, orphans = report.expired, report.orphans
    parts = [
        f"{expired.num_snapshots} snapshots with {expired.num_files} files ({human_bytes(expired.num_bytes)}) {will}",
        f"{orphans.num_files} files that nothing referred to ({human_bytes(orphans.num_bytes)}) {will}",
    ]
    compacted, purged = report.compacted, report.purged
    if purged.num_rows:
        lose = "would lose" if dry_run else "have lost"
        parts.insert(0, f"{purged.num_rows} deleted rows {lose} their bytes in the newest snapshot")
    if compacted.num_before:
        parts.insert(0, f"{compacted.num_before} data files {became} {compacted.num_after}")
    if expired.held_by is not None:
        parts.append(f"later ones stay for the {expired.held_by}")
    return "; ".join(parts)
