"""Where a video's finished clips go: the first few MB into its outcome, the others to the store."""

from __future__ import annotations

from typing import BinaryIO, cast

from consumers.media.cut import CutResult
from consumers.ports import ClipStaging
from schemas.records import BlobReference, ClipMedia

HELD_BYTES = 8 * 2**20
"""An outcome holds so many bytes of clips."""


class ClipDelivery:
    """The clips of one video.

    Args:
        staging: takes what is too much for the outcome; None keeps everything there.
    """

    def __init__(self, staging: ClipStaging | None) -> None:
        self._staging = staging
        self._held_bytes = 0
        self._staged: list[BlobReference] = []

    def deliver(self, clip_id: str, cut: CutResult, thumbnail: bytes, *, source_has_audio: bool) -> ClipMedia:
        """Return the clip for the outcome, and close the file of ``cut``.

        Raises:
            StagingUnavailableError: the store did not take it.
        """
        data: bytes | None = None
        staged: BlobReference | None = None
        if cut.file is not None:
            with cut.file as file:
                if self._staging is None or self._held_bytes + cut.size_bytes <= HELD_BYTES:
                    data = file.read()
                    self._held_bytes += cut.size_bytes
                else:
                    staged = self._staging.put(clip_id, cast(BinaryIO, file))
                    self._staged.append(staged)
        return ClipMedia(
            cut_method=cut.method,
            data=data,
            thumbnail_jpeg=thumbnail,
            num_frames=cut.num_frames,
            num_hidden_frames=cut.num_hidden_frames,
            # Without bytes of its own a clip has the sound of its source.
            has_audio=source_has_audio if cut.file is None else cut.has_audio,
            staged=staged,
        )

    def take_back(self) -> None:
        """Delete what went to the store: the video has failed after all."""
        if self._staging is not None:
            self._staging.discard(self._staged)
