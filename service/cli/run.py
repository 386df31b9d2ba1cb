"""``sluice run``: the service."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers.errors import ConfigurationError
from consumers.loop.reports import EndReason, RunReport
from consumers.members.lease import Holder
from schemas.control import DesiredState
from schemas.shards import Shard
from service import wiring
from service.cli.journal import LogFormat, Say, open_journal
from service.cli.options import RUN, ConfigOption, PoolOption
from service.cli.output import JsonOption, counted, err, out, print_json
from service.cli.progress import LineObserver
from service.host.members import Member
from service.host.runtime import run_until_signalled, until_signal, wait_for_signal
from service.models import pinned
from service.settings import Settings, load_settings, settings_folder

EXIT_INCOMPLETE = 1


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("run", rich_help_panel=RUN)(_run)


def _run(
    config: ConfigOption = None,
    until_caught_up: Annotated[
        bool, typer.Option("--until-caught-up", help="Exit when every row is committed, instead of waiting for more.")
    ] = False,
    pool: PoolOption = None,
    consumer: Annotated[str | None, typer.Option(help="Consumer id, instead of the one in the settings.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="Which part of the rows this process does, as i/n, instead of the settings'.")
    ] = None,
    api: Annotated[
        bool,
        typer.Option(
            help="Serve the control plane, and obey it. Without it, and with --until-caught-up, only signals count."
        ),
    ] = True,
    host: Annotated[str | None, typer.Option(help="Address for the control plane, instead of host in \\[api].")] = None,
    port: Annotated[int | None, typer.Option(help="Port for the control plane, instead of port in \\[api].")] = None,
    insecure_behind_proxy: Annotated[
        bool,
        typer.Option("--insecure-behind-proxy", help="Listen on other than loopback without TLS: a proxy has it."),
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Start although another process runs this consumer; that one stops at its next commit."
        ),
    ] = False,
    accept_new_table: Annotated[
        bool,
        typer.Option(
            "--accept-new-table",
            help="Begin anew if the raw table was rolled back, or dropped and made anew, since it was read.",
        ),
    ] = False,
    second_consumer: Annotated[
        bool,
        typer.Option(
            "--second-consumer",
            help="Begin although another consumer curates the same table into the same tables: each clip stands twice.",
        ),
    ] = False,
    log_format: Annotated[
        LogFormat | None,
        typer.Option(
            "--log-format",
            help="terminal, or text or json with time, level and consumer. Default: terminal on a terminal, else text.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Curate every row of the raw table that is not curated yet, and go on with those that come."""
    overrides: dict[str, Any] = {}
    if pool is not None:
        overrides["pool"] = {"kind": pool}
    consumer_settings = {
        "id": consumer,
        "shard": shard,
        "accept_new_table": accept_new_table or None,
        "second_consumer": second_consumer or None,
    }
    if named := {key: value for key, value in consumer_settings.items() if value is not None}:
        overrides["consumer"] = named
    listen = {"host": host, "port": port, "insecure_behind_proxy": insecure_behind_proxy or None}
    if given := {key: value for key, value in listen.items() if value is not None}:
        overrides["api"] = given
    settings = pinned(load_settings(config, overrides))
    # With --json standard output holds the report and nothing else.
    lines = err if json else out
    say = open_journal(lines, log_format, settings.consumer.id)
    observer = LineObserver(say)
    say(
        f"consumer {settings.consumer.id}{_shard(settings)}: {settings.tables.database}.{settings.tables.raw} -> "
        f"{settings.tables.database}.{settings.tables.curated}, profile {settings.profile.name} "
        f"({settings.profile.fingerprint}), {settings.pool.kind} pool"
    )

    def say_wait(holder: Holder, longest_s: float) -> None:
        say(f"waiting {longest_s:.0f} s at most to see whether {holder} still runs it")

    say(wiring.reading_note(settings))
    with wiring.lease(settings, take_over=take_over, on_wait=say_wait):
        if api and not until_caught_up:
            serve = _serve_one if settings.consumer.member is None else _serve_member
            report = serve(settings, observer, say, settings_folder(config))
            if report is None:
                say("stopped; the consumer did not run")
                return
        else:
            _refuse_if_held(settings)
            workers = wiring.build_pool(settings)
            processor = wiring.build_processor(settings, workers, observer)
            report = run_until_signalled(processor, workers, until_caught_up=until_caught_up)
    if json:
        print_json(_document(report))
    else:
        say(_sentence(report))
    if report.reason is EndReason.DRAIN_INCOMPLETE:
        raise typer.Exit(EXIT_INCOMPLETE)


