"""``sluice dataset``: names for what the curated table holds at one moment, so that a training can be done again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from service import wiring
from service.cli.options import LOOK, ConfigOption
from service.cli.output import JsonOption, out, print_json, print_table
from service.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    commands = typer.Typer(help="Tag what the curated table holds, and list the tags.", no_args_is_help=True)
    commands.command("tag")(tag)
    commands.command("list")(list_tags)
    app.add_typer(commands, name="dataset", rich_help_panel=LOOK)


def tag(
    name: Annotated[str, typer.Argument(help="Of the tag: letters, digits, dots, dashes and underscores.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Name what the curated table holds now; its files stay until the tag is deleted.

    Readers name it (`scan.tag-name`), and `sluice clips --tag`. A takedown does not reach into it: delete the tag, too.
    """
    made = wiring.dataset_tags(load_settings(config)).create(name)
    if as_json:
        print_json(asdict(made))
        return
    out.print(f"tag {made.name}: snapshot {made.snapshot_id} of {made.committed_at:%Y-%m-%d %H:%M} UTC", markup=False)


def list_tags(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the tags of the curated table, the oldest first."""
    tags = wiring.dataset_tags(load_settings(config)).all()
    if as_json:
        print_json([asdict(each) for each in tags])
        return
    if not tags:
        out.print("no tags: make one with `sluice dataset tag NAME`", markup=False)
        return
    rows = [(each.name, each.snapshot_id, f"{each.committed_at:%Y-%m-%d %H:%M}") for each in tags]
    print_table("", ("tag", "snapshot", "committed (UTC)"), rows)
