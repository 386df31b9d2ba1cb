"""What is wrong with settings, in words that name the setting."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError


def explain_environment() -> str:
    """Say which variable cannot be read; never its value, which may be a secret."""
    lines = []
    for name in sorted(name for name in os.environ if name.upper().startswith("SLUICE_")):
        # What is no table or list is taken as it is.
        if os.environ[name].lstrip()[:1] in ("{", "["):
            try:
                json.loads(os.environ[name])
            except ValueError as error:
                lines.append(f'variable {name}: is no JSON: {error}; a table is written as {{"key": "value"}}')
    return "\n".join(lines) or (
        'a SLUICE_* variable cannot be read: tables and lists are written as JSON, as in {"key": "value"} and ["a"]'
    )


_SECRET_NAMES = re.compile(r"secret|password|access.?key|credential|(^|[._-])tokens?($|[._-])", re.IGNORECASE)


def holds_secrets(content: Mapping[str, Any], name: str = "") -> bool:
    """Return whether a settings file has a value, below ``name``, whose name is that of a secret."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            if holds_secrets(value, key):
                return True
        elif isinstance(value, str) and key != "token_file" and _SECRET_NAMES.search(f"{name}.{key}"):
            return True
    return False


_TAGGED = ("profile", "models", "captioner")


_OF_VALIDATORS = "Value error, "


def explain(error: ValidationError, file: Path) -> str:
    """Return one line for each setting that does not fit."""
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        keys = [str(part) for part in item["loc"]]
        if tuple(keys[: len(_TAGGED)]) == _TAGGED:
            # Pydantic names the kind of captioner there, as if it were a section.
            del keys[len(_TAGGED) : len(_TAGGED) + 1]
        name = ".".join(keys)
        variable = "SLUICE_" + "__".join(keys).upper()
        message = item["msg"]
        if item["type"] == "extra_forbidden":
            problem = "there is no such setting; remove it or correct its name"
        elif item["type"] == "missing":
            problem = f"is missing; set it in {file} or as {variable} (`sluice init` writes a file to start from)"
        else:
            if item["type"] == "model_type":
                problem = f"is a section with keys of its own, [{name}], not one value"
            elif message.startswith(_OF_VALIDATORS):
                problem = message.removeprefix(_OF_VALIDATORS)
            else:
                problem = message[0].lower() + message[1:]
            problem += f" (from {file} or {variable})"
        lines.append(f"setting {name}: {problem}")
    return "\n".join(lines)
