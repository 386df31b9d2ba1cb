from benchmarks.clip_check import measure, taking_turns


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    times = taking_turns([lambda: calls.append("a"), lambda: calls.append("b")], rounds=3)
    assert "".join(calls) == "baabbaab"
    assert len(times) == 2


def test_each_kind_of_clip_is_cut_as_it_says() -> None:
    rows = list(measure(rounds=1, seconds=1, width=160, height=96))
    assert [row["kind"] for row in rows] == ["copied", "encoded", "pass"]
    assert all(row["ratio"] > 0 for row in rows)
