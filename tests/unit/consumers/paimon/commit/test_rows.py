from datetime import UTC, datetime
from fractions import Fraction

from consumers.paimon.commit.rows import Lineage, curated_rows
from schemas.profile import Profile
from schemas.records import (
    AESTHETIC_SCORE,
    NSFW_PROBABILITY,
    TECHNICAL_QUALITY,
    BlobReference,
    ClipMedia,
    ClipOutcome,
    CutMethod,
    ProcessedVideo,
    RawVideo,
    Score,
    Span,
    Stage,
    VideoOutcome,
)

AT = datetime(2026, 1, 2, 3, tzinfo=UTC)


def curated_row(*scores: Score) -> dict:
    span = Span(0.0, 1.0, 0, 24, Fraction(1, 24), 0, 24)
    media = ClipMedia(CutMethod.STREAM_COPY, b"mp4", b"jpeg", 24, 0, False)
    clip = ClipOutcome("c" * 32, 0, span, scores, media=media)
    video = RawVideo(7, 1, AT, "db.raw", "v", BlobReference("file:///v.mp4"))
    processed = ProcessedVideo(video, VideoOutcome(clips=(clip,)), 1, AT)
    (row,) = curated_rows([processed], Lineage("c", 1, 1, Profile())).to_pylist()
    return row


def test_formula_in_place_of_a_model_never_fills_the_aesthetic_columns() -> None:
    row = curated_row(
        Score(Stage.AESTHETIC, TECHNICAL_QUALITY, 0.7, "formula"),
        Score(Stage.AESTHETIC, "contrast", 0.4, "formula"),
    )
    assert row["technical_quality"] == 0.7
    assert row["technical_quality_method"] == "formula"
    assert row["aesthetic_score"] is None
    assert row["aesthetic_method"] is None


def test_model_scores_carry_model_and_revision() -> None:
    row = curated_row(
        Score(Stage.NSFW, NSFW_PROBABILITY, 0.1, "softmax/avg", "org/nsfw", "a" * 40),
        Score(Stage.AESTHETIC, AESTHETIC_SCORE, 0.6, "linear/avg", "org/aes", "b" * 40),
    )
    assert (row["nsfw_score"], row["nsfw_model_id"], row["nsfw_model_revision"]) == (0.1, "org/nsfw", "a" * 40)
    assert (row["aesthetic_score"], row["aesthetic_model_id"]) == (0.6, "org/aes")


def test_row_lands_in_the_partition_of_its_raw_commit() -> None:
    assert curated_row()["ingest_date"] == "2026-01-02"
