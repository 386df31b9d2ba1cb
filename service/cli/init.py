"""``sluice init``: a settings file to start from, and the four tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from consumers.errors import ConfigurationError
from service import wiring
from service.cli.options import BEGIN, ConfigOption
from service.cli.output import JsonOption, err, out, print_json
from service.settings import DEFAULT_PATH, load_settings

_TEMPLATE = """\
# Settings of Sluice. Everything that is not here has a default; see README.md, "Configuration".
# An environment variable wins over this file: SLUICE_POOL__REPLICAS=4 stands for replicas in [pool].

[catalog]
warehouse = {warehouse}

[input]
# Folders and URI prefixes whose objects may be read, besides the warehouse itself.
allow = {allow}

[consumer]
id = "default"

[pool]
# "ray": worker processes on Ray Serve. "inline": threads of the service, for development, without isolation.
kind = "ray"

[profile]
name = "default"

[profile.nsfw]
# Without a model no clip is scored. "pass" lets unscored clips through, "hold" (the default) rejects them.
unscored = "pass"
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("init", rich_help_panel=BEGIN)(_init)


def _init(
    warehouse: Annotated[
        str | None,
        typer.Option(
            help="Warehouse for a new settings file: a folder, s3://bucket/prefix, or a REST catalog's name for it."
        ),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="Folder or URI prefix that may be read; repeat for more.")
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Create the tables, and a settings file where there is none."""
    path = config or DEFAULT_PATH
    new_file = warehouse is not None
    if warehouse is not None:
        if path.exists():
            raise ConfigurationError(f"{path}: exists already; edit it, or leave out --warehouse to use it as it is")
        settings = load_settings(None, _overrides(warehouse, allow or []))
        if not wiring.catalog_config(settings).is_name:
            warehouse = _absolute(warehouse)
            settings = load_settings(None, _overrides(warehouse, allow or []))
    else:
        if allow:
            raise ConfigurationError(f"--allow: goes with --warehouse only; edit [input] allow in {path}")
        settings = load_settings(config)
    for place in allow or []:
        if "://" not in place and not Path(place).exists():
            err.print(
                f"--allow {place}: is not there yet; videos are read from it once it is", style="yellow", markup=False
            )
    report = wiring.create_tables(settings, create_warehouse=new_file)
    if new_file:
        path.write_text(
            _TEMPLATE.format(
                warehouse=_toml_string(warehouse or ""),
                allow="[" + ", ".join(_toml_string(_absolute(prefix)) for prefix in allow or []) + "]",
            ),
            encoding="utf-8",
        )
    if json:
        print_json({"config": str(path), "created": report.created, "existing": report.existing})
        return
    for table in report.created:
        out.print(f"table {table}: created", markup=False)
    for table in report.existing:
        out.print(f"table {table}: exists and fits", markup=False)
    if new_file:
        out.print(f"settings {path}: written", markup=False)
    out.print("Next: `sluice ingest PATH` registers videos, `sluice run` curates them.", markup=False)


def _overrides(warehouse: str, allow: list[str]) -> dict[str, Any]:
    return {"catalog": {"warehouse": warehouse}, "input": {"allow": [_absolute(item) for item in allow]}}


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).resolve())


def _toml_string(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
