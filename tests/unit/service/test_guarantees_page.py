"""The page of guarantees names tests; each of them exists, and is a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parents[2]
_PAGE = _TESTS.parent / "docs" / "guarantees.md"
_NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", _PAGE.read_text())


def test_every_row_of_a_promise_names_a_test() -> None:
    rows = [line for line in _PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("|---")]
    bare = [row for row in rows if "::" not in row and "held by" not in row]
    assert bare == []


@pytest.mark.parametrize(("file", "function"), sorted(set(_NAMED)), ids=lambda value: str(value).rpartition("/")[2])
def test_test_that_is_said_to_hold_a_promise_exists(file: str, function: str) -> None:
    path = _TESTS / file
    assert path.is_file(), f"docs/guarantees.md names {file}, which does not exist"
    assert re.search(rf"^(async )?def {function}\(", path.read_text(), re.MULTILINE), f"{file} has no {function}"


_KNOWN = {
    # The first three are kinds of raw tables; the others are ours.
    "tables": {"row-tracked", "keyed", "plain", "curated", "ledger", "all"},
    "stores": {"disk", "S3", "REST", "all"},
    "when": {"at start", "while running", "before a file is written"},
}


def _columns() -> list[tuple[str, str]]:
    """Return the name of the column and what is in it, for every cell of every table."""
    names: list[str] = []
    found: list[tuple[str, str]] = []
    before = ""
    for line in _PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|---"):
            names = [cell.strip() for cell in before.strip("|").split("|")]
        elif line.startswith("| ") and names:
            found += zip(names, cells, strict=True)
        elif not line.startswith("|"):
            names = []
        before = line
    return found


@pytest.mark.parametrize("column", sorted(_KNOWN))
def test_every_row_says_for_which_tables_and_stores_it_holds_or_when_it_is_refused(column: str) -> None:
    cells = [cell for name, cell in _columns() if name == column]
    assert len(cells) >= 5
    for cell in cells:
        # The first words name the kind; what follows a comma, or further words, narrow it down.
        assert any(cell == known or cell.startswith((f"{known} ", f"{known},")) for known in _KNOWN[column]), cell
