"""``sluice audit``: is every row accounted for, and every clip there once?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from consumers.paimon.reading.audit import AuditReport
from service import wiring
from service.cli.options import ConfigOption
from service.cli.output import JsonOption, out, print_json
from service.settings import load_settings

EXIT_PROBLEM = 1


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("audit")(_audit)


def _audit(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Compare raw, ledger and curated tables; exit code 1 if a row or a clip is missing, duplicated or unaccounted."""
    report = wiring.audit(load_settings(config))
    if json:
        print_json({"ok": report.is_clean, **audit_document(report)})
    else:
        print_audit(report)
    if not report.is_clean:
        raise typer.Exit(EXIT_PROBLEM)


def audit_document(report: AuditReport) -> dict[str, Any]:
    """Return the report for ``--json``."""
    return asdict(report)


def print_audit(report: AuditReport) -> None:
    """Print counts and verdict for a person."""
    out.print(
        f"{report.rows} raw rows, {report.ledger_rows} ledger rows, {report.clips} clips; {report.pending} rows pending"
    )
    if report.clips_retired:
        out.print(f"{report.clips_retired} clips retired by newer versions and deletions of their videos")
    problems = (
        (report.missing, "rows missing from the ledger"),
        (report.duplicated, "ledger rows too many"),
        (report.unaccounted, "clips that no ledger row accounts for"),
        (report.clips_missing, "kept clips missing from the curated table"),
        (report.clips_duplicated, "clips too many"),
    )
    if report.is_clean:
        out.print("audit: every row accounted for exactly once, every kept clip there exactly once", style="bold green")
    else:
        found = ", ".join(f"{count} {what}" for count, what in problems if count)
        out.print(f"audit: {found}", style="bold red")
    for detail in report.details:
        out.print(f"  {detail}", markup=False)
