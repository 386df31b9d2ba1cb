"""The command line, run in the test's own process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from service.cli.main import app


def sluice_json(*arguments: str) -> Any:
    """Return what a command prints with ``--json``; raises what it raises."""
    result = CliRunner().invoke(app, [*arguments, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
