"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BEGIN, RUN, LOOK, STEER = "To begin", "To run", "To look", "To steer a running service"
"""Headings of the list of commands."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file; default $SLUICE_CONFIG or ./sluice.toml.", show_default=False),
]

PoolOption = Annotated[
    str | None,
    typer.Option("--pool", help="ray or inline, instead of what the settings say.", show_default=False),
]
