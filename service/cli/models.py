"""``sluice models``: are the configured models there, do they run, and what would decode videos here?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError
from consumers.stages.decoder import choose_decoder
from schemas.models import ModelsParams
from service.cli.options import BEGIN, ConfigOption
from service.cli.output import JsonOption, human_bytes, out, print_json, print_table
from service.models import missing_packages
from service.settings import load_settings

if TYPE_CHECKING:
    from consumers.models.check import ModelCheck

_NONE = "No models are configured: the weight-free built-ins serve. See [profile.models] in the settings."


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    commands = typer.Typer(help="Check the configured models, or fetch them.", no_args_is_help=True)
    commands.command()(check)
    commands.command()(pull)
    app.add_typer(commands, name="models", rich_help_panel=BEGIN)


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Resolve, load and run each configured model once; say device, dtype, memory and milliseconds.

    Says as well what would decode videos on this machine, after the same probe as in a worker.
    """
    settings = load_settings(config)
    models, decoder = settings.profile.models, choose_decoder(settings.pool.decoder).summary
    has_models = models is not None and models != ModelsParams()
    checks = _implementation().check_models(models, SystemClock()) if has_models else []
    if as_json:
        print_json({"models": [asdict(item) for item in checks], "decoder": decoder})
        return
    if has_models:
        _print_checks(checks)
    else:
        out.print(_NONE, markup=False)
    out.print(f"Decoder of videos on this machine: {decoder}", markup=False)


def _print_checks(checks: Sequence[ModelCheck]) -> None:
    columns = ("stage", "model", "revision", "device", "dtype", "memory", "load s", "first ms", "run ms", "answer")
    rows = [
        (
            item.stage,
            item.info.model_id,
            (item.info.revision or "")[:12] or None,
            item.info.device,
            item.info.dtype,
            None if item.info.memory_bytes is None else human_bytes(item.peak_bytes or item.info.memory_bytes),
            item.load_s,
            item.first_ms,
            item.run_ms,
            item.answer,
        )
        for item in checks
    ]
    print_table("Models, each run on one frame", columns, rows)


def pull(
    directory: Annotated[Path, typer.Argument(help="Where the copies go; created if it does not exist.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the configured models from the hub into DIRECTORY, for machines without a network."""
    models = load_settings(config).profile.models
    if models is None or models == ModelsParams():
        if as_json:
            print_json({"models": []})
        else:
            out.print(_NONE, markup=False)
        return
    pulled = _implementation().pull_models(models, directory)
    if as_json:
        copies = [{**asdict(item), "path": None if item.path is None else str(item.path)} for item in pulled]
        print_json({"directory": str(directory), "models": copies})
        return
    print_table("Models", ("stage", "model", "where", "note"), [(i.stage, i.source, i.path, i.note) for i in pulled])
    out.print(f'Set profile.models.directory = "{directory.resolve()}" to use the copies.', markup=False)


def _implementation() -> ModuleType:
    try:
        from consumers.models import check as implementation  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(missing_packages(error)) from error
    return implementation
