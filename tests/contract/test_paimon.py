from __future__ import annotations

from collections import Counter, deque
from pathlib import Path

import pytest

from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.source.row_source import RowIdSource
from consumers.ports import Sink, Source
from consumers.testing import SimulatedCrashError, SinkFault
from schemas.records import ProcessedVideo
from tests.contract.sink_suite import SinkContract
from tests.contract.source_suite import SourceContract
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    delete_rows,
    failed,
    ledger_counts,
    make_warehouse,
    processed,
    rows_of,
)

_FAULTS: dict[SinkFault, tuple[str, BaseException]] = {
    SinkFault.BEFORE: ("before_ledger_write", OSError("gone")),
    SinkFault.BETWEEN: ("before_curated_write", OSError("gone")),
    SinkFault.ANSWER_LOST: ("after_curated_publish", OSError("gone")),
    SinkFault.CRASH_BETWEEN: ("after_ledger_publish", SimulatedCrashError()),
}


class _Rows:
    def __init__(self, folder: Path, chunk_rows: int) -> None:
        self._config = make_warehouse(folder)
        self._num_rows = 0
        self.source: Source = RowIdSource(self._config, NAMES.raw, chunk_rows=chunk_rows)

    def append(self, num_rows: int) -> None:
        append_raw(self._config, [f"v{self._num_rows + n}" for n in range(num_rows)])
        self._num_rows += num_rows

    def delete(self, *offsets: int) -> None:
        delete_rows(self._config, NAMES.raw, offsets)


class TestRowIdSource(SourceContract):
    @pytest.fixture(params=[1, 2, 1000])
    def rows(self, tmp_path: Path, request: pytest.FixtureRequest) -> _Rows:
        return _Rows(tmp_path / "warehouse", request.param)


class _Tables:
    def __init__(self, folder: Path) -> None:
        self._config = make_warehouse(folder)

    def sink(self, *faults: SinkFault | None) -> Sink:
        left = deque(faults)

        def on_step(step: str) -> None:
            if left and left[0] is not None and _FAULTS[left[0]][0] == step:
                raise _FAULTS[left.popleft()][1]  # type: ignore[index]
            if left and left[0] is None and step == "after_curated_publish":
                left.popleft()

        return PaimonSink(self._config, NAMES, "main", PROFILE, on_step=on_step)

    def video(self, row_id: int, num_clips: int) -> ProcessedVideo:
        return processed(row_id, num_clips)

    def failed_video(self, row_id: int) -> ProcessedVideo:
        return failed(row_id)

    def ledger(self) -> Counter[int]:
        return Counter(row_id for row_id, run in ledger_counts(self._config).elements())

    def num_clips(self) -> int:
        return len(rows_of(self._config, NAMES.curated, ["clip_id"]))

    def num_distinct_clips(self) -> int:
        return len({row["clip_id"] for row in rows_of(self._config, NAMES.curated, ["clip_id"])})


class TestPaimonSink(SinkContract):
    @pytest.fixture
    def tables(self, tmp_path: Path) -> _Tables:
        return _Tables(tmp_path / "warehouse")
