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
