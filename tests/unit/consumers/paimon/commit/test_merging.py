"""When manifests are merged: pure arithmetic over their sizes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.paimon.commit.merging import merge_from

FAN_IN, MOST = 4, 64
NUM_TIERS = 4


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), max_size=400))
def test_list_stays_short_whatever_the_sizes_of_commits(sizes: list[int]) -> None:
    manifests: list[int] = []
    num_full = 0
    for size in sizes:
        manifests.append(size)
        start = merge_from(manifests, FAN_IN, MOST)
        if start is not None:
            assert all(count < MOST for count in manifests[start:]), "a full manifest was rewritten"
            manifests[start:] = [sum(manifests[start:])]
        num_full = sum(count >= MOST for count in manifests)
        assert len(manifests) - num_full <= (FAN_IN - 1) * NUM_TIERS * (1 + num_full)
    assert sum(manifests) == sum(sizes)
    assert num_full <= sum(sizes) / MOST


@settings(deadline=None)
@given(st.integers(1, 10), st.integers(1, 3000))
def test_each_entry_is_rewritten_a_few_times_only(per_commit: int, num_commits: int) -> None:
    manifests: list[int] = []
    num_rewritten = 0
    for _ in range(num_commits):
        manifests.append(per_commit)
        start = merge_from(manifests, FAN_IN, MOST)
        if start is not None:
            num_rewritten += sum(manifests[start:])
            manifests[start:] = [sum(manifests[start:])]
    assert num_rewritten <= NUM_TIERS * per_commit * num_commits


def test_many_manifests_of_an_older_release_become_one() -> None:
    assert merge_from([1] * 3000) == 0
