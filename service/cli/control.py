"""Commands that steer a running service: pause, resume, stop, restart, position, dead letters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from schemas.object_names import object_name
from service.cli.options import LOOK, STEER
from service.cli.output import JsonOption, counted, out, print_json, print_table
from service.cli.remote import ConsumerOption, ReasonOption, Remote, TokenFileOption, UrlOption


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("pause", rich_help_panel=STEER)(_pause)
    app.command("resume", rich_help_panel=STEER)(_resume)
    app.command("stop", rich_help_panel=STEER)(_stop)
    app.command("restart", rich_help_panel=STEER)(_restart)
    app.command("position", rich_help_panel=STEER)(_position)
    app.command("dead-letters", rich_help_panel=LOOK)(_dead_letters)


TtlOption = Annotated[
    float | None, typer.Option("--ttl", help="Seconds until it resumes by itself.", min=1, show_default=False)
]


def _pause(
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    ttl: TtlOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> None:
    """Take in nothing new; what is in flight is finished and committed. Survives restarts."""
    _wish("pause", Remote(url, token_file), consumer, {"reason": reason, "ttl_s": ttl}, json)


def _resume(
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> None:
    """Go on after a pause, a stop or a failure."""
    _wish("resume", Remote(url, token_file), consumer, {"reason": reason}, json)


def _stop(
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    ttl: TtlOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> None:
    """Drain, and give the workers back. Survives restarts."""
    _wish("stop", Remote(url, token_file), consumer, {"reason": reason, "ttl_s": ttl}, json)


def _restart(
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> None:
    """Drain, and start anew with new workers."""
    _wish("restart", Remote(url, token_file), consumer, {"reason": reason}, json)


def _wish(action: str, remote: Remote, consumer: str | None, body: dict[str, Any], json: bool) -> None:
    with remote:
        method = "POST" if action == "restart" else "PUT"
        state, _ = remote.request(method, f"{remote.consumer(consumer)}/{action}", body=body)
        if json:
            print_json(state)
            return
        until = f" until {state['desired']['until']}" if state["desired"]["until"] else ""
        out.print(
            f"consumer {state['consumer']}: meant to be {state['desired']['state']}{until}; it was {state['observed']} "
            "when this was stored (`sluice top` shows when it has followed)",
            markup=False,
        )


def _position(
    offset: Annotated[
        int | None, typer.Argument(help="The first offset that is not done; without it the position is shown.", min=0)
    ] = None,
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the change would do.")] = False,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> None:
    """Show what is committed, or go on from another offset (the consumer has to be stopped)."""
    with Remote(url, token_file) as remote:
        path = f"{remote.consumer(consumer)}/position"
        shown, headers = remote.request("GET", path)
        if offset is None:
            if json:
                print_json(shown)
                return
            above = f", and {counted(shown['num_ranges'], 'range')} above it" if shown["num_ranges"] else ""
            out.print(
                f"committed: every row below {shown['watermark']}{above}; commit {shown['sequence']} of epoch "
                f"{shown['epoch']}",
                markup=False,
            )
            return
        move, _ = remote.request(
            "PUT",
            path,
            body={"offset": offset, "reason": reason},
            params={"dry_run": dry_run},
            headers={"If-Match": headers["etag"]},
        )
        if json:
            print_json(move)
            return
        verb = "would be" if dry_run else "will be"
        out.print(
            f"{counted(move['num_read_again'], 'row')} {verb} read again, {move['num_skipped']} skipped for good "
            f"(the audit lists them as missing); {move['num_left_done']} stay done, because their clips are in the "
            "curated table",
            markup=False,
        )


StageOption = Annotated[str | None, typer.Option("--stage", help="Failed in this stage.", show_default=False)]
ClassOption = Annotated[str | None, typer.Option("--class", help="Failed with this error class.", show_default=False)]


def _dead_letters(
    consumer: ConsumerOption = None,
    stage: StageOption = None,
    error_class: ClassOption = None,
    before: Annotated[int | None, typer.Option(help="Only rows below this one.", min=0, show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=500)] = 50,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    json: JsonOption = False,
) -> None:
    """List videos that failed for good, the newest rows first."""
    with Remote(url, token_file) as remote:
        page = remote.get(
            f"{remote.consumer(consumer)}/dead-letters",
            stage=stage,
            error_class=error_class,
            before=before,
            limit=limit,
        )
        if json:
            print_json(page)
            return
        so_far = "" if page["next_before"] is None else " among those looked at so far"
        if not page["items"]:
            out.print(f"no dead letters{so_far}", markup=False)
        else:
            print_table(
                "Dead letters",
                ("row", "video", "stage", "error", "attempts", "message"),
                [
                    (item["row_id"], _name(item), item["stage"], item["error_class"], item["attempts"], item["message"])
                    for item in page["items"]
                ],
            )
        if page["next_before"] is not None:
            out.print(f"more: --before {page['next_before']}", markup=False)


def _name(item: dict[str, Any]) -> str:
    return object_name(str(item["uri"])) if item["uri"] else str(item["video_id"])
