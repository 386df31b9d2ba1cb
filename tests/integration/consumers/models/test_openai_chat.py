import base64
import io
import json
import logging
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from consumers.errors import ConfigurationError
from consumers.models.captioners.openai_chat import (
    CaptionRefusedError,
    ModelServerUnavailableError,
    OpenAIChatCaptioner,
)
from schemas.models import OpenAIChatParams
from schemas.records import FailureKind, Stage
from tests.support.tiny_models import random_frames

KEY = "sk-very-secret"
CLIP = random_frames(3, 40, 64, seed=0)
Reply = tuple[int, dict[str, str], bytes]


def answer(text: str | None, finish_reason: str = "stop") -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return 200, {}, json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


class ChatServer:
    """A chat server on a loopback port; ``reply`` is asked what to answer to each request, by its number from 0."""

    def __init__(self) -> None:
        self.reply: Callable[[int, dict[str, Any]], Reply] = lambda _number, _body: answer("a cat")
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.changed = Condition()
        chat = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_args: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with chat.changed:
                    number = len(chat.requests)
                    chat.requests.append((self.path, dict(self.headers), body))
                    chat.at_once += 1
                    chat.most_at_once = max(chat.most_at_once, chat.at_once)
                    chat.changed.notify_all()
                try:
                    status, headers, content = chat.reply(number, body)
                finally:
                    with chat.changed:
                        chat.at_once -= 1
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ChatServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def delays() -> list[float]:
    return []


@pytest.fixture
def connect(chat: ChatServer, delays: list[float]) -> Iterator[Callable[..., OpenAIChatCaptioner]]:
    made: list[OpenAIChatCaptioner] = []

    def connect_with(**changes: Any) -> OpenAIChatCaptioner:
        params = OpenAIChatParams(**{"kind": "openai_chat", "model": "qwen", "base_url": chat.url, **changes})
        made.append(OpenAIChatCaptioner(params, KEY, sleep=delays.append, draw=lambda: 0.5))
        return made[-1]

    yield connect_with
    for captioner in made:
        captioner.close()


def test_clip_is_sent_as_images_in_order_with_deterministic_settings(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner]
) -> None:
    captioner = connect(prompt="What happens?", max_new_tokens=50)
    assert captioner.caption([CLIP]) == ["a cat"]
    path, headers, body = chat.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("qwen", 0, 0, 50)
    text, *images = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "What happens?"}
    assert len(images) == 3
    for part, frame in zip(images, CLIP, strict=True):
        head, _, data = part["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        assert np.abs(shown - frame).mean() < 12


def test_captions_come_back_in_the_order_of_the_clips(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner]
) -> None:
    chat.reply = lambda _number, body: answer(f" {len(body['messages'][0]['content']) - 1} \n frames ")
    clips = [CLIP[:2], CLIP[:1], CLIP, CLIP[:1]]
    assert connect().caption(clips) == ["2 frames", "1 frames", "3 frames", "1 frames"]


def test_more_frames_than_allowed_are_spread(chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner]) -> None:
    connect(max_frames=2).caption([CLIP])
    assert len(chat.requests[0][2]["messages"][0]["content"]) == 3


def test_requests_at_once_reach_but_never_exceed_the_bound(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner]
) -> None:
    def reply(number: int, _body: dict[str, Any]) -> Reply:
        with chat.changed:
            # Held until the bound is reached: if it never were, this would end without an answer.
            assert chat.changed.wait_for(lambda: chat.most_at_once >= 3, timeout=20)
        return answer(str(number))

    chat.reply = reply
    assert len(connect(concurrency=3).caption([CLIP[:1]] * 12)) == 12
    assert chat.most_at_once == 3


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_passing_fault_is_tried_again_with_growing_delays(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner], delays: list[float], status: int
) -> None:
    chat.reply = lambda number, _body: (status, {}, b"busy") if number < 3 else answer("a dog")
    assert connect().caption([CLIP]) == ["a dog"]
    assert delays == [0.75, 1.5, 3.0]


def test_delay_that_the_server_asks_for_is_kept_up_to_a_limit(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner], delays: list[float]
) -> None:
    waits = ["7", "100000", "Wed, 21 Oct 2026 07:28:00 GMT"]
    chat.reply = lambda number, _body: (
        (429, {"Retry-After": waits[number]}, b"") if number < len(waits) else answer("a dog")
    )
    assert connect().caption([CLIP]) == ["a dog"]
    assert delays == [7.0, 30.0, 3.0]


