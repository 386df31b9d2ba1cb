"""Models in other processes, as a curator replica asks them: through Serve's handles, frames by reference."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from consumers.clock import Deadline
from consumers.models.base import Frame
from consumers.models.calls import MODEL_STAGES, Answer, ClipModels, ModelUnavailableError, NoAnswer
from schemas.records import Stage

Value = TypeVar("Value")

_MAX_CALLS = 5
_FIRST_PAUSE_S = 0.2


class RemoteModel(Generic[Value]):
    """One model stage behind a Serve handle.

    A model replica that ends takes with it every call that it held, most of them innocent: they are made again, and
    each alone from then on, so that a clip that ends replicas meets the others no more.

    Args:
        handle: of the deployment.
        stage: that it serves.
    """

    def __init__(self, handle: Any, stage: Stage) -> None:
        self._handle = handle
        self._stage = stage

    def ask(self, frames: Sequence[Frame], deadline: Deadline) -> Answer[Value]:
        """Return the model's answer; see :class:`~consumers.models.calls.ClipModel`."""
        import ray  # noqa: PLC0415 - see embedded_ray

        began_s = time.perf_counter()
        # Stored once, whichever replicas are tried.
        stored = ray.put(list(frames))
        reply = self._reply(stored, deadline)
        if isinstance(reply, NoAnswer):
            raise reply.to_error(self._stage)
        # Transport and Serve's own queue are waiting as well: all that was not the model's work on the batch.
        elapsed_s = time.perf_counter() - began_s
        queue_s = max(reply.call.queue_s, elapsed_s - reply.call.busy_s * reply.call.batch_size)
        return replace(reply, call=replace(reply.call, queue_s=queue_s))

    def _reply(self, stored: Any, deadline: Deadline) -> Answer[Value] | NoAnswer:
        from ray.exceptions import RayError, RayTaskError  # noqa: PLC0415
        from ray.serve.exceptions import RayServeException  # noqa: PLC0415

        problem = ""
        for number in range(_MAX_CALLS):
            method = self._handle.ask if number == 0 else self._handle.ask_alone
            response = method.remote(stored)
            try:
                reply: Answer[Value] | NoAnswer = response.result(timeout_s=max(0.001, deadline.left_s()))
                return reply
            except TimeoutError as error:
                response.cancel()
                raise ModelUnavailableError(
                    f"the model gave no answer by the video's deadline of {deadline.seconds:g} s", stage=self._stage
                ) from error
            except RayTaskError as error:
                problem = str(error).strip().splitlines()[-1]
            except (RayError, RayServeException) as error:
                problem = type(error).__name__
            time.sleep(min(_FIRST_PAUSE_S * 2**number, deadline.left_s()))
        raise ModelUnavailableError(f"no worker of the model lived to answer ({problem})", stage=self._stage)


def remote_models(handles: Mapping[str, Any]) -> ClipModels:
    """Return the models behind ``handles``, by field of :class:`~schemas.models.ModelsParams`."""
    return ClipModels(**{name: RemoteModel(handle, MODEL_STAGES[name]) for name, handle in handles.items()})
