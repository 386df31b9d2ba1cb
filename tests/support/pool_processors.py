"""Video processors for tests of the pools, importable by their workers. A row's metadata says what to do."""

import ctypes
import hashlib
import logging
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from consumers.errors import NotAVideoError
from consumers.models.calls import MODEL_STAGES
from consumers.pool_report import VideoProgress
from consumers.ports import VideoProcessor
from consumers.testing import kept_outcome, make_video, rejected_outcome
from schemas.records import Stage, VideoOutcome, VideoTask


class ScriptedProcessor:
    """Does what ``metadata["do"]`` of the row says; what it needs beside it stands in ``metadata["with"]``."""

    def process(self, task: VideoTask, progress: VideoProgress) -> VideoOutcome:
        metadata = task.video.metadata
        self._progress = progress
        action: Callable[[VideoTask, str], VideoOutcome] = getattr(self, f"_{metadata.get('do', 'keep')}")
        return action(task, metadata.get("with", ""))

    def _keep(self, task: VideoTask, argument: str) -> VideoOutcome:
        return kept_outcome(task.video, clip_bytes=int(argument or 10))

    def _reject(self, task: VideoTask, argument: str) -> VideoOutcome:
        return rejected_outcome(task.video)

    def _raise(self, task: VideoTask, argument: str) -> VideoOutcome:
        raise ZeroDivisionError(argument)

    def _raise_video_error(self, task: VideoTask, argument: str) -> VideoOutcome:
        raise NotAVideoError(argument)

    def _exit(self, task: VideoTask, argument: str) -> VideoOutcome:
        os._exit(7)

    def _kill(self, task: VideoTask, argument: str) -> VideoOutcome:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    def _segfault(self, task: VideoTask, argument: str) -> VideoOutcome:
        logging.getLogger("decoder").warning("the last words of row %d", task.video.row_id)
        ctypes.string_at(0)
        raise AssertionError("unreachable")

    def _burn(self, task: VideoTask, argument: str) -> VideoOutcome:
        """Use the CPU of several threads, as a library may that decodes in threads of its own."""
        for _ in range(int(argument)):
            threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha512", b"", b"", 10**9), daemon=True).start()
        time.sleep(600)
        raise AssertionError("unreachable")

    def _allocate(self, task: VideoTask, argument: str) -> VideoOutcome:
        held = bytearray(int(argument))
        return rejected_outcome(replace(task.video, row_id=len(held)))

    def _crash_once(self, task: VideoTask, argument: str) -> VideoOutcome:
        if task.attempt == 1:
            os._exit(7)
        return self._keep(task, "")

    def _hang(self, task: VideoTask, argument: str) -> VideoOutcome:
        """Hang as a decoder does: in native code, deaf to Python."""
        ctypes.CDLL(None).sleep(600)
        raise AssertionError("unreachable")

    def _wait_for_file(self, task: VideoTask, argument: str) -> VideoOutcome:
        while not Path(argument).exists():
            time.sleep(0.01)
        return self._keep(task, "")

    def _stand_at(self, task: VideoTask, argument: str) -> VideoOutcome:
        """Stay at a stage until a file is there: ``argument`` names both."""
        stage, _, path = argument.partition("@")
        self._progress.enter(Stage(stage))
        with self._progress.asking(Stage(stage)) if Stage(stage) in MODEL_STAGES.values() else nullcontext():
            return self._wait_for_file(task, path)

    def _tell_environment(self, task: VideoTask, argument: str) -> VideoOutcome:
        video = replace(task.video, row_id=int(os.environ.get(argument, "-1")))
        return rejected_outcome(video)

    def _tell_memory_limit(self, task: VideoTask, argument: str) -> VideoOutcome:
        return rejected_outcome(replace(task.video, row_id=resource.getrlimit(resource.RLIMIT_DATA)[0]))

    def _tell_pid(self, task: VideoTask, argument: str) -> VideoOutcome:
        return rejected_outcome(replace(task.video, row_id=os.getpid()))


def make_scripted() -> VideoProcessor:
    return ScriptedProcessor()


def make_broken() -> VideoProcessor:
    raise RuntimeError("the model is missing")


def task(row_id: int, do: str = "keep", argument: str = "", *, deadline_s: float = 60.0, attempt: int = 1) -> VideoTask:
    video = replace(make_video(row_id), metadata={"do": do, "with": argument})
    return VideoTask(video, attempt, deadline_s)
