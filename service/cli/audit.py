"""``sluice audit``: is every row accounted for, and every clip there once?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from consumers.errors import ConfigurationError
from consumers.paimon.reading.audit_report import AuditReport
from service import wiring
from service.cli.options import LOOK, ConfigOption
from service.cli.output import JsonOption, out, print_json
from service.settings import load_settings

EXIT_PROBLEM = 1
_SAMPLE = 100


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("audit", rich_help_panel=LOOK)(_audit)


def _audit(
    config: ConfigOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Look for the bytes of every clip, too, and decode some of them.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help=f"With --deep: how many clips to decode, drawn at random [default: {_SAMPLE}]."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="With --deep: decode every clip.")] = False,
    json: JsonOption = False,
) -> None:
    """Compare raw, ledger and curated tables and look for their files; exit code 1 if anything is not as it should."""
    if (sample is not None or all_) and not deep:
        raise ConfigurationError("--sample and --all: go with --deep only")
    if sample is not None and all_:
        raise ConfigurationError("--sample and --all: give one of them")
    report = wiring.audit(load_settings(config), deep=deep, sample=None if all_ else sample or _SAMPLE)
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
    if report.clips_checked:
        out.print(f"{report.clips_checked} clips decoded")
    problems = (
        (report.missing, "rows missing from the ledger"),
        (report.mismatched, "rows of which the ledger tells something else"),
        (report.duplicated, "ledger rows too many"),
        (report.unaccounted, "clips that no ledger row accounts for"),
        (report.clips_missing, "kept clips missing from the curated table"),
        (report.clips_duplicated, "clips too many"),
        (report.files_missing, "files missing"),
        (report.files_damaged, "files of another size than their table tells"),
        (report.clips_broken, "clips without bytes or not as their rows tell"),
    )
    if report.is_clean:
        out.print("audit: every row accounted for exactly once, every kept clip there exactly once", style="bold green")
    else:
        found = ", ".join(f"{count} {what}" for count, what in problems if count)
        out.print(f"audit: {found}", style="bold red")
    for detail in report.details:
        out.print(f"  {detail}", markup=False)
