"""Landing against a model: whatever comes, goes, changes, restarts and races, each version gets one row and no more."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumers.errors import StoreUnavailableError
from consumers.media.allow_list import AllowList
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.landing.listing import open_listing
from consumers.paimon.landing.objects import ObjectInfo, expand
from consumers.paimon.landing.raw_writer import Registrar, register, video_id
from consumers.paimon.landing.state import WatchStates
from consumers.paimon.landing.watch import Watcher
from consumers.testing import FakeClock
from tests.support.faulty_store import Fault, FaultyStore, no_faults, random_faults
from tests.support.s3_server import S3Server, make_s3_warehouse
from tests.support.warehouse import NAMES, make_warehouse, rows_of

_RELIST_S = 600.0
_SETTLE_S = 5.0
_AT = datetime(2026, 5, 6, tzinfo=UTC)
_names = st.sampled_from(["a.mp4", "b.mp4", "deep/a.mp4", "deep/z.mkv"])


class _Process:
    """One process that watches a folder."""

    def __init__(self, config: CatalogConfig, folder: Path, clock: FakeClock) -> None:
        self._registrar = Registrar(config, NAMES.raw)
        self._states = WatchStates(config, NAMES.control)
        listing = open_listing(str(folder), {}, clock, settle_s=_SETTLE_S, look_back=2)
        self.watcher = Watcher(
            listing, self._registrar, self._states, AllowList([str(folder)]), clock, relist_interval_s=_RELIST_S
        )

    def kill(self) -> None:
        """End without a word: nothing of how far it has come is kept."""
        self._states.close()
        self._registrar.close()


class Landing(RuleBasedStateMachine):
    """Files of a folder, two watches of it, and ingests beside them."""

    def __init__(self) -> None:
        super().__init__()
        self._root = Path(tempfile.mkdtemp())
        self._folder = self._root / "in"
        self._folder.mkdir()
        self._config = make_warehouse(self._root / "warehouse")
        self._clock = FakeClock()
        self._processes: list[_Process] = []
        self._size = 0
        # Every version that ever stood there, by what its row says.
        self._versions: set[tuple[str, int]] = set()

    def teardown(self) -> None:
        for process in self._processes:
            process.kill()
        shutil.rmtree(self._root)

    @initialize()
    def start(self) -> None:
        self._processes = [_Process(self._config, self._folder, self._clock) for _ in range(2)]

    @rule(name=_names)
    def put(self, name: str) -> None:
        self._size += 1
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        # As an upload ends: written beside its place and moved there; no two versions are of one size.
        beside = self._root / "upload"
        beside.write_bytes(b"x" * self._size)
        at_s = self._clock.now().timestamp()
        os.utime(beside, (at_s, at_s))
        beside.replace(path)
        self._versions.add((name, self._size))

    @rule(name=_names)
    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    @rule(seconds=st.sampled_from([0.1, 2.0, 10.0, 700.0]))
    def let_pass(self, seconds: float) -> None:
        self._clock.advance(seconds)

    @rule(index=st.integers(0, 1))
    def poll(self, index: int) -> None:
        self._processes[index].watcher.poll()

    @rule(index=st.integers(0, 1), is_killed=st.booleans())
    def restart(self, index: int, is_killed: bool) -> None:
        if not is_killed:
            self._processes[index].watcher.close()
        self._processes[index].kill()
        self._processes[index] = _Process(self._config, self._folder, self._clock)

    @precondition(lambda self: any(path.is_file() for path in self._folder.rglob("*")))
    @rule()
    def ingest(self) -> None:
        register(self._config, NAMES.raw, expand([str(self._folder)]))
        assert self._standing() <= self._rows()

    @rule(index=st.integers(0, 1))
    def look_at_all(self, index: int) -> None:
        """After a look at everything, and one more when files have settled, whatever stands has its row."""
        self._clock.advance(_RELIST_S)
        for _ in range(2):
            self._processes[index].watcher.poll()
            self._clock.advance(2 * _SETTLE_S)
        self._processes[index].watcher.poll()
        assert self._standing() <= self._rows()

    def _standing(self) -> set[tuple[str, int]]:
        paths = [path for path in self._folder.rglob("*") if path.is_file()]
        return {(str(path.relative_to(self._folder)), path.stat().st_size) for path in paths}

    def _rows(self) -> set[tuple[str, int]]:
        rows = rows_of(self._config, NAMES.raw, ["uri", "size_bytes"])
        return {(row["uri"].partition("/in/")[2], row["size_bytes"]) for row in rows}

    @invariant()
    def no_version_has_two_rows_and_none_was_made_up(self) -> None:
        rows = rows_of(self._config, NAMES.raw, ["uri", "size_bytes", "etag", "video_id"])
        assert all(count == 1 for count in Counter(row["video_id"] for row in rows).values())
        assert all(row["video_id"] == video_id(row["uri"], row["etag"]) for row in rows)
        assert self._rows() <= self._versions


TestLanding = pytest.mark.timeout(600)(Landing.TestCase)
TestLanding.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)


def _object(name: str, etag: str) -> ObjectInfo:
    return ObjectInfo(f"file:///{name}.mp4", 10, etag, _AT + timedelta(seconds=len(etag)))


_objects = st.lists(st.builds(_object, st.sampled_from("abcdef"), st.sampled_from(["1", "22"])), min_size=1, max_size=8)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), _objects, _objects), min_size=1, max_size=8), st.integers(1, 3))
def test_objects_added_by_several_at_once_get_one_row_each_and_the_counts_say_so(
    steps: list[tuple[int, list[ObjectInfo], list[ObjectInfo]]], rows_per_commit: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = make_warehouse(Path(folder))
        with (
            closing(Registrar(config, NAMES.raw, rows_per_commit=rows_per_commit)) as first,
            closing(Registrar(config, NAMES.raw)) as second,
        ):
            counts: list[int] = []
            for who, objects, others in steps:
                if who == 2:
                    # Told when the table was read and nothing is appended yet: somebody else is faster.
                    overtake = partial(_add, second, others, counts)
                    report = register(config, NAMES.raw, objects, rows_per_commit=rows_per_commit, on_progress=overtake)
                    counts.append(report.num_added)
                else:
                    counts.append((first, second)[who].add(objects))
            wanted = {
                (item.uri, item.etag)
                for who, objects, others in steps
                for item in (*objects, *(others if who == 2 else ()))
            }
            for registrar in (first, second):
                registrar.refresh()
                assert all(registrar.knows(item) for _, objects, _ in steps for item in objects)
        rows = [(row["uri"], row["etag"]) for row in rows_of(config, NAMES.raw, ["uri", "etag"])]
        assert sorted(rows) == sorted(wanted)
        assert sum(counts) == len(rows)


def _add(registrar: Registrar, objects: list[ObjectInfo], counts: list[int], num_done: int) -> None:
    counts.append(registrar.add(objects))


@pytest.mark.parametrize("seed", range(4))
def test_answers_lost_by_the_store_cost_no_row_and_double_none(s3_server: S3Server, seed: int) -> None:
    rates = {Fault.CUT_AFTER: 0.3, Fault.ERROR_AFTER: 0.2, Fault.UNAVAILABLE: 0.1}
    with FaultyStore(s3_server.port) as store:
        config = make_s3_warehouse(store.endpoint, s3_server.make_bucket(f"landing-{seed}"))
        store.plan = random_faults(seed, rates, among=lambda request: request.is_publish)
        objects = [_object(f"{seed}-{number}", "1") for number in range(12)]
        num_tries = 0
        with closing(Registrar(config, NAMES.raw, rows_per_commit=2)) as registrar:
            while not all(registrar.knows(item) for item in objects):
                num_tries += 1
                assert num_tries < 50
                with suppress(StoreUnavailableError):
                    registrar.add(objects)
        store.plan = no_faults
        assert sum(store.counts[fault] for fault in rates) > 0
        rows = [row["uri"] for row in rows_of(config, NAMES.raw, ["uri"])]
        assert sorted(rows) == sorted(item.uri for item in objects)