def test_server_that_stays_down_is_a_retryable_error_with_its_words(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner], delays: list[float]
) -> None:
    chat.reply = lambda _number, _body: (503, {}, b"loading the model")
    with pytest.raises(ModelServerUnavailableError, match=r"in 2 attempts \(status 503: loading the model\)"):
        connect(max_attempts=2).caption([CLIP])
    assert len(chat.requests) == 2
    assert len(delays) == 1


def test_server_that_is_not_there_is_a_retryable_error(connect: Callable[..., OpenAIChatCaptioner]) -> None:
    with pytest.raises(ModelServerUnavailableError, match="ConnectError"):
        connect(base_url="http://127.0.0.1:9/v1").caption([CLIP])


def test_answer_that_does_not_come_in_time_is_tried_again(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner]
) -> None:
    captioner = connect(timeout_s=0.3)

    def reply(number: int, _body: dict[str, Any]) -> Reply:
        if number == 0:
            with chat.changed:
                chat.changed.wait_for(lambda: len(chat.requests) > 1, timeout=20)
        return answer("late")

    chat.reply = reply
    assert captioner.caption([CLIP]) == ["late"]
    assert len(chat.requests) == 2


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "it does not accept the key"),
        (403, "the key may not do this"),
        (404, "there is no such model or path"),
        (307, "it redirects elsewhere"),
    ],
)
def test_wrong_key_model_or_address_is_a_configuration_error_and_not_repeated(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner], status: int, message: str
) -> None:
    chat.reply = lambda _number, _body: (status, {"Location": "http://127.0.0.1:9/"}, b"no")
    with pytest.raises(ConfigurationError, match=rf"model qwen: .*{message}.*correct base_url, model or api_key_env"):
        connect().caption([CLIP])
    assert len(chat.requests) == 1


def test_refused_clip_fails_alone_and_for_good(chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner]) -> None:
    chat.reply = lambda _number, _body: (400, {}, b"image too small")
    with pytest.raises(CaptionRefusedError, match="status 400: image too small") as caught:
        connect().caption([CLIP])
    failure = caught.value.to_failure()
    assert (failure.kind, failure.stage) == (FailureKind.PERMANENT, Stage.CAPTION)
    assert len(chat.requests) == 1


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_answer_without_text_is_never_an_empty_caption(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner], text: str | None
) -> None:
    chat.reply = lambda _number, _body: answer(text, "content_filter")
    with pytest.raises(CaptionRefusedError, match=r"no text .*content_filter"):
        connect().caption([CLIP])


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"choices": []}', b"[]"])
def test_server_of_another_kind_is_named_as_such(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner], body: bytes
) -> None:
    chat.reply = lambda _number, _body: (200, {}, body)
    with pytest.raises(ModelServerUnavailableError, match="does not answer as the OpenAI chat API does"):
        connect().caption([CLIP])


def test_key_appears_in_no_log_and_no_message(
    chat: ChatServer, connect: Callable[..., OpenAIChatCaptioner], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    chat.reply = lambda _number, _body: (401, {}, f"unknown key {KEY}".encode())
    with pytest.raises(ConfigurationError, match=r"unknown key \*\*\*") as caught:
        connect().caption([CLIP])
    assert KEY not in str(caught.value)
    assert KEY not in caplog.text


def test_key_is_taken_from_the_named_variable(chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    params = OpenAIChatParams(kind="openai_chat", model="qwen", base_url=chat.url, api_key_env="CAPTION_KEY")
    monkeypatch.delenv("CAPTION_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=r"environment variable CAPTION_KEY, .* is not set"):
        OpenAIChatCaptioner.load(params)
    monkeypatch.setenv("CAPTION_KEY", KEY)
    captioner = OpenAIChatCaptioner.load(params)
    captioner.caption([CLIP])
    captioner.close()
    assert chat.requests[0][1]["Authorization"] == f"Bearer {KEY}"


def test_clip_without_frames_is_an_error(connect: Callable[..., OpenAIChatCaptioner]) -> None:
    with pytest.raises(ValueError, match="clip 0 of 1 has no frames"):
        connect().caption([[]])
