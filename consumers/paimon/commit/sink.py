"""The ledger and curated tables as the exactly-once sink.

Each commit writes the ledger first and the curated table last; both snapshots carry the same sequence number. The
curated position is the truth. A table gets only rows that its own position does not cover, so whatever instant a
process dies at, its successor writes what is missing and nothing twice.

Where rows have keys, a commit to the curated table also takes out the clips of every older version of its keys, in the
same snapshot (see :mod:`consumers.paimon.commit.versions`).

What a person took down is retired when the sink opens, and no result brings it back (see
:mod:`consumers.paimon.commit.takedown`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from consumers.errors import FencedError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.fence import Fence
from consumers.paimon.commit.generation import current_source, mark_of_rows, newest_mark
from consumers.paimon.commit.markers import Marker, commit_user_of
from consumers.paimon.commit.only_consumer import OnlyConsumer
from consumers.paimon.commit.recovery import Recovery, Standing
from consumers.paimon.commit.rows import Lineage, curated_rows, ledger_rows
from consumers.paimon.commit.runs import Runs
from consumers.paimon.commit.same_bytes import SameBytes
from consumers.paimon.commit.side import Pending, Side
from consumers.paimon.commit.skips import Skips
from consumers.paimon.commit.staging import PaimonStaging
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.commit.takedown import Obeyed, Takedown, TakedownStore, Tombstones, matching, retirements
from consumers.paimon.commit.versions import Versions, clip_row_ids, is_removed, keys_of
from consumers.paimon.tables import TableNames, check_table
from consumers.ports import CommitBatch, CommitReceipt, Recovered
from schemas.positions import Position
from schemas.profile import Profile
from schemas.shards import WHOLE, Shard, Share, owned_part
from schemas.source_mark import SourceMark, generation_of, source_of_generation
from schemas.tables import CURATED, LEDGER

_MAX_CLAIM_ROUNDS = 100


class PaimonSink:
    """Implements :class:`~consumers.ports.Sink` on two Paimon tables. One object is one incarnation of the consumer.

    Not thread-safe: one thread commits.

    Args:
        config: the catalog.
        names: the tables; the raw table's name is part of every row's lineage.
        consumer: the consumer's name.
        profile: recorded in every row.
        shard: which part of the consumer's work this process does.
        has_gaps: the source's offsets have gaps, so that ledger rows record the watermark, too.
        generation: the least generation of the source that is accepted: where the consumer has read an older one so
            far, it begins anew (see :mod:`consumers.paimon.commit.generation`).
        is_only: refuse to begin where another consumer curates the same source into these tables.
        on_committed: told the position after each commit, and once when the sink is open.
        on_step: called at each of :data:`STEPS`, for tests of what happens when a process dies there.

    Raises:
        ConfigurationError: a table is missing or does not fit, or its storage has no safe way to publish.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(
        self,
        config: CatalogConfig,
        names: TableNames,
        consumer: str,
        profile: Profile,
        *,
        shard: Shard = WHOLE,
        has_gaps: bool = False,
        generation: int = 1,
        is_only: bool = False,
        on_committed: Callable[[Position], None] | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> None:
        self._consumer = consumer
        self._raw_name = f"{config.database}.{names.raw}"
        self._source = self._raw_name
        self._generation = generation
        self._mark: SourceMark | None = None
        self._profile = profile
        self._shard = shard
        self._has_gaps = has_gaps
        self._on_committed = on_committed or (lambda position: None)
        self._on_step = on_step or (lambda step: None)
        self._user = commit_user_of(consumer)
        self._epoch = 0
        self._is_ledger_claimed = False
        self._pending: Pending | None = None
        self._staging = PaimonStaging(config, names.curated, consumer, shard)
        self._takedowns = TakedownStore(config, names.control)
        self._tombstones = Tombstones()
        catalog = open_catalog(config)
        ledger, curated = (load_table(catalog, config, name) for name in (names.ledger, names.curated))
        only = [OnlyConsumer(table, consumer, config, names) if is_only else None for table in (ledger, curated)]
        self._ledger = self._side("ledger", ledger, LEDGER, only[0])
        self._curated = self._side("curated", curated, CURATED, only[1])
        self._runs = Runs(self._ledger, self._curated)
        self._versions = Versions(ledger, consumer, self._source)
        self._same_bytes = SameBytes(ledger, consumer, self._source)

    def _side(self, role: str, table: Any, spec: Any, only: OnlyConsumer | None) -> Side:
        check_table(table, spec)
        fence = Fence(self._consumer, self._user, table.identifier.get_full_name(), self._shard)
        check = fence.check if only is None else only.after(fence.check)
        return Side(role, table, fence, TableCommitter(table, self._user, check), self._shard)

    def open(self) -> Recovered:
        """Take over as this consumer's newest incarnation: fence the older ones and return where to go on.

        Claims the ledger, then the curated table, by an empty commit that carries the recovered position and the next
        epoch. From then on an older incarnation cannot publish to the table claimed. Then it retires what was taken
        down since this shard last opened.

        Raises:
            ConfigurationError: the consumer has tailed another source so far, or is divided into other shards; or
                another one curates the source into these tables.
            FencedError: copies that start at the same time kept taking over from each other.
            StoreUnavailableError: the store did not answer.
        """
        stale = self._staging.stale()
        for _ in range(_MAX_CLAIM_ROUNDS):
            self._is_ledger_claimed = self._ledger.is_uncertain = self._curated.is_uncertain = False
            try:
                recovered = self._claim()
                self._take_down()
            except FencedError:
                continue
            # What was there before the claim is of incarnations that can no longer commit it.
            self._staging.discard(stale)
            self._on_committed(recovered.position)
            return replace(recovered, sequence=self._curated.sequence)
        raise FencedError(
            f"consumer {self._consumer}, shard {self._shard}: other copies of it keep starting; stop all but one"
        )

    def _claim(self) -> Recovered:
        ledger, curated = self._recover()
        self._epoch = max(ledger.epoch, curated.epoch) + 1
        sequence = max(ledger.sequence, curated.sequence)
        self._on_step("before_ledger_claim")
        claimed = Standing(
            ledger.position.union(curated.position.ranges()),
            share=Share(self._shard, ledger.share.bases + curated.share.bases),
            replays=ledger.replays,
        )
        self._publish(self._ledger, [], sequence, claimed)
        self._is_ledger_claimed = True
        self._on_step("after_ledger_claim")
        # Between the two claims the older incarnation may have finished its commit to the curated table: read again.
        _, curated = self._recover()
        if curated.epoch >= self._epoch:
            raise FencedError
        # What a crash left asked for in the ledger alone is asked for.
        self._publish(self._curated, [], sequence, curated.reopened(ledger.replays))
        self._on_step("after_curated_claim")
        self._runs.read(self._recovery)
        self._versions = Versions(self._ledger.table, self._consumer, self._source)
        self._same_bytes = SameBytes(self._ledger.table, self._consumer, self._source)
        share = self._curated.standing.share
        return Recovered(
            self._curated.position,
            self._ledger.position,
            sequence,
            self._epoch,
            share,
            self._source,
            self._mark,
            self._curated.standing.replays,
        )

    def _recover(self) -> tuple[Standing, Standing]:
        """Return where ledger and curated table stand, and take their snapshots up to now as seen.

        The ledger's are seen only until it is claimed: from then on nothing may pass unchecked.
        """
        with store_errors("ledger and curated tables"):
            # The ledger is written first and read last: what is committed in between cannot make it look set back.
            curated_head, ledger_head = (
                side.committer.manager.get_latest_snapshot() for side in (self._curated, self._ledger)
            )
            if not self._is_ledger_claimed:
                self._ledger.fence.seen(ledger_head)
            self._curated.fence.seen(curated_head)
            heads = [(self._ledger.table, ledger_head), (self._curated.table, curated_head)]
            source = current_source(heads, self._consumer, self._raw_name)
            generation = max(generation_of(source, self._raw_name) or 1, self._generation)
            self._source = source_of_generation(self._raw_name, generation)
            ledger, curated = self._recovery.standing(ledger_head, curated_head)
            self._mark = newest_mark([each.marker.mark for each in (ledger, curated) if each.marker is not None])
            if self._mark is None and ledger.sequence:
                self._mark = mark_of_rows(self._ledger.table, ledger_head, self._consumer, self._source)
            return ledger, curated

    @property
    def _recovery(self) -> Recovery:
        skipped = partial(Skips(self._takedowns).of, self._consumer, self._source)
        return Recovery(self._ledger.table, self._curated.table, self._consumer, self._source, self._shard, skipped)

    def _take_down(self) -> None:
        """Retire what was taken down and is not yet, and let nothing of it come again."""
        self._tombstones, left = self._takedowns.of_shard(self._consumer, str(self._shard))
        for takedown in left:
            newest = generation_of(self._source, self._raw_name) or 1
            # Clips of rows that an older table of this name had may stand as well.
            sources = [source_of_generation(self._raw_name, number) for number in range(1, newest + 1)]
            counts = [self._retire(takedown, source) for source in sources]
            ledger_head, curated_head = self._ledger.head(), self._curated.head()
            self._takedowns.note(
                Obeyed(
                    takedown.takedown_id,
                    self._consumer,
                    str(self._shard),
                    sum(num_rows for num_rows, _ in counts),
                    sum(num_clips for _, num_clips in counts),
                    0 if ledger_head is None else int(ledger_head.id),
                    0 if curated_head is None else int(curated_head.id),
                    datetime.now(UTC),
                )
            )

    def _retire(self, takedown: Takedown, source: str) -> tuple[int, int]:
        """Retire rows of ``source`` and return how many, and how many clips of them stood."""
        ledger_head, curated_head = self._ledger.head(), self._curated.head()
        with store_errors("ledger and curated tables"):
            matches = matching(self._ledger.table, ledger_head, takedown, self._consumer, source, self._shard)
            row_ids = [match.video.row_id for match in matches]
            clips = clip_row_ids(self._curated.table, curated_head, self._consumer, source, row_ids)
        runs = retirements(matches, datetime.now(UTC))
        if runs or clips:
            pending = Pending(self._curated.position, max(self._ledger.sequence, self._curated.sequence) + 1)
            rows = ledger_rows(runs, self._lineage(pending), self._watermark(self._curated.position))
            self._commit_side(self._ledger, pending, self._ledger.standing, rows)
            nothing = curated_rows([], self._lineage(pending))
            self._commit_side(self._curated, pending, self._curated.standing, nothing, retired=row_ids, source=source)
            self._runs.read(self._recovery)
        return len(row_ids), len(clips)

    def _watermark(self, position: Position) -> int | None:
        return position.watermark if self._has_gaps else None

    def commit(self, batch: CommitBatch) -> CommitReceipt:
        """Write ledger rows, then clips and position; returns only when both are published.

        Raises:
            FencedError: a newer incarnation exists; nothing more may be written.
            StoreUnavailableError: the store did not answer; the same batch may be committed again.
            ValueError: the batch goes back behind what is committed, or holds a row that its position does not cover.
        """
        self._resolve()
        self._check(batch)
        staged = [reference for video in batch.videos for reference in video.outcome.staged]
        batch = replace(batch, videos=tuple(map(self._tombstones.respected, batch.videos)))
        self._mark = batch.mark or self._mark
        pending = self._pending
        if pending is None or pending.position != batch.position:
            pending = Pending(batch.position, max(self._ledger.sequence, self._curated.sequence) + 1)
            self._pending = pending
        num_before = self._num_attempts
        if self._ledger.sequence < pending.sequence:
            self._commit_ledger(batch, pending)
        if self._curated.sequence < pending.sequence:
            self._commit_curated(batch, pending)
        self._pending = None
        self._staging.discard(staged)
        self._on_committed(batch.position)
        return CommitReceipt(
            pending.sequence, pending.num_ledger_rows, pending.num_clips, self._num_attempts - num_before
        )

    def replayable(self, row_ids: Collection[int]) -> frozenset[int]:
        """Return which of ``row_ids`` may be processed once more: this shard's, finished, and failed in the latest run.

        Reads the ledger's files that may hold them.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        self._resolve()
        owned = [row_id for row_id in row_ids if self._shard.owns(row_id)]
        return self._runs.replayable(owned, self._recovery)

    def _resolve(self) -> None:
        """Learn whether commits without an answer were published."""
        were_uncertain = [side.resolve() for side in (self._ledger, self._curated)]
        if any(were_uncertain):
            self._runs.read(self._recovery)

    def _check(self, batch: CommitBatch) -> None:
        asked = batch.replays.ranges()
        if not batch.position.union(asked).includes(self._curated.position):
            raise ValueError(f"position {batch.position} goes back behind the committed {self._curated.position}")
        stray = [video.video.row_id for video in batch.videos if not batch.position.covers(video.video.row_id)]
        if stray:
            raise ValueError(f"rows {stray} are in the batch, but its position does not cover them")
        is_known = self._runs.may_replay(owned_part(WHOLE, asked))
        if not is_known or batch.replays.without(batch.position.ranges()) != batch.replays:
            raise ValueError(f"rows {batch.replays} are not to be replayed, or finished by the batch's position")

    def _commit_ledger(self, batch: CommitBatch, pending: Pending) -> None:
        rows = self._runs.to_write(batch.videos, self._recovery)
        same_as = self._same_bytes.first_rows([video for video, _ in rows])
        pending.num_ledger_rows = len(rows)
        standing = self._ledger.standing
        after = replace(
            standing,
            position=standing.position.union(batch.position.ranges()),
            replays=standing.replays.union(batch.replays.ranges()).without(batch.position.ranges()),
        )
        watermark = self._watermark(batch.position)
        self._commit_side(self._ledger, pending, after, ledger_rows(rows, self._lineage(pending), watermark, same_as))
        self._runs.wrote(rows)

    def _commit_curated(self, batch: CommitBatch, pending: Pending) -> None:
        self._same_bytes.add(batch.videos)
        videos = [video for video in batch.videos if not self._curated.standing.covers(video.video.row_id)]
        versions = self._versions.noted(batch.videos)
        if versions is not None:
            superseded = versions.superseded(key for key, _ in keys_of(videos))
            videos = [video for video in videos if video.video.row_id not in superseded]
        else:
            superseded = set()
        superseded |= {video.video.row_id for video in batch.videos if is_removed(video)}
        rows = curated_rows(videos, self._lineage(pending))
        pending.num_clips = rows.num_rows
        standing = self._curated.standing
        after = replace(
            standing,
            position=batch.position,
            share=standing.share.without(batch.replays.ranges()),
            replays=self._ledger.standing.replays,
        )
        self._commit_side(self._curated, pending, after, rows, retired=superseded)
        self._runs.finished(batch)

    def _commit_side(
        self,
        side: Side,
        pending: Pending,
        after: Standing,
        rows: pa.Table,
        retired: Collection[int] = (),
        source: str | None = None,
    ) -> None:
        with store_errors(f"{side.role} table"):
            self._on_step(f"before_{side.role}_write")
            messages = side.committer.write(rows, pending.sequence)
            if retired:
                head = side.committer.manager.get_latest_snapshot()
                standing = clip_row_ids(side.table, head, self._consumer, source or self._source, retired)
                messages += side.committer.delete(standing, pending.sequence)
            self._on_step(f"after_{side.role}_write")
        self._publish(side, messages, pending.sequence, after, step=f"after_{side.role}_publish")

    def _publish(
        self, side: Side, messages: list[Any], sequence: int, after: Standing, *, step: str | None = None
    ) -> None:
        marker = Marker(
            self._consumer,
            self._source,
            self._epoch,
            sequence,
            after.position,
            self._user,
            share=after.share.pruned(after.position),
            replays=after.replays,
            mark=self._mark,
        )
        side.publish(messages, marker, None if step is None else partial(self._on_step, step))

    @property
    def _num_attempts(self) -> int:
        return self._ledger.committer.num_attempts + self._curated.committer.num_attempts

    def _lineage(self, pending: Pending) -> Lineage:
        return Lineage(self._consumer, self._epoch, pending.sequence, self._profile)

    def close(self) -> None:
        """Release resources. Commits nothing."""
        self._ledger.committer.close()
        self._curated.committer.close()
