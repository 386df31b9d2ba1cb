"""Which files hold which row ids, and which of them become one."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.paimon.maintain.row_groups import (
    BLOB_BYTES,
    RowGroup,
    UnknownLayoutError,
    neighbours,
    packs,
    parts_due,
    row_groups,
)

MIB = 1024**2


def entry(name: str, first: int | None, count: int, *, size: int = 10, sequence: int = 1) -> Any:
    columns = ["clip"] if name.endswith(".blob") else ["clip_id"]
    return SimpleNamespace(
        file=SimpleNamespace(
            file_name=name,
            first_row_id=first,
            row_count=count,
            file_size=size,
            max_sequence_number=sequence,
            write_cols=columns,
        )
    )


def names(groups: list[RowGroup]) -> list[list[str]]:
    return [[each.file.file_name for each in group.entries] for group in groups]


def test_files_are_grouped_by_the_row_ids_that_they_hold() -> None:
    found = row_groups(
        [
            entry("b.blob", 3, 2),
            entry("later.parquet", 3, 4, sequence=9),
            entry("c.blob", 5, 2),
            entry("first.parquet", 3, 4, sequence=2),
            entry("a.parquet", 0, 3),
            entry("a.blob", 0, 3),
        ],
        {"first.parquet": frozenset({1}), "a.parquet": frozenset({0, 1, 2})},
    )
    assert names(found) == [["a.parquet", "a.blob"], ["later.parquet", "first.parquet", "b.blob", "c.blob"]]
    assert [group.is_dead for group in found] == [True, False]
    # Deletion vectors go by the oldest file of a group.
    assert (found[1].anchor, found[1].dead) == ("first.parquet", frozenset({1}))


@pytest.mark.parametrize(
    "stray", [entry("b.blob", 2, 2), entry("b.blob", 9, 1), entry("x.vector.lance", 0, 3), entry("n.parquet", None, 3)]
)
def test_files_of_an_unknown_kind_are_named(stray: Any) -> None:
    with pytest.raises(UnknownLayoutError, match=stray.file.file_name):
        row_groups([entry("a.parquet", 0, 3), stray], {})


def test_only_row_ids_without_a_gap_are_neighbours() -> None:
    found = row_groups([entry(f"{first}.parquet", first, 2) for first in (0, 2, 5, 7, 9, 20)], {})
    assert [[group.rows.start for group in stretch] for stretch in neighbours(found)] == [[0, 2], [5, 7, 9], [20]]


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=80))
def test_parts_are_neighbours_of_bounded_size_and_a_second_look_finds_less(sizes: list[tuple[int, int]]) -> None:
    most = 100
    for _ in range(len(sizes) + 1):
        parts = list(parts_due(sizes, most, most))
        if not parts:
            break
        for one, other in itertools.pairwise(parts):
            assert one.stop <= other.start
        for part in parts:
            assert len(part) > 1
            within = sizes[part.start : part.stop - 1]
            assert all(sum(each[at] for each in within) < most for at in (0, 1))
        merged: list[tuple[int, int]] = []
        at = 0
        for part in parts:
            together = sizes[part.start : part.stop]
            merged += sizes[at : part.start]
            merged.append((sum(each[0] for each in together), sum(each[1] for each in together)))
            at = part.stop
        merged += sizes[at:]
        assert sum(each[0] for each in merged) == sum(each[0] for each in sizes)
        assert len(merged) < len(sizes)
        sizes = merged
    assert not list(parts_due(sizes, most, most))


def test_blob_files_are_packed_up_to_a_size_and_large_ones_are_left_alone() -> None:
    blobs = [entry(f"{at}.blob", at, 1, size=size * MIB) for at, size in enumerate((1, 2, 40, 10, 15, 15, 15, 15))]
    group = row_groups([entry("a.parquet", 0, 8), *blobs], {})
    packed = [[each.file.file_name for each in pack] for pack in packs(group, "clip")]
    assert packed == [["0.blob", "1.blob"], ["2.blob"], ["3.blob", "4.blob", "5.blob", "6.blob"], ["7.blob"]]
    assert BLOB_BYTES == 64 * MIB


def test_blob_files_that_lie_over_each_other_stay_apart() -> None:
    blobs = [entry("old.blob", 0, 4, sequence=1), entry("new.blob", 0, 4, sequence=5), entry("next.blob", 4, 1)]
    group = row_groups([entry("a.parquet", 0, 5), *blobs], {})
    packed = [[each.file.file_name for each in pack] for pack in packs(group, "clip")]
    assert packed == [["new.blob"], ["old.blob"], ["next.blob"]]
