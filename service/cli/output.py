"""How commands speak: tables and lines for a person, one JSON document with ``--json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

# Away from a terminal there is no width to fit into: lines and table cells stay whole.
_WIDE = None if sys.stdout.isatty() else 240

out = Console(highlight=False, soft_wrap=True, width=_WIDE)
# Of a column of text, in characters, before a row becomes a block.
_LEAST_WIDTH = 10

err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print ``document`` as one line of JSON on standard output; times become ISO 8601."""
    sys.stdout.write(json.dumps(document, default=json_default, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def json_default(value: object) -> str:
    """Return the JSON form of a time; the ``default`` of ``json.dumps``."""
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], to: Console = out) -> None:
    """Print a table; numbers are set right, None becomes a dash.

    Text that is wider than the terminal goes on below itself. Where a table would have no room at all, each row becomes
    a block of lines, one for each column.
    """
    cells = [list(row) for row in rows]
    numeric = [any(isinstance(row[index], int | float) for row in cells) for index in range(len(columns))]
    texts = [[_cell(value) for value in row] for row in cells]
    widths = [
        max([cell_len(name), *(cell_len(row[index]) for row in texts)]) if numeric[index] else _LEAST_WIDTH
        for index, name in enumerate(columns)
    ]
    if sum(widths) + 2 * len(columns) > to.width:
        _print_blocks(title, columns, texts, to)
        return
    table = Table(
        title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for name, is_number in zip(columns, numeric, strict=True):
        table.add_column(
            name,
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
            min_width=None if is_number else min(_LEAST_WIDTH, cell_len(name)),
        )
    for row in texts:
        table.add_row(*map(escape, row))
    to.print(table)


def _print_blocks(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], to: Console) -> None:
    if title:
        to.print(title, style="italic", markup=False)
    longest = max(map(cell_len, columns))
    for number, row in enumerate(rows):
        if number:
            to.print()
        for name, text in zip(columns, row, strict=True):
            to.print(f"{name:{longest}}  {text}", markup=False)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 video``, ``1,200 videos``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def human_bytes(count: float) -> str:
    """Return ``count`` with a binary unit: ``1536`` -> ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
