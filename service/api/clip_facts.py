"""What the wall says of a clip: its scores, and the bounds by which it was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consumers.paimon.reading.clips import ClipRecord
from schemas.api_tables import ClipLink
from schemas.profile import FilterMode, Profile
from service.api import wording
from service.api.videos import clip_link


@dataclass(frozen=True, slots=True)
class ScoreFact:
    """One score of a clip: its name, its value in words, the bound it met, and how it was measured."""

    name: str
    value: str
    bound: str | None
    method: str


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """One clip for the wall. ``why`` is a sentence; ``title`` names the clip where it has no caption.

    ``row_id`` is its video's, in the raw table.
    """

    clip_id: str
    row_id: int
    link: ClipLink
    title: str
    caption_note: str | None
    has_media: bool
    start_s: float
    end_s: float
    picture: str
    scores: tuple[ScoreFact, ...]
    why: str
    how_cut: str
    processed_at: Any


def clip_facts(record: ClipRecord, profile: Profile) -> ClipFacts:
    """Return what is to be said of one row of the curated table.

    Args:
        record: its columns, without the bytes.
        profile: the one in use; the bounds of a clip that was kept under another one are not known.
    """
    values = record.values
    is_same = values.get("profile_fingerprint") == profile.fingerprint
    caption, is_model = values.get("caption"), values.get("caption_is_model_generated")
    start_s, end_s = float(values.get("start_s", 0)), float(values.get("end_s", 0))
    width, height = values.get("width_px"), values.get("height_px")
    return ClipFacts(
        clip_id=str(values["clip_id"]),
        row_id=int(values["source_row_id"]),
        link=clip_link(str(values["clip_id"]), record.row_id, has_media=record.has_media),
        title=caption or f"Clip of video {values['source_row_id']}",
        caption_note=None
        if not caption
        else f"by {values.get('caption_model_id')}"
        if is_model
        else "from measured facts, no model",
        has_media=record.has_media,
        start_s=start_s,
        end_s=end_s,
        picture=f"{width} x {height}" if width and height else "",
        scores=tuple(_scores(values, profile if is_same else None)),
        why=_why(values, is_same),
        how_cut=wording.label(str(values["cut_method"])),
        processed_at=values["processed_at"],
    )


def _scores(values: Mapping[str, Any], profile: Profile | None) -> list[ScoreFact]:
    nsfw = motion = aesthetic = quality = None
    if profile is not None:
        nsfw = _bound(profile.nsfw.mode, None, profile.nsfw.max_score)
        motion = _bound(profile.motion.mode, profile.motion.min_score, profile.motion.max_score)
        aesthetic = _bound(profile.aesthetic.mode, profile.aesthetic.min_score, None)
        quality = _bound(profile.aesthetic.mode, profile.aesthetic.min_technical_quality, None)
    found = []
    if values.get("nsfw_score") is not None:
        found.append(_score(values, "NSFW", "nsfw_score", "nsfw_method", nsfw))
    elif values.get("nsfw_method") is not None:
        found.append(ScoreFact("NSFW", "not scored", None, "no model is configured; the profile lets such clips pass"))
    for name, column, method, bound in (
        ("Motion", "motion_score", "motion_method", motion),
        ("Aesthetic", "aesthetic_score", "aesthetic_method", aesthetic),
        ("Quality", "technical_quality", "technical_quality_method", quality),
    ):
        if values.get(column) is not None:
            found.append(_score(values, name, column, method, bound))
    return found


def _score(values: Mapping[str, Any], name: str, column: str, method: str, bound: str | None) -> ScoreFact:
    return ScoreFact(name, wording.number(values[column]), bound, str(values.get(method) or "method not recorded"))


def _bound(mode: FilterMode, least: float | None, most: float | None) -> str | None:
    if mode is FilterMode.SCORE_ONLY:
        return "score only"
    parts = [] if least is None else [f"≥ {wording.number(least)}"]
    return ", ".join(parts if most is None else [*parts, f"≤ {wording.number(most)}"])


def _why(values: Mapping[str, Any], is_same: bool) -> str:
    profile = values.get("profile", "unknown")
    if is_same:
        return f"Passed all seven stages of profile {profile}, the one in use."
    return f"Passed all seven stages of profile {profile} ({values.get('profile_fingerprint')}), an earlier one."
