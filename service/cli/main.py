"""Entry point of the ``sluice`` command."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from consumers.errors import ConfigurationError, SluiceError, SourceChangedError
from service.cli import (
    audit,
    clips,
    control,
    dataset,
    demo,
    ingest,
    init,
    maintain,
    models,
    plan,
    replay,
    rescale,
    run,
    status,
    takedown,
    token,
    watch,
)
from service.cli.output import err

EXIT_PROBLEM = 1
EXIT_USAGE = 2

app = typer.Typer(
    name="sluice",
    help="Curates videos from an Apache Paimon table into clips worth training on, exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for module in (
    init,
    ingest,
    run,
    status,
    audit,
    clips,
    dataset,
    demo,
    control,
    replay,
    takedown,
    watch,
    rescale,
    maintain,
    models,
    plan,
    token,
):
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sluice {version('sluice-video-curation')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what happens inside, to standard error.")
    ] = False,
) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def main() -> None:
    """Run the command line: exit code 0 if all is well, 1 for a problem found, 2 for input that does not fit."""
    try:
        app()
    except (ConfigurationError, SourceChangedError) as error:
        _complain(error)
        sys.exit(EXIT_USAGE)
    except SluiceError as error:
        _complain(error)
        sys.exit(EXIT_PROBLEM)


def _complain(error: SluiceError) -> None:
    for line in str(error).splitlines():
        err.print(f"sluice: {line}", style="bold red", markup=False)
