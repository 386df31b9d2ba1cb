"""Every ``sluice`` command that the documentation names exists, with the options that it is given."""

import re
import shlex
from pathlib import Path

import click
import pytest
from typer.main import get_command

from service.cli.main import app

ROOT = Path(__file__).resolve().parents[4]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )*sluice [a-z][^`]*)`")
_LINE = re.compile(r"^ *(?:\$ )?((?:[A-Z_]+=\S+ )*sluice [a-z].*?)(?:\s+#.*)?$", re.MULTILINE)
_IN_POD = re.compile(r"-- (sluice [a-z].*?)(?:\s+#.*)?$", re.MULTILINE)


def commands_of(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    blocks += "\n" + "\n".join(line for line in text.splitlines() if line.startswith("    "))
    found = [" ".join(each.split()) for each in _INLINE.findall(text)]
    return sorted({*found, *_LINE.findall(blocks), *_IN_POD.findall(blocks)})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page: Path) -> None:
    for line in commands_of(page):
        words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=.*", word)][1:]
        command: click.Command = get_command(app)
        context = click.Context(command, info_name="sluice")
        while isinstance(command, click.Group) and words:
            assert words[0] in command.commands, f"{page.name}: `{line}`: there is no such command"
            command = command.commands[words.pop(0)]
        # Words in capitals stand for what a person fills in.
        given = ["1" if re.fullmatch(r"ROW|ROWS|N|OFFSET|SECONDS", word) else word for word in words if word != "..."]
        try:
            command.make_context(command.name, given, parent=context, resilient_parsing=not given)
        except click.ClickException as error:
            pytest.fail(f"{page.name}: `{line}`: {error.format_message()}")


def test_runbooks_say_what_to_replay() -> None:
    for page in PAGES:
        assert page.parent.name != "runbooks" or "sluice replay" not in commands_of(page), f"{page.name}: replays what?"


def test_every_alert_has_its_page_in_the_list_of_runbooks() -> None:
    folder = ROOT / "docs" / "runbooks"
    text = (folder / "README.md").read_text(encoding="utf-8")
    for page in folder.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in text
