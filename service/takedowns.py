"""Taking videos down: what is meant, what is written, and the certificate as a document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from consumers.errors import ConfigurationError
from consumers.paimon.commit.takedown import Takedown, new_takedown
from consumers.paimon.reading.takedowns import Certificate, Meaning, TargetKind
from schemas.positions import OffsetRange
from schemas.records import RawVideo
from service import wiring
from service.models import pinned
from service.settings import Settings


def plan(
    settings: Settings, kind: TargetKind, value: str, actor: str, origin: str, at: datetime, reason: str | None
) -> tuple[Takedown, Meaning]:
    """Return the takedown that a person means, not yet stored.

    Raises:
        ConfigurationError: there is no such row.
        StoreUnavailableError: the store did not answer.
    """
    reader = wiring.takedown_reader(settings)
    meaning = reader.meaning(kind, value)
    if kind is TargetKind.ROW and meaning.num_known == 0:
        row_id = int(value)
        row = next(iter(wiring.build_source(settings).read([OffsetRange(row_id, row_id + 1)])), None)
        if not isinstance(row, RawVideo):
            raise ConfigurationError(
                f"row {value}: neither the ledger nor table {settings.tables.database}.{settings.tables.raw} has it; "
                "nothing has changed"
            )
        meaning = reader.meaning(kind, value, (row.video_id, row.blob))
    takedown = new_takedown(
        f"{kind.value} {value}",
        actor,
        origin,
        at,
        reason,
        video_ids=meaning.video_ids,
        uris=meaning.uris,
        parts=meaning.parts,
    )
    return takedown, meaning


def obey(settings: Settings) -> None:
    """Do what takedowns ask of the configured consumer and shard, which runs nowhere.

    Raises:
        ConfigurationError: a table is missing or does not fit.
        StoreUnavailableError: the store did not answer.
    """
    sink = wiring.build_sink(pinned(settings))
    try:
        sink.open()
    finally:
        sink.close()


def document(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as a JSON document."""
    takedown = certificate.takedown
    return {
        "takedown_id": takedown.takedown_id,
        "target": takedown.target,
        "by": takedown.actor,
        "origin": takedown.origin,
        "at": takedown.at,
        "reason": takedown.reason,
        "video_ids": list(takedown.video_ids),
        "uris": list(takedown.uris),
        "parts": [f"{part.uri} {part.offset_bytes}+{part.length_bytes}" for part in takedown.parts],
        "obeyed": [
            {
                "consumer": each.consumer,
                "shard": each.shard,
                "at": each.at,
                "num_rows": each.num_rows,
                "num_clips": each.num_clips,
                "ledger_snapshot_id": each.ledger_snapshot_id,
                "curated_snapshot_id": each.curated_snapshot_id,
            }
            for each in certificate.obeyed
        ],
        "clips_standing": certificate.clips_standing,
        "has_old_snapshots": certificate.has_old_snapshots,
        "bytes_due_at": certificate.due_at,
        "bytes_rewritten_at": certificate.rewritten_at,
        "bytes_gone_at": certificate.gone_at,
        "is_overdue": certificate.is_overdue(datetime.now(UTC)),
    }
