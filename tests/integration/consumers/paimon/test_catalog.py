"""One catalog for the whole process, and a bound on what pypaimon keeps of data files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from pypaimon.read.reader import format_pyarrow_reader

from consumers.paimon.catalog import METADATA_CACHE, CatalogConfig, open_catalog
from tests.support.warehouse import NAMES, append_raw, make_warehouse, rows_of

_MIB = 1024**2


def _bound_after_reading(config: CatalogConfig) -> int:
    append_raw(config, "a")
    assert rows_of(config, NAMES.raw, ["video_id"]) == [{"video_id": "a"}]
    return int(format_pyarrow_reader._FILE_FORMAT_DATASET_CACHE.max_size)


def test_whoever_opens_the_same_warehouse_shares_its_catalog(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    assert open_catalog(config) is open_catalog(CatalogConfig(dict(config.options), "another"))
    assert open_catalog(config) is not open_catalog(make_warehouse(tmp_path / "another"))


def test_child_opens_a_catalog_of_its_own(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    opened = open_catalog(config)
    child = os.fork()
    if child == 0:
        os._exit(int(open_catalog(config) is opened))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_kept_of_data_files_is_bounded_unless_the_options_say_otherwise(tmp_path: Path) -> None:
    config = make_warehouse(tmp_path / "warehouse")
    assert _bound_after_reading(config) == 4 * _MIB
    other = make_warehouse(tmp_path / "other")
    assert _bound_after_reading(replace(other, options={**other.options, METADATA_CACHE: "6 mb"})) == 6 * _MIB