def _shard(settings: Settings) -> str:
    if settings.consumer.member is not None:
        return f", member {settings.consumer.member}"
    shard = wiring.shard(settings)
    return "" if shard.is_whole else f", shard {shard}"


def _serve_one(settings: Settings, observer: LineObserver, say: Say, folder: Path) -> RunReport | None:
    report, _ = _serve(settings, observer, say, folder, lambda: False)
    return report


def _serve_member(settings: Settings, observer: LineObserver, say: Say, folder: Path) -> RunReport | None:
    """Serve as whichever shard this member has, one after the other, until a signal."""

    def say_rest() -> None:
        say("there are fewer shards than processes; this one rests until it gets one")

    report = None
    with until_signal() as is_over, closing(wiring.member(settings)) as member:
        shard = member.wait_for_shard(is_over, say_rest)
        member.start()
        while shard is not None:
            say(f"this process does shard {shard}")
            is_over_for_now = partial(_has_another_shard, member, shard)
            report, is_signalled = _serve(wiring.with_shard(settings, shard), observer, say, folder, is_over_for_now)
            if is_signalled:
                break
            shard = member.wait_for_shard(is_over, say_rest)
    return report


def _has_another_shard(member: Member, shard: Shard) -> bool:
    return member.shard() != shard


def _serve(
    settings: Settings, observer: LineObserver, say: Say, folder: Path, is_over: Callable[[], bool]
) -> tuple[RunReport | None, bool]:
    """Serve until a signal or until ``is_over``; return the consumer's report, and whether it was a signal."""
    # Importing the web server takes half a second that a run without it does not need.
    from service.control_plane import ControlPlane  # noqa: PLC0415

    plane = ControlPlane(settings, observer, folder)
    is_signalled = True
    try:
        plane.start()
        say(f"control plane {plane.url}, metrics {plane.metrics_url}")
        say(f"tokens: {plane.token_note}")
        is_signalled = wait_for_signal(is_over)
    finally:
        # What a former shard has in flight could not be committed any more.
        report = plane.close() if is_signalled else plane.close(drain_timeout_s=0.0)
    return report, is_signalled


def _refuse_if_held(settings: Settings) -> None:
    """Refuse to run what operators have paused or stopped: here nobody could resume it."""
    desired = wiring.build_control(settings).desired(settings.consumer.id)
    state = desired.effective(datetime.now(UTC))
    if state is not DesiredState.RUNNING:
        because = f" ({desired.reason})" if desired.reason else ""
        raise ConfigurationError(
            f"consumer {settings.consumer.id}: was {state.value} by {desired.actor} at {desired.at:%Y-%m-%d %H:%M} UTC"
            f"{because}; resume it with `sluice resume` while `sluice run` serves the control plane, then try again"
        )


def _document(report: RunReport) -> dict[str, Any]:
    return {
        "reason": report.reason.value,
        **asdict(report.counts),
        "num_abandoned": report.num_abandoned,
        "sequence": report.sequence,
        "watermark": report.position.watermark,
        "lag": report.lag,
        "wall_s": round(report.wall_s, 3),
    }


def _sentence(report: RunReport) -> str:
    counts = report.counts
    left = f", {report.num_abandoned} left unfinished for the next run" if report.num_abandoned else ""
    return (
        f"{report.reason.value.replace('_', ' ')} after {report.wall_s:.1f} s: "
        f"{counted(counts.num_curated, 'video')} curated, {counts.num_rejected} rejected, {counts.num_failed} failed; "
        f"{counted(counts.num_clips_committed, 'clip')} in {counted(counts.num_commits, 'commit')}{left}"
    )
