from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError, StoreUnavailableError
from consumers.media.allow_list import AllowList
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.landing.listing import open_listing
from consumers.paimon.landing.objects import expand, walk
from consumers.paimon.landing.raw_writer import Registrar, register
from consumers.paimon.landing.state import WatchStates
from consumers.paimon.landing.watch import Watcher
from consumers.paimon.stores.s3 import open_s3
from tests.support.faulty_store import Fault, FaultyStore, Request
from tests.support.s3_server import S3Server, catalog_options
from tests.support.warehouse import NAMES, make_warehouse, rows_of, table

_numbers = itertools.count()


class _Clock(SystemClock):
    """The real time, and as much more as a test wants."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> Any:
        return super().now() + timedelta(seconds=self.ahead_s)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


class _Place:
    """A bucket behind a proxy that notes the listings."""

    def __init__(self, server: S3Server, store: FaultyStore) -> None:
        self.bucket = server.make_bucket(f"watched-{next(_numbers)}")
        self.client: Any = server.client()
        self.store = store
        self.options = catalog_options(store.endpoint)
        self.listings: list[str] = []
        store.plan = self._note

    def _note(self, request: Request) -> Fault:
        if "list-type=2" in request.path:
            self.listings.append(request.path)
        return Fault.NONE

    def put(self, *names: str) -> None:
        direct = open_s3(f"s3://{self.bucket}", self.options).store
        for name in names:
            obstore.put(direct, f"in/{name}", b"video")


@pytest.fixture
def place(s3_server: S3Server) -> Iterator[_Place]:
    with FaultyStore(s3_server.port) as store:
        yield _Place(s3_server, store)


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    return make_warehouse(tmp_path / "warehouse")


@contextmanager
def _watching(
    config: CatalogConfig,
    location: str,
    options: dict[str, str],
    clock: SystemClock,
    *,
    allow: str | None = None,
    look_back: int = 2,
    settle_s: float = 5,
    relist_interval_s: float = 600,
) -> Iterator[Watcher]:
    listing = open_listing(location, options, clock, settle_s=settle_s, look_back=look_back)
    with (
        closing(Registrar(config, NAMES.raw)) as registrar,
        closing(WatchStates(config, NAMES.control)) as states,
        closing(
            Watcher(
                listing,
                registrar,
                states,
                AllowList([allow or location]),
                clock,
                relist_interval_s=relist_interval_s,
            )
        ) as watcher,
    ):
        yield watcher


def _names(config: CatalogConfig) -> list[str]:
    return sorted(row["uri"].rpartition("/")[2] for row in rows_of(config, NAMES.raw, ["uri"]))


def test_new_objects_on_s3_become_rows_once_and_little_is_listed_again(config: CatalogConfig, place: _Place) -> None:
    names = [f"{number:05}.mp4" for number in range(1003)]
    place.put(*names, "00000.txt")
    with _watching(config, f"s3://{place.bucket}/in", place.options, SystemClock()) as watcher:
        place.listings.clear()
        assert watcher.poll().num_added == 1003
        assert len(place.listings) == 2
        place.listings.clear()
        assert watcher.poll().num_added == 0
        place.put("01003.mp4", "01001a.mp4")
        assert watcher.poll().num_added == 2
    assert len(place.listings) == 2
    assert all("start-after=in%2F01000.mp4" in path for path in place.listings)
    assert set(Counter(_names(config)).values()) == {1}


def test_watch_goes_on_after_a_restart_where_it_was(config: CatalogConfig, place: _Place) -> None:
    location = f"s3://{place.bucket}/in"
    place.put("1.mp4", "2.mp4", "3.mp4", "4.mp4")
    with _watching(config, location, place.options, SystemClock()) as watcher:
        assert watcher.poll().num_added == 4
    place.put("5.mp4")
    with _watching(config, location, place.options, SystemClock()) as watcher:
        place.listings.clear()
        assert watcher.poll().num_added == 1
    assert ["start-after=in%2F2.mp4" in path for path in place.listings] == [True]


def test_key_that_sorts_far_back_is_found_when_everything_is_listed_again(config: CatalogConfig, place: _Place) -> None:
    clock = _Clock()
    place.put("5.mp4", "6.mp4", "7.mp4", "8.mp4")
    with _watching(config, f"s3://{place.bucket}/in", place.options, clock) as watcher:
        watcher.poll()
        place.put("1.mp4")
        assert watcher.poll().num_added == 0
        clock.ahead_s = 601
        report = watcher.poll()
    assert (report.num_added, report.is_relisting) == (1, True)


def test_object_that_ingest_registered_gets_no_second_row_from_a_watch(config: CatalogConfig, place: _Place) -> None:
    location = f"s3://{place.bucket}/in"
    place.put("1.mp4")
    register(config, NAMES.raw, expand([location], place.options))
    with _watching(config, location, place.options, SystemClock()) as watcher:
        assert watcher.poll().num_added == 0
        place.put("2.mp4")
        register(config, NAMES.raw, expand([location], place.options))
        assert watcher.poll().num_added == 0
    assert _names(config) == ["1.mp4", "2.mp4"]


def test_several_watches_of_one_place_add_each_object_once(config: CatalogConfig, place: _Place) -> None:
    added: list[int] = []
    barrier = threading.Barrier(3)

    def watch() -> None:
        with _watching(config, f"s3://{place.bucket}/in", place.options, SystemClock()) as watcher:
            for number in range(4):
                if barrier.wait() == 0:
                    place.put(*(f"{number}{letter}.mp4" for letter in "abc"))
                barrier.wait()
                added.append(watcher.poll().num_added)

    threads = [threading.Thread(target=watch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(added) == 12
    assert Counter(_names(config)) == Counter(f"{number}{letter}.mp4" for number in range(4) for letter in "abc")


def test_upload_in_parts_is_invisible_until_it_is_complete(config: CatalogConfig, place: _Place) -> None:
    upload = place.client.create_multipart_upload(Bucket=place.bucket, Key="in/big.mp4")
    part = {"Bucket": place.bucket, "Key": "in/big.mp4", "UploadId": upload["UploadId"]}
    sent = place.client.upload_part(**part, PartNumber=1, Body=b"half")
    with _watching(config, f"s3://{place.bucket}/in", place.options, SystemClock()) as watcher:
        assert watcher.poll().num_added == 0
        parts = {"Parts": [{"PartNumber": 1, "ETag": sent["ETag"]}]}
        place.client.complete_multipart_upload(**part, MultipartUpload=parts)
        assert watcher.poll().num_added == 1


def test_object_outside_the_allow_list_is_named_once_and_gets_no_row(config: CatalogConfig, place: _Place) -> None:
    place.put("good/1.mp4", "bad/2.mp4")
    location, allow = f"s3://{place.bucket}/in", f"s3://{place.bucket}/in/good"
    with _watching(config, location, place.options, SystemClock(), allow=allow) as watcher:
        report = watcher.poll()
        assert (report.num_added, report.num_refused) == (1, 1)
        assert "bad/2.mp4' is not under an allowed prefix" in report.refused[0]
        assert watcher.poll().num_refused == 0


def test_store_that_is_away_for_a_while_costs_nothing(config: CatalogConfig, place: _Place) -> None:
    with _watching(config, f"s3://{place.bucket}/in", place.options, SystemClock()) as watcher:
        plan, place.store.plan = place.store.plan, lambda request: Fault.REFUSE
        with pytest.raises(StoreUnavailableError, match=f"s3://{place.bucket}/in: "):
            watcher.poll()
        place.store.plan = plan
        place.put("1.mp4")
        assert watcher.poll().num_added == 1


def test_poll_does_not_read_the_raw_table_anew(config: CatalogConfig, place: _Place) -> None:
    place.put("1.mp4")
    with _watching(config, f"s3://{place.bucket}/in", place.options, SystemClock()) as watcher:
        watcher.poll()
        for file in (Path(table(config, NAMES.raw).table_path)).rglob("*.parquet"):
            file.unlink()
        place.put("2.mp4")
        assert watcher.poll().num_added == 1


def test_file_on_disk_is_left_alone_until_it_has_settled(config: CatalogConfig, tmp_path: Path) -> None:
    clock, folder = _Clock(), tmp_path / "in"
    folder.mkdir()
    with _watching(config, str(folder), {}, clock) as watcher:
        watcher.poll()
        film = folder / "2026" / "film.mp4"
        film.parent.mkdir()
        film.write_bytes(b"half")
        assert watcher.poll().num_added == 0
        clock.ahead_s += 4
        film.write_bytes(b"half, and the rest")
        assert watcher.poll().num_added == 0
        clock.ahead_s += 4
        assert watcher.poll().num_added == 0
        clock.ahead_s += 4
        assert watcher.poll().num_added == 1
        assert watcher.poll().num_added == 0
        (film.parent / "gone.mp4").write_bytes(b"x")
        watcher.poll()
        (film.parent / "gone.mp4").unlink()
        clock.ahead_s += 6
        assert watcher.poll().num_added == 0
    assert [row["size_bytes"] for row in rows_of(config, NAMES.raw, ["size_bytes"])] == [18]


def test_files_from_before_are_registered_at_once_and_not_again_after_a_restart(
    config: CatalogConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "in" / "deep"
    folder.mkdir(parents=True)
    for name in ("a.mp4", "b.mkv", "notes.txt"):
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
    for expected in (2, 0):
        with _watching(config, str(tmp_path / "in"), {}, SystemClock()) as watcher:
            assert watcher.poll().num_added == expected


def test_file_rewritten_in_its_folder_is_found_when_everything_is_looked_at_again(
    config: CatalogConfig, tmp_path: Path
) -> None:
    clock, film = _Clock(), tmp_path / "in" / "film.mp4"
    film.parent.mkdir()
    film.write_bytes(b"first")
    clock.ahead_s = 10
    with _watching(config, str(film.parent), {}, clock) as watcher:
        assert watcher.poll().num_added == 1
        film.write_bytes(b"second")
        assert watcher.poll().num_added == 0
        clock.ahead_s += 601
        watcher.poll()
        clock.ahead_s += 6
        assert watcher.poll().num_added == 1


@pytest.mark.parametrize("location", ["nowhere", "film.mp4"])
def test_watch_of_what_is_not_a_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="--watch takes a folder"):
        open_listing(str(tmp_path / location), {}, SystemClock(), settle_s=1, look_back=1)


def test_watch_of_a_missing_bucket_is_refused(s3_server: S3Server) -> None:
    with pytest.raises(ConfigurationError, match=r"^s3://no-such-bucket/in: there is no such bucket"):
        open_listing(
            "s3://no-such-bucket/in", catalog_options(s3_server.endpoint), SystemClock(), settle_s=1, look_back=1
        )


def test_watch_command_registers_what_lands_and_stops_cleanly_on_sigterm(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    config = make_warehouse(tmp_path / "warehouse")
    settings = tmp_path / "sluice.toml"
    settings.write_text(
        f'[catalog]\nwarehouse = "{tmp_path / "warehouse"}"\n[tables]\ndatabase = "db"\n'
        f'[input]\nallow = ["{folder}"]\n[watch]\nsettle_s = 0.1\n'
    )
    command = [
        sys.executable,
        "-c",
        "from service.cli.main import main; main()",
        "ingest",
        "--watch",
        str(folder),
        "--poll-interval",
        "0.1",
    ]
    with subprocess.Popen(
        [*command, "--json", "-c", str(settings)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline().startswith(f"watching {folder}, every 0.1 s")
        (folder / "film.mp4").write_bytes(b"x")
        assert process.stderr.readline() == f"{folder}: 1 video registered\n"
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stdout.read()) == {"added": 1}
        assert process.wait(20) == 0
    assert _names(config) == ["film.mp4"]


def test_objects_whose_names_cannot_be_read_are_named_once_and_hold_up_nothing(
    config: CatalogConfig, place: _Place
) -> None:
    odd = ["in//x.mp4", "in/./d.mp4", "in/../e.mp4", "in/b//2.mp4", "in/zz/q//w.mp4"]
    for key in (*odd, "in/zz/q//notes.txt"):
        place.client.put_object(Bucket=place.bucket, Key=key, Body=b"video")
    place.put("!early.mp4", "a.mp4", "b/1.mp4", "z.mp4", "zz/p.mp4", "zz/q/v.mp4", "zz/r.mp4")
    with _watching(config, f"s3://{place.bucket}/in", place.options, SystemClock(), look_back=0) as watcher:
        first = watcher.poll()
        assert (first.num_added, first.num_refused) == (7, len(odd))
        assert all(re.search(r"/(in|b)/.*rename the object|holds '\.'", reason) for reason in first.refused)
        place.put("zz/s.mp4")
        place.listings.clear()
        again = watcher.poll()
        assert (again.num_added, again.num_refused) == (1, 0)
        assert len(place.listings) == 1, "what cannot be read is not listed again with each look"
    assert _names(config) == sorted(["!early.mp4", "a.mp4", "1.mp4", "z.mp4", "p.mp4", "v.mp4", "r.mp4", "s.mp4"])
    etags = {row["etag"] for row in rows_of(config, NAMES.raw, ["etag"])}
    assert len(etags) == 1, "one content, one etag, whichever way it was listed"
    walked = [info.uri.rpartition("/")[2] for info in walk(f"s3://{place.bucket}/in", place.options)]
    assert sorted(walked) == _names(config), "as other object stores are listed, it comes to an end"
