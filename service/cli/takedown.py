"""``sluice takedown``: take a video down for good, through a running service or straight on the tables."""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from consumers.errors import ConfigurationError
from consumers.paimon.reading.takedowns import TargetKind
from schemas.control import AuditEntry
from service import takedowns, wiring
from service.cli.options import STEER, ConfigOption
from service.cli.output import JsonOption, counted, err, out, print_json
from service.cli.remote import ConsumerOption, ReasonOption, Remote, TokenFileOption, UrlOption, is_meant
from service.settings import Settings, load_settings


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("takedown", rich_help_panel=STEER)(_takedown)


def _takedown(
    target: Annotated[
        str | None,
        typer.Argument(help="A row id, a URI or path, or the id of a video; with --status: of a takedown."),
    ] = None,
    kind: Annotated[
        TargetKind | None,
        typer.Option("--as", help="What TARGET is; by default digits are a row, and what has a slash is a URI."),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Say what has become of takedowns; change nothing.")] = False,
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Retire all clips of a video now, and let nothing of it come again; prints a certificate.

    With --url, or a token, the service is asked, whose consumer drains and restarts for it (role admin).
    Without, the tables are changed here, which is refused while a service runs the consumer.
    """
    is_remote = is_meant(url, token_file)
    if not status and not target:
        raise typer.BadParameter("name a video: a row id, a URI, or its id; or ask for --status")
    if is_remote:
        found = _by_service(Remote(url, token_file), consumer, target, kind, status, reason)
    else:
        settings = load_settings(config, {} if consumer is None else {"consumer": {"id": consumer}})
        if not status and target:
            found = [_on_tables(settings, kind or kind_of(target), target, reason)]
        else:
            found = [takedowns.document(each) for each in wiring.takedown_reader(settings).certificates(target)]
    if status and target and not found:
        raise ConfigurationError(f"{target}: there is no takedown of this id (`sluice takedown --status` lists all)")
    if json:
        print_json(found if status else found[0])
    else:
        _show(found)


def kind_of(target: str) -> TargetKind:
    """Return what ``target`` is by its looks."""
    if target.isascii() and target.isdigit():
        return TargetKind.ROW
    return TargetKind.URI if "/" in target else TargetKind.VIDEO_ID


def _by_service(
    remote: Remote, consumer: str | None, target: str | None, kind: TargetKind | None, status: bool, reason: str | None
) -> list[dict[str, Any]]:
    with remote:
        path = f"{remote.consumer(consumer)}/takedowns"
        if status or not target:
            items: list[dict[str, Any]] = remote.get(path)["items"]
            return [item for item in items if target in (None, item["takedown_id"])]
        body = {"kind": (kind or kind_of(target)).value, "value": target, "reason": reason}
        return [remote.request("POST", path, body=body)[0]]


def _on_tables(settings: Settings, kind: TargetKind, target: str, reason: str | None) -> dict[str, Any]:
    # A service that runs would be fenced by the change, and nobody would start it again.
    with wiring.lease(settings):
        now, actor = datetime.now(UTC), getpass.getuser()
        takedown, meaning = takedowns.plan(settings, kind, target, actor, "command line", now, reason)
        if meaning.num_known == 0:
            err.print(f"nothing of {target} was processed so far: nothing of it will be kept either", markup=False)
        # The trail first: a change without an entry would be worse than an entry without a change.
        entry_id = f"{now:%Y%m%dT%H%M%S.%f}Z-{uuid.uuid4().hex[:8]}"
        detail = {"takedown": takedown.takedown_id, "target": takedown.target}
        wiring.build_control(settings).write(
            AuditEntry(entry_id, "takedown", settings.consumer.id, actor, "command line", now, reason, detail)
        )
        wiring.takedown_store(settings).add(takedown)
        takedowns.obey(settings)
    [certificate] = wiring.takedown_reader(settings).certificates(takedown.takedown_id)
    return takedowns.document(certificate)


def _show(found: Sequence[dict[str, Any]]) -> None:
    if not found:
        out.print("nothing was taken down", markup=False)
    for item in found:
        out.print(f"takedown {item['takedown_id']}: {item['target']}, by {item['by']} at {item['at']}", markup=False)
        for what in ("video_ids", "uris", "parts"):
            for value in item[what]:
                out.print(f"  {what.removesuffix('s')}: {value}", markup=False)
        for each in item["obeyed"]:
            out.print(
                f"  consumer {each['consumer']}, shard {each['shard']}: {counted(each['num_clips'], 'clip')} of "
                f"{counted(each['num_rows'], 'row')} retired at {each['at']}, in snapshot "
                f"{each['curated_snapshot_id']} of the curated table and {each['ledger_snapshot_id']} of the ledger",
                markup=False,
            )
        if not item["obeyed"]:
            out.print("  not done yet: the consumer is draining, or does not run", markup=False)
        out.print(f"  clips of it that stand now: {item['clips_standing']}", markup=False)
        old = "are" if item["has_old_snapshots"] else "are not"
        out.print(f"  snapshots from before, in which its clips can still be read, {old} retained", markup=False)
        out.print(f"  {_bytes_of(item)}", markup=False)


def _bytes_of(item: Mapping[str, Any]) -> str:
    """Return how far the bytes of a takedown's clips have gone."""
    # A service of an earlier version does not say.
    if item.get("bytes_gone_at") is not None:
        return f"its bytes are off the store, as of {item['bytes_gone_at']}"
    due = item.get("bytes_due_at")
    if due is None:
        return "when its bytes are off the store is up to the engine that maintains the tables"
    where = "in files of the newest snapshot, or may be"
    if item.get("bytes_rewritten_at") is not None:
        where = f"in files of older snapshots only, since {item['bytes_rewritten_at']}"
    return f"its bytes are {where}; {'OVERDUE: ' if item['is_overdue'] else ''}they go by {due}"
