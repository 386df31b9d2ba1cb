"""What is installed is what is here."""

from __future__ import annotations

import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def test_every_package_is_named_for_the_installation() -> None:
    told = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for room in ("schemas", "consumers", "service") for path in (_ROOT / room).rglob("*.py")}
    assert sorted(told) == sorted(str(folder.relative_to(_ROOT)).replace("/", ".") for folder in folders)
