from __future__ import annotations

import logging
import threading

import pytest

from consumers.errors import FencedError, StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import audit
from tests.support.faulty_store import Fault, FaultyStore, Request, random_faults
from tests.support.s3_server import S3Server, make_s3_warehouse
from tests.support.warehouse import NAMES, PROFILE, append_raw, batch

_NUM_ROWS = 4


def _consume(config: CatalogConfig) -> None:
    """Commit all rows, two at a time, as a service does that is restarted when it is fenced."""
    while True:
        try:
            sink = PaimonSink(config, NAMES, "main", PROFILE)
            position = sink.open().position
            while position.watermark < _NUM_ROWS:
                work = batch(position, range(position.watermark, min(position.watermark + 2, _NUM_ROWS)))
                while True:
                    try:
                        sink.commit(work)
                        break
                    except StoreUnavailableError:
                        continue
                position = work.position
            sink.close()
            return
        except (FencedError, StoreUnavailableError):
            continue


def test_two_copies_on_an_s3_that_refuses_delays_and_cuts_off_write_each_row_once(
    s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    at_publish = random_faults(3, {Fault.CUT_AFTER: 0.25, Fault.ERROR_AFTER: 0.2, Fault.REFUSE: 0.2, Fault.DELAY: 0.1})
    elsewhere = random_faults(4, {Fault.CUT_AFTER: 0.01, Fault.UNAVAILABLE: 0.01, Fault.REFUSE: 0.01})

    def plan(request: Request) -> Fault:
        return at_publish(request) if request.is_publish else elsewhere(request)

    with FaultyStore(s3_server.port, delay_s=0.05) as store:
        config = make_s3_warehouse(store.endpoint, s3_server.make_bucket("exactly-once"))
        append_raw(config, [f"v{number}" for number in range(_NUM_ROWS)])
        store.plan = plan
        copies = [threading.Thread(target=_consume, args=(config,)) for _ in range(2)]
        for copy in copies:
            copy.start()
        for copy in copies:
            copy.join()
        faults = set(store.counts)
    report = audit(_direct(config, s3_server), NAMES, "main")
    assert report.is_clean, report.details
    assert (report.rows, report.ledger_rows, report.clips, report.pending) == (_NUM_ROWS,) * 3 + (0,)
    assert {Fault.CUT_AFTER, Fault.REFUSE} <= faults


def _direct(config: CatalogConfig, server: S3Server) -> CatalogConfig:
    """The same warehouse without the proxy."""
    return CatalogConfig({**config.options, "s3.endpoint": server.endpoint}, config.database)
