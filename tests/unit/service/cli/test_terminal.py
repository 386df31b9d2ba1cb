"""What commands print fits the terminal that it is printed on."""

import io
import re
from collections.abc import Iterator

import pytest
import typer
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from service.cli.main import app
from service.cli.output import counted, print_table

CLIPS = ("clip", "video", "from s", "to s", "motion px", "quality", "cut", "caption")
ROW = (
    "0123456789ab",
    "a rather long name of a video.mp4",
    12.5,
    17.25,
    3.125,
    0.75,
    "encoded",
    "two people walk a dog",
)


def printed(width: int, columns: tuple[str, ...], *rows: tuple[object, ...]) -> str:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True, highlight=False)
    print_table("Clips", columns, rows, to=console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_table_is_no_wider_than_the_terminal_and_loses_nothing(width: int) -> None:
    text = printed(width, CLIPS, ROW)
    assert max(map(len, text.splitlines())) <= width
    squeezed = re.sub(r"\s", "", text)
    assert "…" not in text
    for number in ("12.500", "17.250", "3.125", "0.750"):
        assert number in text
    for word in ("0123456789ab", "encoded"):
        assert word in squeezed


def test_table_that_has_no_room_becomes_a_block_for_each_row() -> None:
    lines = printed(40, CLIPS, ROW, ROW).splitlines()
    assert lines[:3] == ["Clips", "clip       0123456789ab", "video      a rather long name of a video.mp4"]
    assert lines.count("caption    two people walk a dog") == 2


def test_numbers_have_their_noun() -> None:
    assert (counted(1, "video"), counted(0, "video"), counted(1200, "row")) == ("1 video", "0 videos", "1,200 rows")


def commands() -> Iterator[list[str]]:
    root = get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        yield from (
            ([name, sub] for sub in getattr(command, "commands", ())) if hasattr(command, "commands") else [[name]]
        )


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_shows_the_sections_of_the_settings_that_it_names(path: list[str]) -> None:
    root = get_command(app)
    command = root
    for name in path:
        command = command.commands[name]  # type: ignore[attr-defined]
    said = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200"})
    assert said.exit_code == 0
    for parameter in command.params:
        for section in re.findall(r"\[[a-z_.]+\]", getattr(parameter, "help", None) or ""):
            assert section in said.output, f"{parameter.name}: {section} is taken for markup"


def test_every_command_stands_under_a_heading() -> None:
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).output
    assert "─ Commands ─" not in said
    for heading in ("To begin", "To run", "To look", "To steer a running service"):
        assert heading in said


def test_date_that_is_none_is_said(tmp_path: object) -> None:
    for text in ("2026-13-45", "20260531", "yesterday"):
        said = CliRunner().invoke(app, ["clips", "--date", text])
        assert not isinstance(said.exception, typer.Exit)
        assert f"--date {text}: is no date; write it as YYYY-MM-DD" in str(said.exception)
