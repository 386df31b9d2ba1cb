"""A warehouse of tiny videos with the service on it, and the truth about what must come out in the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.fs as pafs
from pypaimon import CatalogFactory

from benchmarks.forked import Forked, sluice
from consumers.media.samples import Shot, write_video
from consumers.paimon.commit.sink import PaimonSink
from service import wiring

DATABASE, CONSUMER = "sluice", "chaos"
_TABLES = ("raw_videos", "curation_ledger", "curated_clips")
# In every three videos one has a clip worth keeping, one is rejected and one cannot be read.
_TEMPLATES = ("good", "static", "text")

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
class Store:
    """Where tables and videos are.

    Attributes:
        warehouse: folder or URI.
        media: folder or URI below which videos land.
        options: catalog options of whoever looks on; they reach the store itself.
        service_options: those of the service under test, which may have trouble on its way there.
    """

    warehouse: str
    media: str
    options: dict[str, str] = field(default_factory=dict)
    service_options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Truth:
    """What the tables hold, against what they must hold. Read with pypaimon alone, past the audit that is on trial.

    Attributes:
        commits: snapshots of the curated table so far, those of take-overs and rescales included.
        rows: raw rows.
        missing: raw rows without a ledger row.
        duplicated: ledger rows beyond one for each raw row and run.
        clips_missing: good videos without their clip in the curated table.
        clips_duplicated: clips beyond one for each good video, and any of another video.
    """

    commits: int
    rows: int
    missing: int
    duplicated: int
    clips_missing: int
    clips_duplicated: int

    @property
    def is_clean(self) -> bool:
        """Whether all stands there exactly once."""
        return not (self.missing or self.duplicated or self.clips_missing or self.clips_duplicated)


class ServiceUnderTest:
    """Settings, tables and videos below one folder; every command on them is a forked process.

    Args:
        root: an empty folder, for settings and logs.
        store: where the tables and videos go.
        pool: ``inline`` or ``ray``.

    Attributes:
        num_shards: how many the consumer is divided into.
        num_landed: videos so far.

    Raises:
        ChildFailedError: the tables could not be made.
    """

    def __init__(self, root: Path, store: Store, pool: str = "inline") -> None:
        self.root = root
        self.store = store
        self.pool = pool
        self.num_shards = 1
        self.num_landed = 0
        self._num_logs = 0
        # One settings file for the service, one for all that must not meet the trouble made for the service.
        self._config, self._quiet_config = root / "sluice.toml", root / "quiet.toml"
        for path, options in ((self._config, store.service_options), (self._quiet_config, store.options)):
            path.write_text(_settings(store, options))
        self.fork(partial(_write_templates, root)).require("making the sample videos", 120)
        self.command("init").require("sluice init", 120)

    def fork(self, work: Callable[[], int | None]) -> Forked:
        """Run ``work`` in a child."""
        self._num_logs += 1
        return Forked(work, self.root / f"{self._num_logs:04}.log")

    def command(self, *arguments: str) -> Forked:
        """Start a `sluice` command that reaches the store undisturbed."""
        return self.fork(partial(sluice, [*arguments, "--config", str(self._quiet_config)]))

    def land(self, count: int) -> Forked:
        """Start registering ``count`` more videos."""
        folder = f"{self.store.media}/{self.num_landed:06}"
        first, self.num_landed = self.num_landed, self.num_landed + count
        arguments = ["ingest", folder, "--config", str(self._quiet_config)]
        return self.fork(partial(_land, self.root, self.store, folder, range(first, first + count), arguments))

    def run(self, shard: int = 0, on_step: Callable[[str], None] | None = None) -> Forked:
        """Start `sluice run` for one shard; ``on_step`` is called in it at each step of its commits."""
        # A second copy is refused at its start; what is on trial here is that it would do no harm.
        command = ["run", "--no-api", "--take-over", "--pool", self.pool, "--config", str(self._config)]
        command += self._shard(shard)
        return self.fork(partial(_run, command, on_step))

    def _shard(self, index: int) -> list[str]:
        return ["--shard", f"{index}/{self.num_shards}"]

    def finish(self) -> None:
        """Run every shard undisturbed to the end of the table.

        Raises:
            ChildFailedError: one did not come to its end.
        """
        for index in range(self.num_shards):
            command = ["run", "--until-caught-up", "--pool", self.pool, *self._shard(index)]
            self.command(*command).require("sluice run --until-caught-up", 600)

    def audit(self) -> dict[str, Any]:
        """Return what `sluice audit` says."""
        child = self.command("audit", "--json")
        child.wait(300)
        return dict(json.loads(child.output().splitlines()[-1]))

    def expire_everything(self) -> Forked:
        """Start burying the consumer's markers below a commit of somebody else, and expiring all but that commit."""
        return self.fork(partial(_expire, self.store))

    def truth(self) -> Truth:
        """Compare the tables with what landed. Forks nothing after this: it has started thread pools."""
        return _truth(self.store, self.num_landed)


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


