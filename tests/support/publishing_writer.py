"""One of several processes that append to one table: ``python -m tests.support.publishing_writer WRITER NUM_COMMITS``.

Reads the catalog's options as JSON, a line for each race. Answers each with a line of JSON: the row ids whose commits
were acknowledged, and those whose commits failed without a verdict.
"""

from __future__ import annotations

import json
import logging
import sys

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.rows import Lineage, ledger_rows
from consumers.paimon.commit.table_committer import TableCommitter
from tests.support.warehouse import NAMES, PROFILE, processed, table


def write(config: CatalogConfig, writer: int, num_commits: int) -> tuple[list[int], list[int]]:
    committer = TableCommitter(table(config, NAMES.ledger), f"user-{writer}", lambda manager, latest: None)
    acknowledged, uncertain = [], []
    for number in range(1, num_commits + 1):
        row_id = writer * 1000 + number
        rows = ledger_rows([(processed(row_id), 1)], Lineage("c", 1, number, PROFILE))
        try:
            committer.publish(committer.write(rows, number), number, {"writer": str(writer)})
            acknowledged.append(row_id)
        except Exception:
            uncertain.append(row_id)
    committer.close()
    return acknowledged, uncertain


if __name__ == "__main__":
    logging.disable()
    for line in sys.stdin:
        answer = write(CatalogConfig(json.loads(line), "db"), int(sys.argv[1]), int(sys.argv[2]))
        print(json.dumps(answer), flush=True)
