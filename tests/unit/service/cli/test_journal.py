import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from rich.console import Console

from consumers.testing import kept_outcome, make_video
from schemas.records import ProcessedVideo
from service.cli.journal import LogFormat, open_journal
from service.cli.progress import LineObserver


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the log writes, with no handler but one."""
    root = logging.getLogger()
    former, written = root.handlers, io.StringIO()
    root.handlers = [logging.StreamHandler(written)]
    yield written
    root.handlers = former


def console(*, is_terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=40)


def test_away_from_a_terminal_every_line_has_time_level_and_consumer(log: io.StringIO) -> None:
    lines = console()
    say = open_journal(lines, None, "films")
    row = make_video(3)
    LineObserver(say).finished(ProcessedVideo(row, kept_outcome(row, num_clips=1), 1, row.committed_at))
    logging.getLogger("consumers.loop").warning("the store is slow: %s", "a long sentence " * 5)
    form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z %s films: %s\n"
    assert re.fullmatch(form % ("INFO", "curated: row 3 .*: 1 of 1 clip kept"), lines.file.getvalue())
    assert re.fullmatch(form % ("WARNING", "consumers.loop: the store is slow: .*"), log.getvalue())


def test_json_lines_are_documents_whatever_is_in_them(log: io.StringIO) -> None:
    lines = console()
    say = open_journal(lines, LogFormat.JSON, "films")
    say('a "name"\nwith two lines 视频.mp4', "failed", level=logging.ERROR)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("service").exception("it went wrong")
    [said] = lines.file.getvalue().splitlines()
    document = json.loads(said)
    assert document["message"] == 'a "name"\nwith two lines 视频.mp4'
    assert (document["level"], document["event"], document["consumer"]) == ("ERROR", "failed", "films")
    [record] = log.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(record)["message"]


def test_person_on_a_terminal_reads_plain_lines(log: io.StringIO) -> None:
    lines = console(is_terminal=True)
    open_journal(lines, None, "films")("done", "commit")
    assert lines.file.getvalue() == "commit    done\n"
