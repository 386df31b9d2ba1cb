"""What a long-running command says: lines for a person on a terminal, dated ones for a log, or JSON for a log store."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from rich.console import Console


class LogFormat(StrEnum):
    """Form of the lines."""

    TERMINAL = "terminal"
    TEXT = "text"
    JSON = "json"


class Say(Protocol):
    """Writes one line."""

    def __call__(self, text: str, event: str | None = None, *, level: int = logging.INFO, style: str = "") -> None:
        """Write ``text``, under the word ``event`` where there is one; ``style`` is for a terminal."""


def open_journal(console: Console, chosen: LogFormat | None, consumer: str) -> Say:
    """Return what writes a command's own lines, and bring the log's records into the same form.

    Args:
        console: where the lines go; records of the log stay on standard error.
        chosen: the form; if None, for a person on a terminal, and dated text elsewhere.
        consumer: named in every line that is dated.
    """
    form = chosen or (LogFormat.TERMINAL if console.is_terminal else LogFormat.TEXT)
    if form is LogFormat.TERMINAL:
        return _ToTerminal(console)
    write = _json_line if form is LogFormat.JSON else _text_line
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Formatter(write, consumer))
    return _ToLog(console, write, consumer)


class _ToTerminal:
    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, text: str, event: str | None = None, *, level: int = logging.INFO, style: str = "") -> None:
        if event is not None:
            self._console.print(f"{event:9} ", style=style, end="", markup=False)
        self._console.print(text, markup=False)


_Write = Callable[[datetime, int, str, str | None, str, str | None], str]


class _ToLog:
    def __init__(self, console: Console, write: _Write, consumer: str) -> None:
        self._console = console
        self._write = write
        self._consumer = consumer

    def __call__(self, text: str, event: str | None = None, *, level: int = logging.INFO, style: str = "") -> None:
        line = self._write(datetime.now(UTC), level, self._consumer, event, text, None)
        # Not through the console's own printing, which would fold what is longer than a line.
        self._console.file.write(line + "\n")
        self._console.file.flush()


class _Formatter(logging.Formatter):
    def __init__(self, write: _Write, consumer: str) -> None:
        super().__init__()
        self._write_line = write
        self._consumer = consumer

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        at = datetime.fromtimestamp(record.created, UTC)
        return self._write_line(at, record.levelno, self._consumer, None, message, record.name)


def _text_line(at: datetime, level: int, consumer: str, event: str | None, text: str, logger: str | None) -> str:
    word = "" if event is None else f"{event}: "
    source = "" if logger is None else f"{logger}: "
    return f"{_stamp(at)} {logging.getLevelName(level)} {consumer}: {source}{word}{text}"


def _json_line(at: datetime, level: int, consumer: str, event: str | None, text: str, logger: str | None) -> str:
    document = {
        "time": _stamp(at),
        "level": logging.getLevelName(level),
        "consumer": consumer,
        "event": event,
        "logger": logger,
        "message": text,
    }
    return json.dumps({key: value for key, value in document.items() if value is not None}, ensure_ascii=False)


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
