"""Settings read from file, environment and command line."""

from __future__ import annotations

import logging
import os
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from consumers.errors import ConfigurationError
from service.settings.environment import PREFIX, unknown_variables
from service.settings.explain import explain, explain_environment, holds_secrets
from service.settings.sections import Settings

_log = logging.getLogger(__name__)


DEFAULT_PATH = Path("sluice.toml")


def settings_folder(config: Path | None) -> Path:
    """Return the folder of the settings file that :func:`load_settings` reads, given the same path."""
    return (config or Path(os.environ.get("SLUICE_CONFIG") or DEFAULT_PATH)).absolute().parent


def load_settings(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Read and validate the settings.

    Args:
        path: the file; ``$SLUICE_CONFIG`` or ``sluice.toml`` in the working directory if None. A file that was named
            must exist; the default one may be absent where the environment holds what is needed.
        overrides: values of the command line, by section; they win over file and environment.

    Raises:
        ConfigurationError: one line per setting or ``SLUICE_*`` variable that is unknown, mistyped or out of range.
    """
    if strangers := unknown_variables(os.environ, _variables(Settings)):
        raise ConfigurationError("\n".join(strangers))
    named = path or (Path(os.environ["SLUICE_CONFIG"]) if os.environ.get("SLUICE_CONFIG") else None)
    file = named or DEFAULT_PATH
    content: dict[str, Any] = {}
    if file.exists():
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"{file}: cannot be read as TOML: {error}") from error
    elif named is not None:
        raise ConfigurationError(f"{file}: there is no such settings file; create one with `sluice init`")

    class _Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, env_settings, InitSettingsSource(settings_cls, content))

    try:
        settings = _Layered(**(overrides or {}))
    except ValidationError as error:
        # A person who forgot the file would read of one setting after the other.
        absent = (
            ""
            if file.exists()
            else f"{file.absolute()}: there is no such settings file; name one with --config, or make one with "
            "`sluice init --warehouse PLACE`\n"
        )
        raise ConfigurationError(absent + explain(error, file)) from error
    except SettingsError as error:
        raise ConfigurationError(explain_environment()) from error
    if content and holds_secrets(content) and file.stat().st_mode & 0o077:
        _log.warning("settings file %s holds secrets and others can read it: run `chmod 600 %s`", file, file)
    return settings


def _variables(model: type[BaseModel], prefix: str = PREFIX) -> set[str]:
    """Return the variable of each section and each setting below ``model``."""
    found = set()
    for name, info in model.model_fields.items():
        variable = f"{prefix}{name}".upper()
        found.add(variable)
        for annotation in (info.annotation, *get_args(info.annotation)):
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                found |= _variables(annotation, f"{variable}__")
    return found
