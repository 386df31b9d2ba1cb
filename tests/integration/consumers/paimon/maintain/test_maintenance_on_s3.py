"""One round of maintenance on an object store: the same rows, fewer snapshots, nothing that nobody refers to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.maintain.expiry import Retention
from consumers.paimon.maintain.maintainer import Maintainer
from consumers.paimon.maintain.orphans import Orphans
from consumers.testing.clock import FakeClock
from schemas.positions import Position
from tests.support.s3_server import S3Server, make_s3_warehouse
from tests.support.warehouse import NAMES, PROFILE, batch, clip_counts, delete_rows, ledger_counts, table

NUM_COMMITS = 12


def test_old_snapshots_go_and_the_consumer_goes_on(s3_server: S3Server) -> None:
    config = make_s3_warehouse(s3_server.endpoint, s3_server.make_bucket("maintenance"))
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    position = sink.open().position
    for row_id in range(NUM_COMMITS):
        made = batch(position, [row_id])
        sink.commit(made)
        position = made.position
    sink.close()
    delete_rows(config, NAMES.curated, [3])
    clips, rows = clip_counts(config), ledger_counts(config)
    found = table(config, NAMES.ledger)
    found.file_io.overwrite_file_utf8(f"{found.table_path}/manifest/manifest-left-over-0", "left over")
    clock = FakeClock()
    clock.advance((datetime.now(UTC) + timedelta(days=2) - clock.now()).total_seconds())
    reports = {
        report.table: report
        for report in Maintainer(config, NAMES, Retention(timedelta(0), least=3, most=1000), clock).run()
    }
    ledger = reports[f"{config.database}.{NAMES.ledger}"]
    assert (ledger.compacted.num_before, ledger.orphans.num_files) == (NUM_COMMITS, 1)
    curated = reports[f"{config.database}.{NAMES.curated}"]
    assert (curated.compacted.num_before, curated.compacted.num_after) == (2 * NUM_COMMITS, 2)
    assert curated.purged.num_rows == 1
    for name in (NAMES.ledger, NAMES.curated):
        assert len(table(config, name).snapshot_manager().list_snapshots()) == 3
        assert Orphans(table(config, name)).find(clock.now()) == []
    assert (clip_counts(config), ledger_counts(config)) == (clips, rows)
    sink = PaimonSink(config, NAMES, "films", PROFILE)
    assert sink.open().position == Position(NUM_COMMITS)
    sink.close()
