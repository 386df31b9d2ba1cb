import io
from dataclasses import replace

import pytest
from rich.console import Console

from consumers.testing import kept_outcome, make_video
from schemas.object_names import object_name
from schemas.records import BlobReference, ProcessedVideo
from service.cli.journal import LogFormat, open_journal
from service.cli.output import print_table
from service.cli.progress import LineObserver


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("file:///data/a%20b%5B1%5D.mp4", "a b[1].mp4"),
        ("file:///data/%E8%A7%86%E9%A2%91.mp4", "视频.mp4"),
        # A key of S3 is not encoded: this one has a percent sign in it.
        ("s3://bucket/a%20b.mp4", "a%20b.mp4"),
        ("file:///data/a%1B%5B2J%0Ab.mp4", "a�[2J�b.mp4"),
    ],
)
def test_file_is_named_as_its_owner_named_it(uri: str, name: str) -> None:
    assert object_name(uri) == name


def test_line_of_a_finished_video_shows_its_name_readable() -> None:
    written = io.StringIO()
    console = Console(file=written, soft_wrap=True, width=240)
    observer = LineObserver(open_journal(console, LogFormat.TERMINAL, "films"))
    row = replace(make_video(3), blob=BlobReference("file:///data/a%20b%5B1%5D.mp4"))
    outcome = kept_outcome(row, num_clips=2)
    observer.finished(ProcessedVideo(row, outcome, 1, row.committed_at))
    assert written.getvalue() == "curated   row 3 a b[1].mp4: 2 of 2 clips kept\n"


def test_table_shows_brackets_of_a_name_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Clips", ("video",), [("talk [final].mp4",)])
    assert "talk [final].mp4" in capsys.readouterr().out
