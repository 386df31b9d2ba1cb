"""A warehouse of tiny videos with the service on it, and the truth about what must come out in the end."""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks import raw_tables
from benchmarks.forked import ChildFailedError, Forked, sluice
from benchmarks.outages import Outages, asleep_after_publishing
from benchmarks.raw_tables import KEYED, TRACKED, Keys
from benchmarks.stores import DATABASE, Store, expire, snapshot_gaps, table, upload
from consumers.media.samples import Shot, write_video
from consumers.paimon.commit.sink import PaimonSink
from service.wiring import consuming
from tests.support.second_audit import Tables, Tally, tally

CONSUMER = "chaos"
LEDGER, CURATED = "curation_ledger", "curated_clips"
# In every three videos one has a clip worth keeping, one is rejected and one cannot be read.
_TEMPLATES = ("good", "static", "text")
# What a refusal to go on with a table that is not the one before names as a way out.
_WAY_OUT = re.compile(r"--accept-[a-z-]+")

_SETTINGS = """\
[catalog]
warehouse = "{warehouse}"
{options}
[input]
allow = ["{media}"]

[consumer]
id = "{consumer}"
poll_interval_s = 0.05
commit_interval_s = 0.1
commit_max_clips = 2
# A worker that the benchmark kills is not the video's fault.
max_worker_deaths = 1000

[pool]
replicas = 2

[profile.nsfw]
unscored = "pass"
"""


@dataclass(frozen=True)
class Truth:
    """What the tables hold, against what they must hold, by an auditor that shares nothing with the one on trial.

    Attributes:
        commits: snapshots of the curated table so far, those of take-overs and rescales included.
        tally: rows and clips that are missing, there twice or astray.
        gaps: snapshots of ledger and curated table that are not there, between the oldest and the newest of each.
    """

    commits: int
    tally: Tally
    gaps: int

    @property
    def is_clean(self) -> bool:
        """Whether all stands there exactly once."""
        return self.tally.is_clean and not self.gaps

    def as_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"commits": self.commits, **asdict(self.tally), "gaps": self.gaps}


