"""Commands that look at a running service: lag, one video's story, and a live view."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas.object_names import object_name
from schemas.records import VideoStatus
from service.cli.options import LOOK
from service.cli.output import JsonOption, counted, human_bytes, out, print_json, print_table
from service.cli.remote import ConsumerOption, Remote, TokenFileOption, UrlOption

_STYLES = {"stalled": "bold red", "failed": "bold red", "falling_behind": "red", "paused": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("lag", rich_help_panel=LOOK)(_lag)
    app.command("video", rich_help_panel=LOOK)(_video)
    app.command("videos", rich_help_panel=LOOK)(_videos)
    app.command("top", rich_help_panel=LOOK)(_top)


def _lag(
    consumer: ConsumerOption = None, url: UrlOption = None, token_file: TokenFileOption = None, json: JsonOption = False
) -> None:
    """Say how far behind a consumer is, and when it will have caught up."""
    with Remote(url, token_file) as remote:
        report = remote.get(f"{remote.consumer(consumer)}/lag")
        if json:
            print_json(report)
            return
        lag = report["lag"]
        if lag is None:
            out.print(f"not measured yet{': ' + report['error'] if report['error'] else ''}", markup=False)
            return
        size = "" if lag["bytes"] is None else f", about {human_bytes(lag['bytes'])}"
        at_least = "" if lag["is_exact"] else "at least "
        out.print(
            f"{_word(report['verdict'])}: {counted(lag['records'], 'row')}{size} in "
            f"{counted(lag['snapshots'], 'snapshot')}; the oldest has "
            f"waited {at_least}{_span(lag['seconds'])}; caught up {_when(report['time_to_catch_up_s'])}",
            markup=False,
        )
        for shard in report["shards"]:
            out.print(f"shard {shard['shard']}: {counted(shard['records'], 'row')}", markup=False)
        headroom_s = lag["retention_headroom_s"]
        if headroom_s is not None:
            out.print(
                f"the oldest change that is needed may expire {_when(headroom_s)} by the raw table's own rules",
                markup=False,
            )


def _video(
    row: Annotated[int, typer.Argument(help="Row id in the raw table.", min=0)],
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> None:
    """Tell one video's story: every run over it, with its clips, scores and verdicts."""
    with Remote(url, token_file) as remote:
        story = remote.get(f"/videos/{row}")
    if json:
        print_json(story)
        return
    out.print(f"row {row}, {story['uri'] or story['video_id']}: {story['status']}", markup=False)
    for run in story["runs"]:
        failure = f"; {run['failure_stage']}: {run['failure_message']}" if run["failure_class"] else ""
        first_row = run.get("source_same_as_row_id")
        same = "" if first_row is None else f"; the same bytes as row {first_row}"
        print_table(
            f"run {run['run']}, {run['processed_at']}, {run['status']}, attempts {run['attempts']}{failure}{same}",
            ("clip", "from s", "to s", "verdict", "scores"),
            [
                (clip["clip_index"], clip["start_s"], clip["end_s"], clip["reason"] or "kept", _scores(clip["scores"]))
                for clip in run["clips"] or []
            ],
        )


def _scores(scores: list[dict[str, Any]]) -> str:
    shown = (f"{s['name']} {'-' if s['value'] is None else format(s['value'], '.3f')}" for s in scores)
    return ", ".join(shown)


StatusOption = Annotated[
    VideoStatus | None, typer.Option("--status", help="Only those that ended so.", show_default=False)
]


