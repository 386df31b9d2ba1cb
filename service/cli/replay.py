"""``sluice replay``: process dead letters again, through a running service or straight on the tables."""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers.errors import ConfigurationError
from consumers.paimon.reading.story import LetterFilter
from schemas.control import AuditEntry
from service import wiring
from service.cli.options import STEER, ConfigOption
from service.cli.output import JsonOption, err, out, print_json
from service.cli.remote import ConsumerOption, ReasonOption, Remote, TokenFileOption, UrlOption, is_meant
from service.settings import load_settings

_PAGE = 500
_MAX_AT_ONCE = 1000
_MAX_OFFLINE = 100_000
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]

SinceOption = Annotated[
    datetime | None, typer.Option(help="Only those that failed at or after this time (UTC).", formats=_FORMATS)
]
UntilOption = Annotated[
    datetime | None, typer.Option(help="Only those that failed before this time (UTC).", formats=_FORMATS)
]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("replay", rich_help_panel=STEER)(_replay)


def _replay(
    rows: Annotated[list[int] | None, typer.Argument(help="Row ids; the same as --row.", min=0)] = None,
    row: Annotated[
        list[int] | None, typer.Option("--row", help="This row; may be repeated.", min=0, show_default=False)
    ] = None,
    error_class: Annotated[
        str | None, typer.Option("--class", help="Those of this error class.", show_default=False)
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Those that failed in this stage.", show_default=False)] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    consumer: ConsumerOption = None,
    reason: ReasonOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Process dead letters again: those named, or all that match.

    With --url, or a token, the service is asked, which processes them beside all else. Without, the tables are changed
    here, which is refused while a service runs the consumer.
    """
    named = sorted({*(rows or ()), *(row or ())})
    if not (named or stage or error_class or since or until or everything):
        raise typer.BadParameter("name rows, or choose by --class, --stage, --since and --until, or take --all")
    bounds = (since and since.replace(tzinfo=UTC), until and until.replace(tzinfo=UTC))
    is_remote = is_meant(url, token_file)
    if is_remote:
        num_accepted = _replay_by_service(Remote(url, token_file), consumer, stage, error_class, named, bounds, reason)
    else:
        num_accepted = _replay_on_tables(config, consumer, stage, error_class, named, bounds, reason)
    if json:
        print_json({"num_accepted": num_accepted})
    elif num_accepted == 0:
        out.print("no dead letter matches; nothing has changed", markup=False)
    else:
        when = "now" if is_remote else "when the consumer next runs"
        out.print(f"{num_accepted} dead letters are processed again {when}", markup=False)


_Bounds = tuple[datetime | None, datetime | None]


def _replay_by_service(
    remote: Remote,
    consumer: str | None,
    stage: str | None,
    error_class: str | None,
    named: Sequence[int],
    bounds: _Bounds,
    reason: str | None,
) -> int:
    with remote:
        path = f"{remote.consumer(consumer)}/dead-letters"
        found: dict[int, datetime] = {}
        before = None
        while True:
            page = remote.get(path, stage=stage, error_class=error_class, before=before, limit=_PAGE)
            found |= {item["row_id"]: datetime.fromisoformat(item["processed_at"]) for item in page["items"]}
            before = page["next_before"]
            if before is None:
                break
        chosen = _choose(found, named, bounds)
        if not chosen:
            return 0
        if len(chosen) > _MAX_AT_ONCE:
            raise ConfigurationError(
                f"{len(chosen)} dead letters match, and the service takes {_MAX_AT_ONCE} at once; choose fewer"
            )
        answer, _ = remote.request("POST", f"{path}/replay", body={"row_ids": chosen, "reason": reason})
    if answer["num_of_other_shards"]:
        err.print(
            f"{answer['num_of_other_shards']} more are of other shards: ask the processes that do those, with their "
            "SLUICE_URL",
            markup=False,
        )
    for name, why in (("num_busy", "being processed already"), ("num_expired", "gone: their changes have expired")):
        if answer[name]:
            err.print(f"{answer[name]} more are {why}", markup=False)
    return int(answer["num_accepted"])


def _replay_on_tables(
    config: Path | None,
    consumer: str | None,
    stage: str | None,
    error_class: str | None,
    named: Sequence[int],
    bounds: _Bounds,
    reason: str | None,
) -> int:
    settings = load_settings(config, {} if consumer is None else {"consumer": {"id": consumer}})
    letters, _ = wiring.story_reader(settings).dead_letters(LetterFilter(stage, error_class), _MAX_OFFLINE)
    found = {int(letter["source_row_id"]): _aware(letter["processed_at"]) for letter in letters}
    chosen = _choose(found, named, bounds)
    if not chosen:
        return 0
    # A service that runs would be fenced by the change, and nobody would start it again.
    with wiring.lease(settings):
        repositioner = wiring.repositioner(settings)
        move = repositioner.again(chosen)
        now = datetime.now(UTC)
        detail = {"num_rows": str(move.num_read_again), "rows": ",".join(map(str, chosen[:50]))}
        # The trail first: a change without an entry would be worse than an entry without a change.
        wiring.build_control(settings).write(
            AuditEntry(
                f"{now:%Y%m%dT%H%M%S.%f}Z-{uuid.uuid4().hex[:8]}",
                "replay",
                settings.consumer.id,
                getpass.getuser(),
                "command line",
                now,
                reason,
                detail,
            )
        )
        repositioner.make(move)
        return move.num_read_again


def _choose(found: Mapping[int, datetime], named: Sequence[int], bounds: _Bounds) -> list[int]:
    """Return the rows to process again.

    Raises:
        ConfigurationError: a row that was named is none of ``found``.
    """
    since, until = bounds
    matching = {
        row_id for row_id, at in found.items() if (since is None or at >= since) and (until is None or at < until)
    }
    if strangers := [row_id for row_id in named if row_id not in matching]:
        raise ConfigurationError(
            f"row {', '.join(map(str, strangers[:10]))}{'...' if len(strangers) > 10 else ''}: no such dead letter; "
            "nothing has changed (`sluice dead-letters` lists those of a running service)"
        )
    return sorted(named or matching)


def _aware(at: Any) -> datetime:
    moment = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
