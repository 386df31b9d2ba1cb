"""``sluice demo``: the main job from end to end, on videos that it makes itself or on one's own."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers.errors import ConfigurationError
from consumers.media.samples import write_samples
from schemas.object_names import object_name
from schemas.records import MOTION_MEAN_MAGNITUDE, TECHNICAL_QUALITY, ClipOutcome, ProcessedVideo
from service import wiring
from service.cli.audit import audit_document, print_audit
from service.cli.journal import LogFormat, open_journal
from service.cli.options import BEGIN, PoolOption
from service.cli.output import JsonOption, counted, err, out, print_json, print_table
from service.cli.progress import LineObserver
from service.demo import DemoResult, prepare, run_demo

EXIT_PROBLEM = 1


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo", rich_help_panel=BEGIN)(_demo)


def _demo(
    media: Annotated[
        Path | None, typer.Option(help="Folder of your own videos, instead of generated ones.", show_default=False)
    ] = None,
    pool: PoolOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep warehouse and samples, and say where they are.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the whole job: videos land in a table while a consumer curates them; then the audit."""
    if media is not None and not media.exists():
        raise ConfigurationError(f"--media {media}: there is no such folder")
    lines = err if json else out
    say = open_journal(lines, LogFormat.TERMINAL, "demo")
    started_s = time.monotonic()
    overrides: dict[str, Any] = {"pool": {"kind": pool}} if pool is not None else {}
    with _workspace(keep) as root:
        if media is None:
            lines.print("making sample videos ...")
            media = root / "samples"
            write_samples(media)
        settings = prepare(root, media, overrides)
        objects = wiring.find_objects(settings, [str(media)])
        lines.print(f"warehouse {settings.catalog.warehouse}, {settings.pool.kind} pool: starting workers ...")
        result = run_demo(
            settings,
            objects,
            LineObserver(say),
            lambda item: say(object_name(item.uri), "landed", style="cyan"),
        )
        wall_s = time.monotonic() - started_s
        if json:
            print_json(_document(result, wall_s, settings.catalog.warehouse))
        else:
            _print(result, wall_s, root if keep else None)
    if not result.audit.is_clean:
        raise typer.Exit(EXIT_PROBLEM)


@contextmanager
def _workspace(keep: bool) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="sluice-demo-"))
    try:
        yield root
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


def _document(result: DemoResult, wall_s: float, warehouse: str) -> dict[str, Any]:
    clips = [clip for video in result.videos for clip in video.outcome.clips]
    return {
        "videos": len(result.videos),
        "clips_kept": sum(clip.kept for clip in clips),
        "clips_rejected": sum(not clip.kept for clip in clips),
        "failed": sum(video.outcome.failure is not None for video in result.videos),
        "audit": audit_document(result.audit),
        "wall_s": round(wall_s, 2),
        "warehouse": warehouse,
    }


def _print(result: DemoResult, wall_s: float, kept_root: Path | None) -> None:
    rows = [row for video in sorted(result.videos, key=lambda v: v.video.row_id) for row in _rows(video)]
    out.print()
    print_table("What became of them", ("video", "clip", "verdict", "why", "motion px", "quality"), rows)
    out.print()
    print_audit(result.audit)
    out.print(f"{counted(len(result.videos), 'video')} in {wall_s:.1f} s")
    if kept_root is None:
        out.print("The warehouse is gone again; --keep keeps it.")
    else:
        out.print(f"Everything is in {kept_root}; look on with:", markup=False)
        for command in ("clips", "audit", "status"):
            out.print(f"  sluice {command} -c {kept_root / 'sluice.toml'}", markup=False)


def _rows(video: ProcessedVideo) -> Iterator[tuple[object, ...]]:
    name = object_name(video.video.blob.uri) if video.video.blob else video.video.video_id
    failure = video.outcome.failure
    if failure is not None:
        yield name, "", "failed", f"{failure.error_class}: {failure.message}", "", ""
    for clip in video.outcome.clips:
        span = f"{clip.span.start_s:.2f}-{clip.span.end_s:.2f} s"
        why = clip.reason or (clip.caption.text if clip.caption else "")
        yield (
            name,
            span,
            "kept" if clip.kept else "rejected",
            why,
            _score(clip, MOTION_MEAN_MAGNITUDE),
            _score(clip, TECHNICAL_QUALITY),
        )


def _score(clip: ClipOutcome, name: str) -> str:
    values = [score.value for score in clip.scores if score.name == name and score.value is not None]
    return f"{values[0]:.2f}" if values else "-"
