"""Schedules of the faults that chaos, a person or this simulator has found: what happened then, made likely.

Each is a plan of its own, whose seeds differ in the order of steps.
"""

from __future__ import annotations

from tests.simulation.plan import Plan
from tests.simulation.scheduler import Fault, Rule

_SLOW = 600

KNOWN: dict[str, Plan] = {
    # A takedown or an update was forgotten: the ledger's answer lost, the store away when it was looked for.
    "answer_lost_and_store_away": Plan(
        num_rows=8,
        num_landings=2,
        is_keyed=True,
        rules=(
            Rule("ledger.publish", 3, Fault.ANSWER_LOST, 5),
            Rule("ledger.publish", 4, Fault.ANSWER_LOST, 8),
            Rule("curated.publish", 5, Fault.ANSWER_LOST, 8),
        ),
    ),
    "takedown_whose_answer_is_lost": Plan(
        num_rows=6,
        num_takedowns=2,
        rules=(Rule("ledger.publish", 4, Fault.ANSWER_LOST, 30), Rule("curated.publish", 5, Fault.ANSWER_LOST, 60)),
    ),
    # A publisher that was paused after its link deleted its own valid snapshot.
    "paused_publisher_whose_base_expires": Plan(
        num_rows=6,
        num_copies=2,
        num_expiries=3,
        rules=(
            Rule("ledger.publish", 3, Fault.PAUSE_AFTER, _SLOW),
            Rule("curated.publish", 5, Fault.PAUSE_AFTER, _SLOW),
        ),
    ),
    # Or it published under a name that had expired.
    "paused_publisher_whose_name_expires": Plan(
        num_rows=6,
        num_copies=2,
        num_expiries=3,
        rules=(
            Rule("ledger.publish", 2, Fault.PAUSE_BEFORE, _SLOW),
            Rule("curated.publish", 3, Fault.PAUSE_BEFORE, _SLOW),
        ),
    ),
    "request_that_arrives_late": Plan(
        num_rows=6,
        num_copies=1,
        rules=(
            Rule("ledger.publish", 2, Fault.LATE, 60),
            Rule("curated.publish", 3, Fault.LATE, 20),
            Rule("ledger.publish", 5, Fault.LATE, 200),
        ),
    ),
    # The client's own second attempt is told that the name is taken: by its first.
    "answered_by_its_own_first_attempt": Plan(
        num_copies=1,
        rules=(Rule("ledger.publish", 2, Fault.ANSWERED_NO), Rule("curated.publish", 2, Fault.ANSWERED_NO)),
    ),
    "copies_that_race": Plan(num_rows=8, num_copies=3, has_other=True, switching=0.6),
    # A copy that starts while the one before it commits took the ledger for set back.
    "copy_that_starts_in_the_middle_of_a_commit": Plan(num_copies=2, num_landings=2, switching=0.1),
    "crash_between_ledger_and_curated": Plan(
        is_unstable=True,
        rules=(Rule("ledger.publish", 2, Fault.CRASH_AFTER), Rule("curated.publish", 4, Fault.CRASH_BEFORE)),
    ),
    "rescale_with_a_straggler": Plan(
        num_rows=8,
        rescales=(3, 2),
        rules=(Rule(".publish", 6, Fault.PAUSE_BEFORE, 200), Rule(".publish", 9, Fault.PAUSE_BEFORE, 200)),
    ),
    "rescale_that_is_cut_off": Plan(
        num_rows=8,
        rescales=(2, 3),
        rules=(Rule("ledger.publish", 1, Fault.CRASH_AFTER, actor="rescale"),),
    ),
    # Java's compact_manifest copies the marker into a snapshot that the consumer did not write.
    "copied_markers": Plan(num_copied_markers=3, num_copies=1, num_landings=2),
    # The newest marker has expired: the rows tell.
    "expired_markers": Plan(
        num_expiries=3,
        has_other=True,
        is_unstable=True,
        rules=(Rule("ledger.publish", 3, Fault.CRASH_AFTER), Rule("curated.publish", 4, Fault.CRASH_AFTER)),
    ),
    "expired_markers_of_shards": Plan(num_rows=8, num_expiries=3, rescales=(3,), num_compactions=1),
    # Ledger and curated table are rolled back, and grow again.
    "set_back": Plan(set_backs=("both", "curated"), num_landings=2, has_other=True),
    "set_back_and_grown_again_while_it_slept": Plan(
        set_backs=("curated",),
        num_landings=2,
        num_copied_markers=3,
        has_other=True,
        rules=tuple(Rule("ledger.write", number, Fault.PAUSE_BEFORE, 120, "service") for number in (1, 2, 3)),
    ),
    "ledger_set_back_alone": Plan(set_backs=("ledger",), num_landings=1, num_copied_markers=1),
    # A replayed row that failed again left no trace.
    "replays_of_failing_rows": Plan(num_rows=8, num_replays=2, rules=(Rule("ledger.publish", 7, Fault.CRASH_AFTER),)),
    "replays_with_shards": Plan(num_rows=8, num_replays=2, rescales=(2,), num_kept_expiries=1),
    # What a person had skipped was forgotten once the marker was far or gone; rows cut in two were left without clips.
    "skips": Plan(
        num_skips=1,
        num_kept_expiries=3,
        has_other=True,
        rules=(Rule("ledger.publish", 3, Fault.CRASH_AFTER), Rule("curated.publish", 3, Fault.PAUSE_BEFORE, 60)),
    ),
    # A row that was to take older clips out was left out after its ledger row was written.
    "skips_of_keyed_rows": Plan(
        is_keyed=True,
        is_unstable=True,
        num_skips=1,
        num_landings=1,
        rules=(Rule("ledger.publish", 4, Fault.CRASH_AFTER), Rule("curated.publish", 4, Fault.PAUSE_BEFORE, 60)),
    ),
    # A late result, or a row of the same key, brings a video back that was taken down.
    "takedown_overtaken_by_late_results": Plan(
        num_rows=8,
        is_keyed=True,
        num_takedowns=2,
        num_copies=1,
        num_landings=2,
        rules=(Rule("control.publish", 1, Fault.PAUSE_BEFORE, 60), Rule("curated.publish", 3, Fault.PAUSE_BEFORE, 60)),
    ),
    "late_results_of_older_versions": Plan(num_rows=8, is_keyed=True, num_landings=3, num_copies=1, is_unstable=True),
    "removals_under_crashes": Plan(
        num_rows=6,
        num_removals=3,
        rules=(Rule("ledger.publish", 4, Fault.CRASH_AFTER), Rule("curated.publish", 5, Fault.ANSWER_LOST, 8)),
    ),
    "catalog_whose_answers_are_lost": Plan(
        is_catalog=True,
        num_copies=1,
        rules=(Rule("ledger.publish", 2, Fault.ANSWER_LOST, 8), Rule("curated.publish", 3, Fault.ANSWER_LOST, 60)),
    ),
    "compaction_in_between": Plan(num_rows=8, num_compactions=3, num_copies=1, is_unstable=True),
}

OPEN: dict[int, str] = {
    # An empty commit that took the name of an expired snapshot is believed, though its fence saw nothing after that.
    5102: "a claim paused until its snapshot's number has expired counts as the newest word",
}
"""Drawn seeds of faults that are known and not mended; held to fail still."""