def _settings(store: Store, options: dict[str, str]) -> str:
    lines = [f'"{name}" = "{value}"' for name, value in options.items()]
    section = "\n".join(["[catalog.options]", *lines, ""]) if lines else ""
    return _SETTINGS.format(warehouse=store.warehouse, media=store.media, options=section, consumer=CONSUMER)


def _run(arguments: Sequence[str], on_step: Callable[[str], None] | None) -> int:
    if on_step is None:
        return sluice(arguments)
    with patch.object(wiring, "PaimonSink", partial(PaimonSink, on_step=on_step)):
        return sluice(arguments)


def _write_templates(root: Path) -> None:
    for name, shot in (("good", Shot(1, seed=1)), ("static", Shot(1, "static", seed=3))):
        write_video(root / f"{name}.mp4", [shot], width=96, height=64, fps=12)
    (root / "text.mp4").write_text("no video")


def _template(index: int) -> str:
    return _TEMPLATES[index % len(_TEMPLATES)]


def _land(root: Path, store: Store, folder: str, indices: range, ingest: Sequence[str]) -> int:
    for index in indices:
        _upload(store, root / f"{_template(index)}.mp4", f"{folder}/{index}.mp4")
    return sluice(ingest)


def _upload(store: Store, source: Path, target: str) -> None:
    if "://" not in target:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        return
    scheme, _, endpoint = store.options["s3.endpoint"].partition("://")
    s3 = pafs.S3FileSystem(
        access_key=store.options["s3.access-key"],
        secret_key=store.options["s3.secret-key"],
        region=store.options["s3.region"],
        scheme=scheme,
        endpoint_override=endpoint,
    )
    with s3.open_output_stream(target.removeprefix("s3://")) as stream:
        stream.write(source.read_bytes())


def _table(store: Store, name: str) -> Any:
    return CatalogFactory.create({**store.options, "warehouse": store.warehouse}).get_table(f"{DATABASE}.{name}")


def _expire(store: Store) -> None:
    for name in _TABLES[1:]:
        table = _table(store, name)
        commit = table.new_batch_write_builder().new_commit()
        commit.commit([])
        commit.close()
        manager = table.snapshot_manager()
        newest = manager.get_latest_snapshot().id
        older = (manager.get_snapshot_path(snapshot_id) for snapshot_id in range(newest - 1, 0, -1))
        retained = list(takewhile(table.file_io.exists, older))
        # As Paimon's expiry does: from the oldest on, then the hint.
        for path in reversed(retained):
            table.file_io.delete(path)
        table.file_io.overwrite_file_utf8(f"{manager.snapshot_dir}/EARLIEST", str(newest))


def _read(store: Store, name: str, *columns: str) -> list[dict[str, Any]]:
    builder = _table(store, name).new_read_builder().with_projection(list(columns))
    return list(builder.new_read().to_arrow(builder.new_scan().plan().splits()).to_pylist())


def _truth(store: Store, num_landed: int) -> Truth:
    raw = _read(store, "raw_videos", "_ROW_ID", "uri")
    good = {row["_ROW_ID"] for row in raw if _template(int(row["uri"].rpartition("/")[2].split(".")[0])) == "good"}
    ledger = _read(store, "curation_ledger", "source_row_id", "run")
    runs = Counter((row["source_row_id"], row["run"]) for row in ledger)
    clips = Counter(row["source_row_id"] for row in _read(store, "curated_clips", "source_row_id"))
    unregistered = num_landed - len({row["uri"] for row in raw})
    return Truth(
        commits=_table(store, "curated_clips").snapshot_manager().get_latest_snapshot().id,
        rows=len(raw),
        missing=unregistered + len({row["_ROW_ID"] for row in raw} - {row_id for row_id, _ in runs}),
        duplicated=len(ledger) - len(runs) + len(raw) - len({row["uri"] for row in raw}),
        clips_missing=len(good - clips.keys()),
        clips_duplicated=sum(count - (row_id in good) for row_id, count in clips.items()),
    )
