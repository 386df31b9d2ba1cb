"""A captioner behind any server that speaks the OpenAI chat API with images, such as vLLM."""

from __future__ import annotations

import base64
import io
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from PIL import Image

from consumers.errors import ConfigurationError, RetryableError, VideoError
from consumers.models.base import Frame, ModelInfo, require_frames, spread
from schemas.models import OpenAIChatParams
from schemas.records import Stage

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_JPEG_QUALITY = 90
_MISCONFIGURED = {
    401: "it does not accept the key",
    403: "the key may not do this",
    404: "there is no such model or path",
}
_PASSING = {408, 425, 429}


class ModelServerUnavailableError(RetryableError):
    """The model server did not answer."""


class CaptionRefusedError(VideoError):
    """The model server gives no caption for this clip."""

    stage = Stage.CAPTION


class OpenAIChatCaptioner:
    """Asks a server for captions, several at once, at temperature 0 and with a fixed seed.

    Thread-safe: the bound on requests holds over all callers together.

    Args:
        params: server, model, prompt and bounds.
        key: sent as a bearer token, and never written anywhere; None sends none.
        sleep: waits between attempts, in seconds.
        draw: random numbers in 0 to 1, so that many workers do not come back at the same instant.
    """

    def __init__(
        self,
        params: OpenAIChatParams,
        key: str | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._params = params
        self._key = key
        self._sleep = sleep
        self._draw = draw
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=params.timeout_s,
            limits=httpx.Limits(max_connections=params.concurrency),
        )
        self._threads = ThreadPoolExecutor(params.concurrency, thread_name_prefix="caption")

    @classmethod
    def load(cls, params: OpenAIChatParams) -> OpenAIChatCaptioner:
        """Return a captioner with the key from the environment. Asks the server nothing yet.

        Raises:
            ConfigurationError: the environment variable that should hold the key is not set.
        """
        key = None
        if params.api_key_env is not None:
            key = os.environ.get(params.api_key_env)
            if not key:
                raise ConfigurationError(
                    f"model {params.model}: the environment variable {params.api_key_env}, which should hold the key "
                    f"for {params.base_url}, is not set; set it, or remove api_key_env"
                )
        return cls(params, key)

    @property
    def info(self) -> ModelInfo:
        """Which model answers, as far as it is known from here."""
        return ModelInfo(self._params.model, self._params.revision, self._params.base_url, None, None, None)

    def caption(self, clips: Sequence[Sequence[Frame]]) -> list[str]:
        """Return one caption per clip.

        Raises:
            ValueError: a clip without frames.
            ModelServerUnavailableError: the server did not answer in any attempt.
            CaptionRefusedError: the server refuses a clip.
            ConfigurationError: the server does not accept the key or knows no such model.
        """
        require_frames(clips)
        futures = [self._threads.submit(self._ask, frames) for frames in clips]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> None:
        """End open connections and threads."""
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def _ask(self, frames: Sequence[Frame]) -> str:
        content: list[dict[str, Any]] = [{"type": "text", "text": self._params.prompt}]
        for frame in spread(frames, self._params.max_frames):
            content.append({"type": "image_url", "image_url": {"url": _data_url(frame)}})
        body = {
            "model": self._params.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._params.max_new_tokens,
            "temperature": 0,
            "seed": 0,
        }
        problem = ""
        for attempt in range(self._params.max_attempts):
            wanted_s = 0.0
            try:
                response = self._client.post(f"{self._params.base_url}/chat/completions", json=body)
            except httpx.TransportError as error:
                problem = self._redacted(f"{type(error).__name__} {error}".strip())
            else:
                if response.is_success:
                    return self._text(response)
                problem = self._judge(response)
                wanted_s = _retry_after_s(response)
            if attempt + 1 < self._params.max_attempts:
                backoff_s = _FIRST_DELAY_S * 2**attempt * (1 + self._draw())
                self._sleep(min(_LONGEST_DELAY_S, max(wanted_s, backoff_s)))
        raise ModelServerUnavailableError(
            f"{self._params.base_url} gave no caption in {self._params.max_attempts} attempts ({problem}); check that "
            "the server runs and is not overloaded"
        )

    def _judge(self, response: httpx.Response) -> str:
        """Return what a passing fault says; raise for one that will not pass."""
        status = response.status_code
        said = f"status {status}: {self._redacted(response.text.strip()[:200])}"
        if status in _MISCONFIGURED or response.is_redirect:
            problem = _MISCONFIGURED.get(status, "it redirects elsewhere")
            raise ConfigurationError(
                f"model {self._params.model}: {self._params.base_url} answers that {problem} ({said}); correct "
                "base_url, model or api_key_env of the captioner"
            )
        if response.is_server_error or status in _PASSING:
            return said
        raise CaptionRefusedError(f"{self._params.base_url} refuses the clip with {said}")

    def _text(self, response: httpx.Response) -> str:
        try:
            choice = response.json()["choices"][0]
            text = choice["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise ModelServerUnavailableError(
                f"{self._params.base_url} does not answer as the OpenAI chat API does ({type(error).__name__}); check "
                "base_url"
            ) from error
        if not isinstance(text, str) or not text.strip():
            raise CaptionRefusedError(
                f"{self._params.base_url} gave no text (finish_reason {choice.get('finish_reason')!r})"
            )
        return " ".join(text.split())

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _data_url(frame: Frame) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _retry_after_s(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        # An HTTP date instead of seconds: rare, and the backoff does as well.
        return 0.0
