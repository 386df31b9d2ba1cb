"""An application over fakes: real routes, guard, tokens, host and operations; made-up tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from consumers.errors import ConfigurationError, UriNotAllowedError
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.paimon.commit.takedown import Takedown, new_takedown
from consumers.paimon.landing.raw_writer import RegisterReport
from consumers.paimon.reading.audit_report import AuditReport
from consumers.paimon.reading.clips import ClipBytes, ClipPlace, ClipRecord
from consumers.paimon.reading.story import LetterFilter, VideoFilter
from consumers.paimon.reading.takedowns import Certificate, TargetKind
from consumers.ports import CommitMark, Retention, RowOrigin, SourceHead
from consumers.testing import (
    FakeClock,
    FakeControlStore,
    FakePool,
    FakeSink,
    FakeSource,
    FakeTables,
    failed_outcome,
    make_video,
)
from schemas.positions import OffsetRange, Position
from schemas.records import RawVideo
from schemas.shards import WHOLE, Shard
from service.api.app import create_app
from service.api.authenticator import Authenticator
from service.api.services import Services
from service.api.sessions import SessionFile, Sessions
from service.api.tokens import Role, Token, TokenStore, digest_of
from service.host.hosting import Host, HostedConsumer
from service.host.operations import Operations
from service.host.supervisor import Incarnation, Supervisor
from service.library import ClipList, ClipQuery
from service.observe.activity import ConsumerActivity
from service.observe.events import EventBus
from service.observe.prober import Prober

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
TOKENS = {role: f"{role.word}-token-of-the-tests-0123456789" for role in Role}
MEDIA = bytes(range(256)) * 4


def clip(number: int, **values: Any) -> ClipRecord:
    row = {
        "clip_id": f"{number:032x}",
        "source_row_id": number,
        "caption": f"a dog number {number}",
        "motion_score": float(number),
        "aesthetic_score": None,
        "technical_quality": 0.5,
        "nsfw_score": 0.1,
        "processed_at": NOON,
        "cut_method": "stream_copy",
    }
    return ClipRecord(number, row | values)


def letter(row_id: int) -> dict[str, Any]:
    return {
        "source_row_id": row_id,
        "video_id": f"v{row_id}",
        "source_uri": f"file:///videos/{row_id}.mp4",
        "status": "failed",
        "failure_stage": "open",
        "failure_class": "not_a_video",
        "failure_message": "it is a text file",
        "attempts": 1,
        "run": 1,
        "processed_at": NOON,
    }


@dataclass(frozen=True)
class FakeMove:
    """As much of a planned change of position as the API says of it."""

    current: Position
    sequence: int
    epoch: int
    proposed: Position
    num_read_again: int
    num_left_done: int
    num_skipped: int


def rejection(row_id: int) -> dict[str, Any]:
    score = {"stage": "motion_filter", "name": "motion_mean_magnitude", "value": 0.01, "method": "farneback"}
    clip_of_it = {
        "clip_id": f"{row_id:032x}",
        "clip_index": 0,
        "start_s": 0.0,
        "end_s": 2.0,
        "kept": False,
        "rejected_by": "motion_filter",
        "reason": "motion_below_min",
        "scores": [score | {"model_id": None, "model_revision": None}],
    }
    return {
        "source_row_id": row_id,
        "video_id": f"v{row_id}",
        "source_uri": f"file:///videos/{row_id}.mp4",
        "status": "rejected",
        "duration_s": 2.0,
        "num_clips_rejected": 1,
        "clips": [clip_of_it],
        "run": 1,
        "processed_at": NOON,
    }


@dataclass
class FakeLibrary:
    """Tables in memory, as far as the API looks at them."""

    clip_list: list[ClipRecord] = field(default_factory=lambda: [clip(n) for n in range(5)])
    letters: list[dict[str, Any]] = field(default_factory=lambda: [letter(n) for n in (7, 3, 1)])
    rejections: list[dict[str, Any]] = field(default_factory=lambda: [rejection(5)])
    position: Position = field(default_factory=lambda: Position(8))
    sequence: int = 4
    epoch: int = 2
    is_auditing: bool = False
    moves: list[FakeMove] = field(default_factory=list)
    registered: set[str] = field(default_factory=set)
    taken_down: list[Takedown] = field(default_factory=list)
    num_obeyed: int = 0

    def dead_letters(self, wanted: LetterFilter, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        found = self.all_dead_letters(wanted, limit + 1)
        return found[:limit], found[limit - 1]["source_row_id"] if len(found) > limit else None

    def all_dead_letters(self, wanted: LetterFilter, limit: int) -> list[dict[str, Any]]:
        return [
            row
            for row in self.letters
            if (wanted.before_row_id is None or row["source_row_id"] < wanted.before_row_id)
            and (wanted.row_ids is None or row["source_row_id"] in wanted.row_ids)
            and wanted.admits(row)
        ][:limit]

    def videos(self, wanted: VideoFilter, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        rows = [*self.letters, *self.rejections]
        rows.sort(key=lambda row: row["source_row_id"], reverse=True)
        found = [
            {
                "duration_s": None,
                "num_clips_kept": 0,
                "num_clips_rejected": 0,
                "failure_stage": None,
                "failure_class": None,
            }
            | row
            for row in rows
            if wanted.before_row_id is None or row["source_row_id"] < wanted.before_row_id
            if wanted.admits(row)
        ]
        return found[:limit], found[limit - 1]["source_row_id"] if len(found) > limit else None

    def rejected(self, before: int | None, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        return [row for row in self.rejections if before is None or row["source_row_id"] < before][:limit], None

    def audit(self, num_decoded: int = 0) -> AuditReport | None:
        counts: dict[str, Any] = {item.name: 0 for item in fields(AuditReport)}
        return None if self.is_auditing else AuditReport(**counts | {"clips_checked": num_decoded, "details": ()})

    def raw_video(self, row_id: int) -> RawVideo | None:
        return make_video(row_id) if row_id < 10 else None

    def runs(self, row_id: int) -> list[dict[str, Any]]:
        return [row | {"clips": []} for row in self.letters if row["source_row_id"] == row_id]

    def clips(self, query: ClipQuery, limit: int) -> ClipList:
        newest = [c for c in reversed(self.clip_list) if query.before is None or c.row_id < query.before]
        found = [c for c in newest if query.admits(c.values)]
        return ClipList(found[:limit], found[limit - 1].row_id if len(found) > limit else None)

    def clip(self, clip_id: str, row_id: int | None = None) -> ClipRecord | None:
        return next((c for c in self.clip_list if c.values["clip_id"] == clip_id), None)

    def clip_places(
        self, source_row_id: int, clip_ids: Collection[str], landed_at: datetime, processed_at: datetime
    ) -> dict[str, ClipPlace]:
        return {str(c.values["clip_id"]): c.place for c in self.clip_list if c.values["clip_id"] in clip_ids}

    def media(self, record: ClipRecord) -> ClipBytes | None:
        return ClipBytes(len(MEDIA), lambda start, end: MEDIA[start:end]) if record.row_id else None

    def thumbnail(self, record: ClipRecord) -> bytes | None:
        return b"jpeg" if record.row_id else None

    def register(self, uris: Sequence[str]) -> RegisterReport:
        for uri in uris:
            if not uri.startswith("file:///videos/"):
                raise UriNotAllowedError(f"{uri!r} is not under an allowed prefix")
        new = set(uris) - self.registered
        self.registered |= new
        return RegisterReport(len(new), len(uris) - len(new))

    def head_offset(self) -> int:
        return 10

    def recent_commits(self, limit: int) -> list[CommitMark]:
        return [CommitMark(self.position, self.sequence, self.epoch, NOON, 9)][:limit]

    def committed(self) -> tuple[Position, int, int]:
        return self.position, self.sequence, self.epoch

    def plan_move(self, offset: int) -> FakeMove:
        again, skipped = max(0, 8 - offset), max(0, offset - 8)
        return FakeMove(self.position, self.sequence, self.epoch, Position(offset), again, 0, skipped)

    def plan_again(self, row_ids: Sequence[int]) -> FakeMove:
        proposed = self.position.without(OffsetRange(row_id, row_id + 1) for row_id in row_ids)
        return FakeMove(self.position, self.sequence, self.epoch, proposed, len(row_ids), 0, 0)

    def make_move(self, move: FakeMove) -> None:
        self.moves.append(move)
        self.position, self.epoch = move.proposed, self.epoch + 1

    def plan_takedown(
        self, kind: TargetKind, value: str, actor: str, origin: str, at: datetime, reason: str | None
    ) -> Takedown:
        if kind is TargetKind.ROW and int(value) >= 10:
            raise ConfigurationError(f"row {value}: there is none")
        return new_takedown(f"{kind} {value}", actor, origin, at, reason, video_ids=(value,))

    def take_down(self, takedown: Takedown) -> None:
        self.taken_down.append(takedown)

    def obey_takedowns(self) -> None:
        self.num_obeyed += 1

    def takedowns(self, takedown_id: str | None = None) -> list[Certificate]:
        found = [each for each in reversed(self.taken_down) if takedown_id in (None, each.takedown_id)]
        return [Certificate(each, (), 0, False) for each in found]


class _Progress:
    def head(self) -> SourceHead:
        return SourceHead(3, 10, NOON)

    def last_commit(self) -> CommitMark | None:
        return CommitMark(Position(8), 4, 2, NOON, 9)

    def commits(self) -> tuple[CommitMark, ...]:
        return (CommitMark(Position(8), 4, 2, NOON, 9),)

    def recent_commits(self, limit: int) -> list[CommitMark]:
        return []

    def origin(self, offset: int) -> RowOrigin | None:
        return RowOrigin(3, NOON, True)

    def retention(self, offset: int) -> Retention | None:
        return Retention(3, NOON, 5, NOON, 3600.0, 1, 1000)

    def mean_bytes(self, offsets: OffsetRange) -> float | None:
        return 1000.0


class Service:
    """One service over fakes. Use it as a context manager to have its consumer run."""

    def __init__(self, shard: Shard = WHOLE, session_file: Path | None = None) -> None:
        self.clock = FakeClock()
        self.control = FakeControlStore()
        self.library = FakeLibrary()
        self.events = EventBus(self.clock)
        # What the library tells of: eight rows are finished, and some of them failed.
        failure = failed_outcome().failure
        assert failure is not None
        failures = {int(row["source_row_id"]): failure for row in self.library.letters}
        self.tables = FakeTables(position=Position(8), failures=failures)
        self.num_built = 0
        activity = ConsumerActivity(self.clock, lambda kind, data: self.events.publish(kind, "films", data))
        self.prober = Prober(_Progress, self.clock, activity.totals, interval_s=0.05)
        self.supervisor = Supervisor("films", self._build, self.clock)
        self.activity = activity
        self.host = Host(
            {"films": HostedConsumer("films", self.supervisor, activity, self.prober)},
            self.control,
            self.clock,
            self.events,
            poll_interval_s=0.05,
        )
        expired = Token("former", Role.ADMIN, digest_of("expired-token-0123456789"), NOON.replace(year=2020))
        tokens = TokenStore([*(Token(r.word, r, digest_of(t)) for r, t in TOKENS.items()), expired])
        self.operations = Operations(self.host, {"films": self.library}, drain_timeout_s=0.1, shard=shard)
        self.services = Services(
            host=self.host,
            operations=self.operations,
            libraries={"films": self.library},
            auth=Authenticator(tokens, self.clock, Sessions(tokens, self.clock, SessionFile(session_file))),
            version="1.2.3",
            started_at=NOON,
            heartbeat_s=0.05,
        )
        self.app: FastAPI = create_app(self.services)

    def with_services(self, **changes: Any) -> FastAPI:
        """Return an application with other services."""
        return create_app(replace(self.services, **changes))

    def _build(self) -> Incarnation:
        self.num_built += 1
        pool = FakePool()
        self.activity.begin(pool.report)
        processor = Processor(
            FakeSource(8),
            FakeSink(self.tables),
            pool,
            self.clock,
            config=ProcessorConfig(poll_interval_s=0.05, drain_timeout_s=0.1),
        )
        # The loop waits on this clock, too.
        self.clock.on_advance.append(processor.wake)
        return Incarnation(processor, pool.start, pool.close)

    def __enter__(self) -> Service:
        self.host.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.host.close(0.1)
        self.operations.close()

    def client(self, role: Role | None = Role.ADMIN, **changes: Any) -> httpx.AsyncClient:
        """Return a client with that role's token, or none."""
        headers = {} if role is None else {"Authorization": f"Bearer {TOKENS[role]}"}
        transport = httpx.ASGITransport(changes.pop("app", self.app), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers, **changes)
