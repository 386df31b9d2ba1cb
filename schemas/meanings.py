"""What every column of the four tables means, for people: ``docs/tables.md`` is made from it.

A test holds that no column is left out and none is named that is not there. Parts of a list or a struct are named
behind a dot: ``clips.reason`` is a field of each entry of ``clips``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.tables import CONTROL, CURATED, LEDGER, RAW


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of one column. ``unit`` is empty where a value has none."""

    text: str
    unit: str = ""


_S, _PX, _BYTES, _UTC = "seconds", "pixels", "bytes", "UTC"

_LINEAGE: Mapping[str, Meaning] = {
    "consumer": Meaning("The consumer that wrote the row."),
    "epoch": Meaning("Which incarnation of the consumer wrote it; grows with each start."),
    "commit_sequence": Meaning("Which commit of the consumer wrote it; the same number in ledger and curated table."),
    "profile": Meaning("Name of the profile: all parameters and models together."),
    "profile_fingerprint": Meaning("Hash of the profile's content: the same exactly where everything in it is."),
    "processed_at": Meaning("When the video was finished.", _UTC),
}

_SOURCE: Mapping[str, Meaning] = {
    "source_table": Meaning(
        "Full name of the raw table; with `#2` and so on where it was made anew and accepted as another table."
    ),
    "source_row_id": Meaning("Row id (`_ROW_ID`) of the raw row, or its offset in the changelog."),
    "source_snapshot_id": Meaning("Snapshot of the raw table that it was read from."),
    "source_uri": Meaning("The object that holds the video."),
    "source_offset_bytes": Meaning("Where the video begins in the object.", _BYTES),
    "source_length_bytes": Meaning("How long it is there; -1 is to the end of the object.", _BYTES),
    "video_id": Meaning("Id of the video, as the raw row tells it; its row id where the table has no such column."),
}

_RAW: Mapping[str, Meaning] = {
    "video_id": Meaning("32 hexadecimal digits of the SHA-256 over URI and etag: one for each version of an object."),
    "uri": Meaning("The object: `file://`, `s3://` or `oss://`."),
    "size_bytes": Meaning("Its size when it was registered; null where nobody told.", _BYTES),
    "etag": Meaning("Its version when it was registered, as the store tells it."),
    "landed_at": Meaning("When the store says that it was last written.", _UTC),
    "video": Meaning("Reference to the bytes (`BlobDescriptor`: URI, offset, length); the video is not copied."),
    "metadata": Meaning("Whatever else is known of the video, as text."),
}

_LEDGER: Mapping[str, Meaning] = {
    **_LINEAGE,
    **_SOURCE,
    "source_uri": Meaning("The object that holds the video; null where the row's reference cannot be understood."),
    "source_snapshot_id": Meaning("Snapshot of the raw table that the row was read from."),
    "source_committed_at": Meaning("When the raw row was committed.", _UTC),
    "row_kind": Meaning(
        "`+I` new, `+U` a new version, `-D` deleted at the source, `=>` the same row under another id."
    ),
    "source_key": Meaning("The primary key as text, where the raw table has one; of a moved row its first id."),
    "source_watermark": Meaning("All offsets below were finished once this commit was; only where offsets have gaps."),
    "source_size_bytes": Meaning("Size of the object that was read.", _BYTES),
    "source_etag": Meaning("Version of the object that was read."),
    "source_same_as_row_id": Meaning(
        "The row whose object had the same etag and size before: a second name for the same bytes."
    ),
    "source_is_replaced": Meaning("Whether that is another version than the raw row tells of."),
    "status": Meaning(
        "`curated`: at least one clip was kept; `rejected`: none; `failed`: a dead letter; `retired`: deleted at the "
        "source, or taken down; `moved`: processed under another row id."
    ),
    "num_clips_kept": Meaning("Clips that stand in the curated table for this run."),
    "num_clips_rejected": Meaning("Clips that a stage rejected."),
    "clips": Meaning("Every clip of the video, kept or not, in order."),
    "clips.clip_id": Meaning("As in the curated table."),
    "clips.clip_index": Meaning("Place of the clip in the video, from 0."),
    "clips.start_s": Meaning("Begin, after the first frame of the video.", _S),
    "clips.end_s": Meaning("End: where the frame after the last one begins.", _S),
    "clips.start_frame": Meaning("First frame, counted from 0."),
    "clips.end_frame": Meaning("The frame after the last one."),
    "clips.kept": Meaning("Whether it passed every stage."),
    "clips.rejected_by": Meaning("The stage that rejected it; null where it was kept."),
    "clips.reason": Meaning("Why, in a short code such as `motion_below_min`."),
    "clips.scores": Meaning("Every score that was measured before the verdict, parts of formulas too."),
    "clips.scores.stage": Meaning("The stage that measured it."),
    "clips.scores.name": Meaning("What was measured."),
    "clips.scores.value": Meaning("The value; null where nothing was measured (method `unscored`)."),
    "clips.scores.method": Meaning("How it was measured."),
    "clips.scores.model_id": Meaning("The model; null for a formula."),
    "clips.scores.model_revision": Meaning("The model's revision."),
    "failure_stage": Meaning("Where the video failed; null unless `status` is `failed`."),
    "failure_class": Meaning("Why, in a short code such as `not_a_video`."),
    "failure_message": Meaning("Why, in a sentence."),
    "attempts": Meaning("How often a worker was called for the video in this run."),
    "run": Meaning("Which run over the source row this is, from 1; the highest one holds."),
    "container_format": Meaning("As libav names it; null where the video could not be opened, like all that follows."),
    "codec": Meaning("Of the pictures, as libav names it."),
    "width_px": Meaning("As displayed, after rotation.", _PX),
    "height_px": Meaning("As displayed, after rotation.", _PX),
    "fps": Meaning("Frames per second as the container tells; null where it does not.", "1/s"),
    "duration_s": Meaning("What was decoded.", _S),
    "num_frames": Meaning("Frames that were decoded."),
    "num_corrupt_frames": Meaning("Frames that may show something wrong, and errors on the way."),
    "rotation_degrees": Meaning("How far a player turns the pictures.", "degrees"),
    "has_audio": Meaning("Whether there is a sound track."),
    "timings": Meaning("What each stage has cost on this video."),
    "timings.stage": Meaning("The stage."),
    "timings.wall_s": Meaning("Time that passed, summed over the clips.", _S),
    "timings.cpu_s": Meaning("CPU time, with the clips' share of a model's.", _S),
    "timings.num_in": Meaning("Items that went in: frames or clips, by stage."),
    "timings.num_out": Meaning("Items that came out."),
    "timings.queue_s": Meaning("Time that clips waited for the stage's model; null without one.", _S),
    "timings.mean_batch": Meaning("Mean number of clips in the model's batches; null without one."),
    "bytes_read": Meaning("Fetched from the store.", _BYTES),
}

