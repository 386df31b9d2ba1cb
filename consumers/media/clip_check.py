"""Do a clip's bytes decode to the frames that its row tells? Asked of a process of its own, which may die of them.

``python -m consumers.media.clip_check`` is that process: it reads clips from standard input, each behind its length
(8 bytes, big-endian), and answers each with a line of JSON.
"""

from __future__ import annotations

import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
from types import TracebackType
from typing import IO, BinaryIO

from consumers.clock import Deadline, SystemClock
from consumers.errors import VideoError
from consumers.media.decode import VideoDecoder
from schemas.profile import Limits

_LENGTH_BYTES = 8
_MAX_DATA_BYTES = 4 * 1024**3
_GRACE_S = 5.0


def decode_problem(data: bytes, num_frames: int, limits: Limits, deadline_s: float) -> str | None:
    """Return what is wrong with a clip, decoded in this process; None where nothing is.

    Args:
        data: the clip's bytes.
        num_frames: how many pictures it should show.
        limits: bounds on pixels and duration.
        deadline_s: seconds for it.
    """
    try:
        decoder = VideoDecoder(io.BytesIO(data), limits, Deadline(SystemClock(), deadline_s))
        try:
            found = sum(1 for _ in decoder.frames())
        finally:
            decoder.close()
    except VideoError as error:
        return f"does not decode: {error}"
    except MemoryError:
        return "does not decode: it needs more memory than a check may have"
    return None if found == num_frames else f"decodes to {found} frames, its row tells {num_frames}"


class ClipChecker:
    """Decodes clips in a child, one at a time; a child that dies or hangs is replaced. A context manager.

    Args:
        limits: bounds on pixels and duration.
        deadline_s: seconds for one clip.
    """

    def __init__(self, limits: Limits | None = None, *, deadline_s: float = 60.0) -> None:
        self._limits = limits or Limits()
        self._deadline_s = deadline_s
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ClipChecker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def problem(self, data: bytes, num_frames: int) -> str | None:
        """Return what is wrong with a clip, None where nothing is.

        Args:
            data: the clip's bytes.
            num_frames: how many pictures it should show.
        """
        child = self._started()
        requests, answers = _pipes(child)
        header = json.dumps({"num_frames": num_frames}).encode()
        try:
            for part in (header, data):
                requests.write(len(part).to_bytes(_LENGTH_BYTES, "big"))
                requests.write(part)
            requests.flush()
            # The child looks at its own deadline between packets; a picture that hangs it has to be ended from here.
            is_answered = bool(select.select([answers], [], [], self._deadline_s + _GRACE_S)[0])
            line = answers.readline() if is_answered else b""
        except BrokenPipeError:
            is_answered, line = True, b""
        if line:
            found: str | None = json.loads(line)["problem"]
            return found
        if not is_answered:
            self._end()
            return f"did not decode within {self._deadline_s:g} s"
        code = child.wait()
        self._end()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"ended the process that decoded it ({how})"

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            arguments = [self._limits.model_dump_json(), str(self._deadline_s)]
            self._child = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", __name__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("the child was started without pipes")
    return child.stdin, child.stdout


def _next(stream: BinaryIO) -> bytes | None:
    length = stream.read(_LENGTH_BYTES)
    return stream.read(int.from_bytes(length, "big")) if len(length) == _LENGTH_BYTES else None


def main(limits_json: str, deadline_s: str) -> None:
    """Answer until standard input ends."""
    limits = Limits.model_validate_json(limits_json)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = _MAX_DATA_BYTES if hard == resource.RLIM_INFINITY else min(_MAX_DATA_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    # What libav prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    while (header := _next(sys.stdin.buffer)) is not None and (data := _next(sys.stdin.buffer)) is not None:
        found = decode_problem(data, json.loads(header)["num_frames"], limits, float(deadline_s))
        print(json.dumps({"problem": found}), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