def _videos(
    text: Annotated[
        str | None,
        typer.Argument(help="Part of the name, the URI or the id; case does not matter.", show_default=False),
    ] = None,
    status: StatusOption = None,
    uri: Annotated[str | None, typer.Option("--uri", help="Exactly this URI, or path.", show_default=False)] = None,
    before: Annotated[int | None, typer.Option(help="Only rows below this one.", min=0, show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=500)] = 50,
    consumer: ConsumerOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> None:
    """List processed videos, the newest rows first, or find them by name; `sluice video ROW` tells the story of one."""
    with Remote(url, token_file) as remote:
        page = remote.get(
            "/videos",
            consumer=consumer,
            text=text,
            status=None if status is None else status.value,
            uri=uri,
            before=before,
            limit=limit,
        )
    if json:
        print_json(page)
        return
    if page["items"]:
        print_table(
            "Videos",
            ("row", "video", "became", "kept", "rejected", "why", "at"),
            [
                (
                    item["row_id"],
                    object_name(item["uri"]) if item["uri"] else item["video_id"],
                    item["status"],
                    item["num_clips_kept"],
                    item["num_clips_rejected"],
                    item["error_class"] or "",
                    item["processed_at"],
                )
                for item in page["items"]
            ],
        )
    else:
        so_far = "" if page["next_before"] is None else " among those looked at so far"
        out.print(f"no such video was processed{so_far}; one that waits has only its row", markup=False)
    if page["next_before"] is not None:
        out.print(f"more: --before {page['next_before']}", markup=False)


def _top(
    consumer: ConsumerOption = None,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> None:
    """Watch a consumer: verdict, lag, rates, stages and videos in flight. Ends with Ctrl-C."""
    with Remote(url, token_file) as remote:
        path = remote.consumer(consumer)
        if json:
            print_json({**remote.get(path), "stages": remote.get(f"{path}/stages")["stages"]})
            return
        if once or not out.is_terminal:
            out.print(_view(remote, path))
            return
        with Live(_view(remote, path, out.size.height), console=out, auto_refresh=False, screen=True) as live:
            try:
                while True:
                    time.sleep(interval)
                    live.update(_view(remote, path, out.size.height), refresh=True)
            except KeyboardInterrupt:
                return


def _view(remote: Remote, path: str, height: int | None = None) -> Group:
    """Return what there is to see; with a ``height`` in lines, with as many videos in flight as have room."""
    found, stages = remote.get(path), remote.get(f"{path}/stages")
    parts: list[Any] = [_headline(found)]
    if found["lag"] is not None:
        lag = found["lag"]
        parts.append(
            Text(
                f"lag {counted(lag['records'], 'row')}, oldest {_span(lag['seconds'])}; caught up "
                f"{_when(found['time_to_catch_up_s'])}; {found['num_in_flight']} in flight, "
                f"{found['num_uncommitted']} finished and not committed"
            )
        )
    rates = _table("over", "rows/s", "arriving/s", "clips/s", "video s/s", "MB/s")
    for window in found["throughput"]:
        rates.add_row(
            f"{window['window_s'] / 60:.0f} min",
            f"{window['records_per_s']:.2f}",
            f"{window['arrived_per_s']:.2f}",
            f"{window['clips_per_s']:.2f}",
            f"{window['video_s_per_s']:.1f}",
            f"{window['bytes_per_s'] / 1e6:.2f}",
        )
    funnel = _table("stage", "in", "out", "waiting", "batch", "rejected", "CPU s")
    # One line for each stage, whatever was rejected there: all ten fit into the smallest terminal.
    for column in funnel.columns:
        column.no_wrap = column.header != "rejected"
    for stage in stages["stages"]:
        if stage["num_in"] or stage["rejected"] or stage["waiting"]:
            mark = " <- bottleneck" if stage["stage"] == stages["bottleneck"] else ""
            rejected = ", ".join(f"{count} {reason}" for reason, count in stage["rejected"].items())
            funnel.add_row(
                stage["stage"] + mark,
                str(stage["num_in"]),
                str(stage["num_out"]),
                "" if stage["waiting"] is None else str(stage["waiting"]),
                "" if stage["mean_batch"] is None else f"{stage['mean_batch']:.1f}",
                Text(rejected, no_wrap=True, overflow="ellipsis"),
                f"{stage['cpu_s']:.1f}",
            )
    parts += [Text(), rates, Text(), funnel, Text()]
    flight = _table("row in flight", "video", "at", "age", "failures")
    room = 10 if height is None else height - len(out.render_lines(Group(*parts))) - 1
    for video in found["in_flight"][: max(room, 0)]:
        flight.add_row(
            str(video["row_id"]),
            video["video_id"],
            _place(video),
            _span(video["age_s"]),
            str(video["num_failures"]),
        )
    return Group(*parts, flight) if flight.row_count else Group(*parts[:-1])


def _place(video: dict[str, Any]) -> str:
    if video["stage"] is None:
        return "next attempt"
    if video["is_waiting"]:
        return "waits for a worker"
    return f"{video['stage']} for {_span(video['stage_s'])}"


def _headline(found: dict[str, Any]) -> Text:
    word = _word(found["verdict"])
    text = Text(f"{found['consumer']}: ")
    text.append(word, style=_STYLES.get(found["verdict"] or "", "bold green"))
    text.append(f" ({found['observed']}")
    desired = found["desired"]
    if desired["state"] != "running":
        because = f", {desired['reason']}" if desired["reason"] else ""
        text.append(f"; {desired['state']} by {desired['actor']}{because}")
    text.append(")")
    if found["last_error"] is not None:
        text.append(f"\nlast error: {found['last_error']['message']}", style="red")
    return text


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _word(verdict: str | None) -> str:
    return "not measured yet" if verdict is None else verdict.replace("_", " ")


def _span(seconds: float) -> str:
    """Return a length of time as a person says it: ``90`` -> ``1 min 30 s``."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "never at this rate"
    return "now" if seconds == 0 else f"in {_span(seconds)}"