_CURATED: Mapping[str, Meaning] = {
    **_LINEAGE,
    **_SOURCE,
    "clip_id": Meaning(
        "32 hexadecimal digits of the SHA-256 over source row, span and profile: the same whenever it is made again."
    ),
    "ingest_date": Meaning("Day on which the raw row was committed, `YYYY-MM-DD`; the partition.", _UTC),
    "clip_index": Meaning("Place of the clip in its video, from 0; rejected ones count."),
    "start_s": Meaning("Begin, after the first frame of the video.", _S),
    "end_s": Meaning("End: where the frame after the last one begins.", _S),
    "duration_s": Meaning("`end_s - start_s`.", _S),
    "start_pts": Meaning("Begin by the stream's own timestamps.", "`time_base`"),
    "end_pts": Meaning("End by the stream's own timestamps.", "`time_base`"),
    "time_base": Meaning("Length of one tick of these timestamps, as a fraction such as `1/90000`.", _S),
    "start_frame": Meaning("First frame of the video that is in the clip, counted from 0 over decoded frames."),
    "end_frame": Meaning("The frame after the last one."),
    "width_px": Meaning("Of the source as displayed, after rotation.", _PX),
    "height_px": Meaning("Of the source as displayed, after rotation.", _PX),
    "fps": Meaning("Frames per second of the source as its container tells; null where it does not.", "1/s"),
    "codec": Meaning("Of the source's pictures; the clip is H.264 where `cut_method` is `h264`."),
    "nsfw_score": Meaning("Probability that the clip is not safe for work, 0 to 1; null where nothing scored it."),
    "nsfw_method": Meaning("How it was measured, and reduced over the frames; `unscored` without a model."),
    "nsfw_model_id": Meaning("The model."),
    "nsfw_model_revision": Meaning("The model's revision."),
    "motion_score": Meaning("Mean length of optical flow between samples.", "source pixels per sample"),
    "motion_method": Meaning("How it was measured."),
    "aesthetic_score": Meaning("The model's rating divided by 10, 0 to 1; null without a model."),
    "aesthetic_method": Meaning("How it was measured, and reduced over the frames."),
    "aesthetic_model_id": Meaning("The model."),
    "aesthetic_model_revision": Meaning("The model's revision."),
    "technical_quality": Meaning("Colourfulness, contrast, sharpness and exposure by formula, 0 to 1; no aesthetics."),
    "technical_quality_method": Meaning("Which version of the formula."),
    "caption": Meaning("A description of the clip."),
    "caption_method": Meaning("How it came about."),
    "caption_is_model_generated": Meaning("False for the template, which states measured facts only."),
    "caption_model_id": Meaning("The model."),
    "caption_model_revision": Meaning("The model's revision."),
    "clip": Meaning("The clip as MP4; null where `cut_method` is `reference`."),
    "thumbnail_jpeg": Meaning("A picture from the middle of the clip, JPEG."),
    "cut_method": Meaning(
        "`stream_copy`: packets copied; `edit_list`: copied from the keyframe before, with what precedes hidden; "
        "`h264`: encoded again; `reference`: no bytes, source and span are the clip."
    ),
    "num_frames": Meaning("Frames that a player shows."),
    "num_hidden_frames": Meaning("Frames in the bytes that the edit list hides."),
    "has_audio": Meaning("Whether the clip has sound."),
}

_CONTROL: Mapping[str, Meaning] = {
    "kind": Meaning(
        "`desired`: what is wanted of a consumer; `audit`: one request; `watch`: how far a watch is; `takedown`: what "
        "was taken down; `takedown_done`: who has obeyed that."
    ),
    "key": Meaning("What it is about: a consumer, a request, a location, a takedown."),
    "value": Meaning("The rest, as JSON."),
    "actor": Meaning("Who asked for it."),
    "reason": Meaning("Why, in their words."),
    "at": Meaning("When.", _UTC),
}

MEANINGS: Mapping[str, Mapping[str, Meaning]] = {
    RAW.role: _RAW,
    LEDGER.role: _LEDGER,
    CURATED.role: _CURATED,
    CONTROL.role: _CONTROL,
}
"""By role of the table and name of the column."""
