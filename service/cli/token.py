"""``sluice token``: make a token for a person or a program, which may end by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from consumers.errors import ConfigurationError
from service.api.tokens import DEFAULT_TOKEN_FILE, Role, add_token
from service.cli.options import BEGIN, ConfigOption
from service.cli.output import JsonOption, err, out, print_json
from service.settings import load_settings, settings_folder


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("token", rich_help_panel=BEGIN)(_token)


def _token(
    name: Annotated[str, typer.Argument(help="Whom it stands for. A token of that name is replaced.")],
    role: Annotated[str, typer.Option(help="read, operate or admin.")] = Role.READ.word,
    days: Annotated[float | None, typer.Option(help="It ends after so many days; never unless told.", min=0.01)] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a bearer token and print it, once; `sluice run` knows it from its next start on."""
    if role.upper() not in Role.__members__:
        raise ConfigurationError(f"--role {role}: there is no such role; give read, operate or admin")
    settings = load_settings(config)
    named = settings.api.token_file
    file = Path(named) if named is not None else settings_folder(config) / DEFAULT_TOKEN_FILE
    expires_at = None if days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    made = add_token(file, name, Role[role.upper()], expires_at)
    if json:
        print_json({"name": name, "role": role.lower(), "token": made, "expires_at": expires_at, "file": str(file)})
        return
    out.print(made, markup=False)
    ends = "never ends" if expires_at is None else f"ends {expires_at:%Y-%m-%d %H:%M} UTC"
    err.print(f"{name}, role {role.lower()}, {ends}; restart `sluice run` to have it known", markup=False)
