"""A real S3 server with bad weather in front of it: requests refused, delayed, cut off, most of all in mid-commit."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.forked import Forked
from benchmarks.stores import Store
from tests.support.faulty_store import Fault, FaultyStore, Request
from tests.support.s3_server import S3Server, catalog_options

_BUCKET = "chaos"
# Probabilities for each request. A publish is the request whose lost answer matters: was the snapshot made or not?
_AT_PUBLISH = {
    Fault.REFUSE: 0.08,
    Fault.UNAVAILABLE: 0.08,
    Fault.DELAY: 0.1,
    Fault.CUT_AFTER: 0.15,
    Fault.ERROR_AFTER: 0.1,
}
_ELSEWHERE = {
    Fault.REFUSE: 0.003,
    Fault.UNAVAILABLE: 0.003,
    Fault.DELAY: 0.01,
    Fault.CUT_AFTER: 0.003,
    Fault.ERROR_AFTER: 0.003,
}
_OUTAGE_RATE = 0.05
_OUTAGE_S = 0.6


class Weather:
    """Decides what becomes of each request: single faults, and outages that begin in mid-commit.

    Args:
        seed: of the draws.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._until_s = 0.0

    def __call__(self, request: Request) -> Fault:
        """Return the fault for ``request``; called by many threads, which only mix the order of the draws."""
        now_s = time.monotonic()
        if now_s < self._until_s:
            return Fault.REFUSE
        if request.is_publish and self._chance.random() < _OUTAGE_RATE:
            self._until_s = now_s + _OUTAGE_S
            return Fault.CUT_AFTER
        drawn = self._chance.random()
        for fault, rate in (_AT_PUBLISH if request.is_publish else _ELSEWHERE).items():
            drawn -= rate
            if drawn < 0:
                return fault
        return Fault.NONE


class BadWeather:
    """The proxy's process.

    Args:
        process: the process.
        endpoint: URL through which the service under test reaches the store.
    """

    def __init__(self, process: Forked, endpoint: str) -> None:
        self._process = process
        self.endpoint = endpoint

    def end(self) -> dict[str, int]:
        """End it and return how often each fault happened."""
        os.kill(self._process.pid, signal.SIGTERM)
        counts = self._process.require("the proxy", 30).splitlines()[-1]
        return {name: count for name, count in json.loads(counts).items() if name != Fault.NONE}


@contextmanager
def stormy_s3(root: Path, seed: int) -> Iterator[tuple[Store, BadWeather]]:
    """Serve an S3 store while the context is open: undisturbed to those who look on, stormy to the service under test.

    Both servers are processes of their own, so that this one may go on forking.
    """
    with S3Server() as server:
        server.make_bucket(_BUCKET)
        proxy = Forked(partial(_proxy, server.port, seed), root / "proxy.log")
        try:
            endpoint = _first_line(proxy)
            store = Store(
                f"s3://{_BUCKET}/warehouse",
                f"s3://{_BUCKET}/media",
                catalog_options(server.endpoint),
                catalog_options(endpoint),
            )
            yield store, BadWeather(proxy, endpoint)
        finally:
            proxy.kill()


def _first_line(process: Forked) -> str:
    until_s = time.monotonic() + 30
    while time.monotonic() < until_s and process.wait(0.01) is None:
        line, end, _ = process.output().partition("\n")
        if end:
            return line
    raise RuntimeError(f"the proxy did not start:\n{process.output()}")


def _proxy(port: int, seed: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with FaultyStore(port, Weather(seed)) as proxy:
        print(proxy.endpoint)
        signal.sigwait({signal.SIGTERM})
    print(json.dumps(proxy.counts))