class ServiceUnderTest:
    """Settings, tables and videos below one folder; every command on them is a forked process.

    Args:
        root: an empty folder, for settings and logs.
        store: where the tables and videos go.
        pool: ``inline`` or ``ray``.
        keyed: the raw table has a primary key, and its videos are replaced and deleted, too.
        outages_seed: trouble on the way to a disk; None leaves the service in peace.
        seed: of what happens to the raw table.

    Attributes:
        num_shards: how many the consumer is divided into.
        num_landed: videos so far.

    Raises:
        ChildFailedError: the tables could not be made.
    """

    def __init__(
        self,
        root: Path,
        store: Store,
        pool: str = "inline",
        *,
        keyed: bool = False,
        outages_seed: int | None = None,
        seed: int = 1,
    ) -> None:
        self.root = root
        self.store = store
        self.pool = pool
        self.num_shards = 1
        self.num_landed = 0
        self.raw = KEYED if keyed else TRACKED
        self._keys = Keys(random.Random(seed))
        self._landed: set[str] = set()
        self._forgotten: set[str] = set()
        self._outages_seed = outages_seed
        self._num_logs = 0
        # One settings file for the service, one for all that must not meet the trouble made for the service.
        self._config, self._quiet_config = root / "sluice.toml", root / "quiet.toml"
        for path, options in ((self._config, store.service_options), (self._quiet_config, store.options)):
            path.write_text(_settings(store, options, keyed))
        self.fork(partial(_write_templates, root)).require("making the sample videos", 120)
        if keyed:
            self.fork(partial(raw_tables.make_keyed, store)).require("making the raw table", 120)
        self.command("init").require("sluice init", 120)

    def fork(self, work: Callable[[], int | None]) -> Forked:
        """Run ``work`` in a child."""
        self._num_logs += 1
        return Forked(work, self.root / f"{self._num_logs:04}.log")

    def command(self, *arguments: str) -> Forked:
        """Start a `sluice` command that reaches the store undisturbed."""
        return self.fork(partial(sluice, [*arguments, "--config", str(self._quiet_config)]))

    def land(self, count: int) -> Forked:
        """Start landing ``count`` more videos; in a keyed table some replace others, and others are deleted."""
        folder = f"{self.store.media}/{self.num_landed:06}"
        first, self.num_landed = self.num_landed, self.num_landed + count
        paths = {index: f"{folder}/{index}.mp4" for index in range(first, first + count)}
        self._landed |= {self.store.uri(path) for path in paths.values()}
        register: Callable[[], int | None] = partial(sluice, ["ingest", folder, "--config", str(self._quiet_config)])
        if self.raw == KEYED:
            register = partial(raw_tables.change_keyed, self.store, self._keys.changes(list(paths.values())))
        return self.fork(partial(_land, self.root, self.store, paths, register))

    def run(self, shard: int = 0, on_step: Callable[[str], None] | None = None, *, asleep_at: int = 0) -> Forked:
        """Start `sluice run` for one shard.

        Args:
            shard: its index.
            on_step: called in it at each step of its commits.
            asleep_at: stops itself when it has published for this time, from 1; 0 for never.
        """
        # A second copy is refused at its start; what is on trial here is that it would do no harm.
        command = ["run", "--no-api", "--take-over", "--pool", self.pool, "--config", str(self._config)]
        command += self._shard(shard)
        outages = None
        if self._outages_seed is not None:
            outages = Outages(self._outages_seed + self._num_logs, self.store.warehouse)
        return self.fork(partial(_run, command, on_step, asleep_at, outages))

    def _shard(self, index: int) -> list[str]:
        return ["--shard", f"{index}/{self.num_shards}"]

    def finish(self) -> None:
        """Run every shard undisturbed to the end of the table, as an operator does who reads what a refusal says.

        Raises:
            ChildFailedError: one did not come to its end.
        """
        for index in range(self.num_shards):
            command = ["run", "--until-caught-up", "--pool", self.pool, *self._shard(index)]
            child = self.command(*command)
            way_out = _WAY_OUT.search(child.output()) if child.wait(600) else None
            if way_out is not None:
                child = self.command(*command, way_out.group())
            child.require("sluice run --until-caught-up", 600)

    def happen(self, event: str, seed: int) -> None:
        """Let an event happen to the raw table.

        Raises:
            ChildFailedError: it could not be made.
        """
        before = self._standing()
        self.fork(partial(raw_tables.happen, self.store, self.raw, event, seed)).require(f"the event {event}", 120)
        after = self._standing()
        if event in raw_tables.FORGETFUL:
            self._forgotten |= {*before.values()} - {*after.values()}
        self._keys.standing = after

    def _standing(self) -> dict[str, str]:
        child = self.fork(partial(raw_tables.print_standing, self.store, self.raw))
        return dict(json.loads(child.require("reading the raw table", 120).splitlines()[-1]))

    def audit(self) -> dict[str, Any]:
        """Return what `sluice audit` says.

        Raises:
            ChildFailedError: it gave no report.
        """
        child = self.command("audit", "--json")
        child.wait(300)
        try:
            return dict(json.loads(child.output().splitlines()[-1]))
        except (ValueError, IndexError) as error:
            raise ChildFailedError(f"sluice audit:\n{child.output()[-4000:]}") from error

    def expire_everything(self) -> Forked:
        """Start burying the consumer's markers below a commit of somebody else, and expiring all but that commit."""
        return self.fork(partial(expire, self.store, LEDGER, CURATED))

    def truth(self) -> Truth:
        """Compare the tables with what landed. Forks nothing after this: it has started thread pools."""
        tables = Tables(
            self.store.catalog_options,
            f"{DATABASE}.{self.raw}",
            f"{DATABASE}.{LEDGER}",
            f"{DATABASE}.{CURATED}",
            CONSUMER,
            key=("id",) if self.raw == KEYED else (),
            uri="video" if self.raw == KEYED else "uri",
        )
        return Truth(
            commits=table(self.store, CURATED).snapshot_manager().get_latest_snapshot().id,
            tally=tally(tables, self._landed, _num_clips, self._forgotten),
            gaps=sum(snapshot_gaps(self.store, name) for name in (LEDGER, CURATED)),
        )


def strike_at(step: str, occurrence: int, number: signal.Signals) -> Callable[[str], None]:
    """Return an ``on_step`` that sends a signal to its own process when ``step`` comes for the given time, from 1."""
    left = occurrence

    def on_step(reached: str) -> None:
        nonlocal left
        if reached == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    return on_step


def _settings(store: Store, options: dict[str, str], keyed: bool) -> str:
    lines = [f'"{name}" = "{value}"' for name, value in options.items()]
    section = "\n".join(["[catalog.options]", *lines, ""]) if lines else ""
    made = _SETTINGS.format(warehouse=store.warehouse, media=store.media, options=section, consumer=CONSUMER)
    return made + (raw_tables.KEYED_SETTINGS if keyed else "")


def _run(
    arguments: Sequence[str], on_step: Callable[[str], None] | None, asleep_at: int, outages: Outages | None
) -> int:
    with ExitStack() as stack:
        if on_step is not None:
            stack.enter_context(patch.object(consuming, "PaimonSink", partial(PaimonSink, on_step=on_step)))
        if outages is not None:
            stack.enter_context(outages.installed())
        if asleep_at:
            stack.enter_context(asleep_after_publishing(asleep_at))
        return sluice(arguments)


def _write_templates(root: Path) -> None:
    for name, shot in (("good", Shot(1, seed=1)), ("static", Shot(1, "static", seed=3))):
        write_video(root / f"{name}.mp4", [shot], width=96, height=64, fps=12)
    (root / "text.mp4").write_text("no video")


def _template(index: int) -> str:
    return _TEMPLATES[index % len(_TEMPLATES)]


def _num_clips(uri: str) -> int:
    return int(_template(int(uri.rpartition("/")[2].split(".")[0])) == "good")


def _land(root: Path, store: Store, paths: dict[int, str], register: Callable[[], int | None]) -> int | None:
    for index, path in paths.items():
        upload(store, root / f"{_template(index)}.mp4", path)
    return register()
