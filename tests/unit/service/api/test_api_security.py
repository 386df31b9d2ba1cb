"""Who may do what, and what is refused before anybody is asked."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import stat
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from consumers.errors import ConfigurationError
from consumers.testing import FakeClock
from service.api.app import create_app
from service.api.guard import MAX_BODY_BYTES
from service.api.security import COOKIE, CSRF_HEADER
from service.api.sessions import SESSION_S, SessionFile
from service.api.tokens import Role, digest_of, load_tokens
from service.cli.main import app
from service.settings import load_settings
from tests.support.api import NOON, TOKENS, Service

pytestmark = pytest.mark.anyio

V1 = "/api/v1"
FILMS = f"{V1}/consumers/films"
# Every route under /api/v1 with the lowest role that may use it; None needs no token.
ROUTES: dict[tuple[str, str], Role | None] = {
    ("GET", f"{V1}/consumers"): Role.READ,
    ("GET", f"{V1}/consumers/{{consumer_id}}"): Role.READ,
    ("GET", f"{V1}/consumers/{{consumer_id}}/lag"): Role.READ,
    ("GET", f"{V1}/consumers/{{consumer_id}}/throughput"): Role.READ,
    ("GET", f"{V1}/consumers/{{consumer_id}}/stages"): Role.READ,
    ("GET", f"{V1}/consumers/{{consumer_id}}/commits"): Role.READ,
    ("GET", f"{V1}/consumers/{{consumer_id}}/errors"): Role.READ,
    ("GET", f"{V1}/consumers/{{consumer_id}}/trail"): Role.READ,
    ("PUT", f"{V1}/consumers/{{consumer_id}}/pause"): Role.OPERATE,
    ("PUT", f"{V1}/consumers/{{consumer_id}}/resume"): Role.OPERATE,
    ("PUT", f"{V1}/consumers/{{consumer_id}}/stop"): Role.OPERATE,
    ("POST", f"{V1}/consumers/{{consumer_id}}/restart"): Role.OPERATE,
    ("GET", f"{V1}/consumers/{{consumer_id}}/position"): Role.READ,
    ("PUT", f"{V1}/consumers/{{consumer_id}}/position"): Role.ADMIN,
    ("GET", f"{V1}/consumers/{{consumer_id}}/dead-letters"): Role.READ,
    ("POST", f"{V1}/consumers/{{consumer_id}}/dead-letters/replay"): Role.OPERATE,
    ("GET", f"{V1}/consumers/{{consumer_id}}/rejected"): Role.READ,
    ("GET", f"{V1}/consumers/{{consumer_id}}/audit"): Role.OPERATE,
    ("POST", f"{V1}/consumers/{{consumer_id}}/takedowns"): Role.ADMIN,
    ("GET", f"{V1}/consumers/{{consumer_id}}/takedowns"): Role.READ,
    ("POST", f"{V1}/videos"): Role.OPERATE,
    ("GET", f"{V1}/videos"): Role.READ,
    ("GET", f"{V1}/videos/{{row_id}}"): Role.READ,
    ("GET", f"{V1}/clips"): Role.READ,
    ("GET", f"{V1}/clips/{{clip_id}}"): Role.READ,
    ("GET", f"{V1}/clips/{{clip_id}}/media"): Role.READ,
    ("GET", f"{V1}/clips/{{clip_id}}/thumbnail"): Role.READ,
    ("POST", f"{V1}/session"): None,
    ("GET", f"{V1}/session"): Role.READ,
    ("DELETE", f"{V1}/session"): None,
    ("GET", f"{V1}/events"): Role.READ,
    ("GET", "/livez"): None,
    ("GET", "/readyz"): None,
    ("GET", "/startupz"): None,
    ("GET", "/version"): None,
}
BODIES: dict[str, Any] = {
    f"{V1}/consumers/{{consumer_id}}/position": {"offset": 1},
    f"{V1}/consumers/{{consumer_id}}/dead-letters/replay": {"stage": "decode"},
    f"{V1}/consumers/{{consumer_id}}/takedowns": {"kind": "video_id", "value": "v1"},
    f"{V1}/videos": {"uris": ["file:///videos/a.mp4"]},
    f"{V1}/session": {"token": TOKENS[Role.READ]},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def service() -> Service:
    # Its consumer is not started: this is about what is let through.
    return Service()


@pytest.fixture
async def anybody(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client(None) as client:
        yield client


async def test_every_route_of_the_application_is_in_the_table_of_roles(service: Service) -> None:
    found = {
        (method.upper(), path) for path, operations in service.app.openapi()["paths"].items() for method in operations
    }
    assert found == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), list(ROUTES), ids=str)
async def test_role_decides_what_is_let_through(service: Service, method: str, path: str) -> None:
    needed = ROUTES[method, path]
    if path == f"{V1}/events":
        # Endless for those who may; its refusals are what is of interest here.
        roles: list[Role | None] = [None]
    else:
        roles = [None, *Role]
    url = path.format(consumer_id="films", row_id=7, clip_id=f"{1:032x}")
    for role in roles:
        async with service.client(role) as client:
            answer = await client.request(method, url, json=BODIES.get(path))
        if needed is None or (role is not None and role >= needed):
            assert answer.status_code not in {401, 403}, (role, answer.text)
        else:
            assert answer.status_code == (401 if role is None else 403)
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("header", "code", "detail"),
    [
        (b"Bearer wrong-token-0123456789", "token-unknown", "not known"),
        (b"Bearer expired-token-0123456789", "token-expired", "expired, at 2020-05-01 12:00 UTC"),
        (b"Bearer", "unauthorized", "send a token"),
        (b"Basic YTpi", "unauthorized", "send a token"),
        (f"Bearer {TOKENS[Role.ADMIN][:-1]}".encode(), "token-unknown", "not known"),
        (f"Bearer {TOKENS[Role.ADMIN][:10]}".encode(), "token-malformed", "at least 20 characters"),
        (f"Bearer {TOKENS[Role.ADMIN]} {TOKENS[Role.ADMIN]}".encode(), "token-malformed", "one word"),
        (b"Bearer \xff\xfe-token-of-the-tests-0123", "token-malformed", "one word"),
    ],
)
async def test_token_that_is_wrong_expired_or_malformed_is_401_that_says_which(
    anybody: httpx.AsyncClient, header: bytes, code: str, detail: str
) -> None:
    answer = await anybody.get(f"{V1}/consumers", headers={b"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:sluice:problem:{code}"
    assert detail in answer.json()["detail"]
    assert "tests-0123" not in answer.text


@pytest.mark.parametrize("method", ["bearer", "cookie"])
@pytest.mark.parametrize("role", [None, *Role])
async def test_events_flow_to_every_role_and_to_the_page_and_to_nobody_else(
    service: Service, anybody: httpx.AsyncClient, role: Role | None, method: str
) -> None:
    headers = {"Host": "127.0.0.1"}
    if role is not None and method == "bearer":
        headers["Authorization"] = f"Bearer {TOKENS[role]}"
    elif role is not None:
        await log_in(anybody, role)
        headers["Cookie"] = f"{COOKIE}={anybody.cookies[COOKIE]}"
    elif method == "cookie":
        headers["Cookie"] = f"{COOKIE}=a.b.c"
    messages = await first_messages(service.app, f"{V1}/events", headers)
    assert messages[0]["status"] == (401 if role is None else 200)
    body = b"".join(message.get("body", b"") for message in messages)
    assert body.startswith(b"retry: " if role is not None else b'{"type"')


async def first_messages(app: Any, path: str, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Return what is answered up to the first part of the body, and leave then: a stream never ends by itself."""
    messages: list[dict[str, Any]] = []
    has_body = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await has_body.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        messages.append(message)
        if message.get("body"):
            has_body.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await asyncio.wait_for(app(scope, receive, send), 30)
    return messages


async def test_caller_that_keeps_failing_is_refused_for_a_while_and_nobody_else_with_him(
    service: Service, anybody: httpx.AsyncClient
) -> None:
    wrong = {"Authorization": "Bearer wrong-token-0123456789"}
    right = {"Authorization": f"Bearer {TOKENS[Role.READ]}"}
    for _ in range(10):
        assert (await anybody.get(f"{V1}/consumers", headers=wrong)).status_code == 401
    refused = await anybody.get(f"{V1}/consumers", headers=wrong)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) <= 61
    # Of the same address: somebody with a token that is known, and somebody who mistyped his once.
    assert (await anybody.get(f"{V1}/consumers", headers=right)).status_code == 200
    other = {"Authorization": "Bearer another-wrong-token-0123"}
    assert (await anybody.get(f"{V1}/consumers", headers=other)).status_code == 401
    assert (await anybody.get("/livez")).status_code == 503
    service.clock.advance(61)
    assert (await anybody.get(f"{V1}/consumers", headers=wrong)).status_code == 401


async def test_address_that_tries_many_tokens_is_refused_and_its_known_ones_are_not(anybody: httpx.AsyncClient) -> None:
    async def status(token: str) -> int:
        return (await anybody.get(f"{V1}/consumers", headers={"Authorization": f"Bearer {token}"})).status_code

    assert {await status(f"guessed-token-{number:08}") for number in range(100)} == {401}
    assert await status("one-more-token-00000000") == 429
    assert await status(TOKENS[Role.ADMIN]) == 200


async def log_in(client: httpx.AsyncClient, role: Role = Role.OPERATE) -> str:
    answer = await client.post(f"{V1}/session", json={"token": TOKENS[role]})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    return str(answer.json()["csrf_token"])


async def test_page_logs_in_with_a_cookie_and_writes_with_its_csrf_token(anybody: httpx.AsyncClient) -> None:
    csrf = await log_in(anybody)
    assert (await anybody.get(f"{V1}/session")).json()["actor"] == "operate"
    for headers in ({}, {CSRF_HEADER: "0" * 64}, {CSRF_HEADER: b"\xff"}):
        refused = await anybody.put(f"{FILMS}/pause", headers=headers)  # type: ignore[arg-type]
        assert refused.status_code == 403
        assert refused.json()["type"] == "urn:sluice:problem:csrf"
    assert (await anybody.put(f"{FILMS}/pause", headers={CSRF_HEADER: csrf})).status_code == 202
    assert (await anybody.delete(f"{V1}/session")).status_code == 204
    assert (await anybody.get(f"{V1}/session")).status_code == 401


@pytest.mark.parametrize(
    "forge",
    [
        lambda cookie: cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
        lambda cookie: cookie.replace("operate", "admin"),
        lambda cookie: "",
        lambda cookie: "a.b.c",
        lambda cookie: cookie.split(".")[0],
    ],
)
async def test_forged_cookie_is_nobody(anybody: httpx.AsyncClient, forge: Any) -> None:
    await log_in(anybody)
    cookie = forge(anybody.cookies[COOKIE])
    anybody.cookies.clear()
    answer = await anybody.get(f"{V1}/session", headers={"Cookie": f"{COOKIE}={cookie}"})
    assert answer.status_code == 401


async def test_session_outlives_a_restart_and_ends_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "tokens.sessions.json"
    async with Service(session_file=file).client(None) as client:
        await log_in(client)
        cookies = client.cookies
    assert file.stat().st_mode & 0o077 == 0
    restarted = Service(session_file=file)
    async with restarted.client(None, cookies=cookies) as client:
        assert (await client.get(f"{V1}/session")).status_code == 200
        restarted.clock.advance(SESSION_S + 1)
        assert (await client.get(f"{V1}/session")).status_code == 401


async def test_copy_of_a_cookie_is_nobody_after_the_log_out_and_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "tokens.sessions.json"
    async with Service(session_file=file).client(None) as client:
        await log_in(client)
        copied = {COOKIE: client.cookies[COOKIE]}
        await log_in(client)
        other = {COOKIE: client.cookies[COOKIE]}
        client.cookies.clear()
        client.cookies.update(copied)
        assert (await client.delete(f"{V1}/session")).status_code == 204
        client.cookies.update(copied)
        assert (await client.get(f"{V1}/session")).status_code == 401
    for cookies, status in ((copied, 401), (other, 200)):
        async with Service(session_file=file).client(None, cookies=cookies) as client:
            assert (await client.get(f"{V1}/session")).status_code == status


async def test_hashes_of_the_tokens_make_no_cookie(service: Service, anybody: httpx.AsyncClient) -> None:
    """Who reads the token file knows digests and names; the key of the sessions is in neither."""
    digests = "".join(sorted(digest_of(token) for token in TOKENS.values()))
    claim = f"admin.{int(service.clock.now().timestamp()) + 3600}.{'0' * 24}"
    for key in (hashlib.sha256(b"sluice-session" + digests.encode()).digest(), bytes.fromhex(digests[:64]), b""):
        for text in (f"session:{claim}", "\x1f".join(("session", digest_of(TOKENS[Role.ADMIN]), claim))):
            forged = f"{claim}.{hmac.new(key, text.encode(), 'sha256').hexdigest()}"
            answer = await anybody.get(f"{V1}/session", headers={"Cookie": f"{COOKIE}={forged}"})
            assert answer.status_code == 401


@pytest.mark.parametrize("content", ["", "{}", '{"key": "00", "ended": {}}', '{"key": "zz", "ended": {}}', "[]"])
def test_damaged_session_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokens.sessions.json"
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"tokens\.sessions\.json: is damaged .*; delete it"):
        SessionFile(file)


def test_session_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens.sessions.json"
    SessionFile(file)
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others can read or write it"):
        SessionFile(file)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "127.0.0.1@evil", "localhost:99999999"])
async def test_forged_host_is_refused_before_anything_else(anybody: httpx.AsyncClient, host: str) -> None:
    answer = await anybody.get("/livez", headers={"Host": host})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:sluice:problem:host-not-allowed"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8765", "LOCALHOST:1", "[::1]:8765"])
async def test_own_names_are_known(anybody: httpx.AsyncClient, host: str) -> None:
    assert (await anybody.get("/version", headers={"Host": host})).status_code == 200


async def test_allowed_host_is_known(service: Service) -> None:
    app = create_app(service.services, allowed_hosts=["Sluice.Example"])
    async with service.client(app=app) as client:
        assert (await client.get("/version", headers={"Host": "sluice.example:443"})).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://127.0.0.1.evil"])
async def test_write_from_another_site_is_refused_even_with_a_token(service: Service, origin: str) -> None:
    async with service.client() as client:
        answer = await client.put(f"{FILMS}/pause", headers={"Origin": origin})
        assert answer.status_code == 403
        assert (await client.put(f"{FILMS}/pause", headers={"Origin": "http://127.0.0.1"})).status_code == 202


async def test_oversized_body_is_refused_with_and_without_its_length(service: Service) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b" " * 65536

    async with service.client() as client:
        headers = {"Content-Type": "application/json"}
        for content in (b" " * (MAX_BODY_BYTES + 1), chunks()):
            answer = await client.post(f"{V1}/videos", content=content, headers=headers)
            assert answer.status_code == 413
            assert answer.json()["type"] == "urn:sluice:problem:body-too-large"


async def test_every_answer_carries_the_security_headers(anybody: httpx.AsyncClient) -> None:
    for path in ("/version", "/nowhere", f"{V1}/consumers"):
        headers = (await anybody.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


@pytest.mark.parametrize("path", ["/nowhere", "/docs", "/redoc", f"{V1}/../../etc/passwd", "/%2e%2e/etc/passwd"])
async def test_path_that_is_none_is_a_problem(anybody: httpx.AsyncClient, path: str) -> None:
    answer = await anybody.get(path)
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:sluice:problem:not-found"


async def test_wrong_method_is_a_problem_that_says_which_are_right(anybody: httpx.AsyncClient) -> None:
    answer = await anybody.post("/livez")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_error_inside_tells_the_log_and_not_the_caller(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(num_decoded: int) -> None:
        raise RuntimeError("password=hunter2")

    service.library.audit = broken  # type: ignore[method-assign, assignment]
    async with service.client() as client:
        answer = await client.get(f"{FILMS}/audit")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text


def test_tokens_are_made_once_privately_and_kept_as_hashes(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    store, new = load_tokens(file, {})
    assert new is not None
    handed_out = dict(
        line.split() for line in new.handout.read_text().splitlines() if line and not line.startswith("#")
    )
    for path in (file, new.handout):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for word, token in handed_out.items():
        assert token not in file.read_text()
        found = store.find(token)
        assert found is not None
        assert found.role.word == word
    again, none = load_tokens(file, {})
    assert none is None
    assert again.find(handed_out["read"]) is not None


def test_tokens_given_directly_leave_no_file(tmp_path: Path) -> None:
    store, new = load_tokens(tmp_path / "tokens.json", {Role.OPERATE: "a-token-of-some-length"})
    assert new is None
    found = store.find("a-token-of-some-length")
    assert found is not None
    assert found.role is Role.OPERATE
    assert list(tmp_path.iterdir()) == []


def test_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    load_tokens(file, {})
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_tokens(file, {})


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"tokens": []}',
        '{"tokens": [{"name": "a", "role": "emperor", "sha256": "00"}]}',
        json.dumps({"tokens": [{"name": "a", "role": "read", "sha256": "00"}]}),
        json.dumps({"tokens": [{"name": "a;b", "role": "read", "sha256": "00" * 32}]}),
        json.dumps({"tokens": [{"name": "a", "role": "read", "sha256": "00" * 32}] * 2}),
        json.dumps({"tokens": [{"name": "a", "role": "read", "sha256": "00" * 32, "expires_at": "soon"}]}),
    ],
)
def test_token_file_that_does_not_fit_is_named_with_what_to_do(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tokens.json"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match=f"token file {file}"):
        load_tokens(file, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        load_tokens(tmp_path / "tokens.json", {})


def test_token_of_the_command_line_is_known_ends_when_told_and_is_replaced_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "sluice-tokens.json"
    config = tmp_path / "sluice.toml"
    config.write_text('[catalog]\nwarehouse = "/w"\n')
    _, new = load_tokens(file, {})
    runner = CliRunner()
    made = [
        json.loads(runner.invoke(app, ["token", "alice", "--config", str(config), "--json", *more]).stdout)
        for more in ([], ["--role", "operate", "--days", "30"])
    ]
    assert all(item["token"] not in file.read_text() for item in made)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    store, none = load_tokens(file, {})
    assert (new is not None, none) == (True, None)
    assert store.find(made[0]["token"]) is None
    found = store.find(made[1]["token"])
    assert found is not None
    assert (found.name, found.role) == ("alice", Role.OPERATE)
    assert found.expires_at is not None
    assert found.has_expired(datetime.fromisoformat(made[1]["expires_at"]))
    assert not found.has_expired(found.expires_at - timedelta(days=29))
    # Those that were there before still are.
    assert store.named("admin") is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["a;b"], "token name 'a;b'"), (["alice", "--role", "emperor"], "give read, operate or admin")],
)
def test_token_that_does_not_fit_is_refused_with_what_to_do(tmp_path: Path, arguments: list[str], message: str) -> None:
    config = tmp_path / "sluice.toml"
    config.write_text('[catalog]\nwarehouse = "/w"\n')
    result = CliRunner().invoke(app, ["token", *arguments, "--config", str(config)])
    assert message in str(result.exception)
    assert not (tmp_path / "sluice-tokens.json").exists()


def test_token_ends_when_it_expires(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    token = {"name": "a", "role": "read", "sha256": "ab" * 32, "expires_at": NOON.isoformat()}
    file.write_text(json.dumps({"tokens": [token]}))
    file.chmod(0o600)
    store, _ = load_tokens(file, {})
    found = store.named("a")
    assert found is not None
    assert found.has_expired(NOON)
    assert not found.has_expired(FakeClock().now())


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ('host = "0.0.0.0"', "insecure_behind_proxy"),
        ('host = "sluice.example"', "there is no TLS"),
        ('host = "::"', "there is no TLS"),
        ('tls_key = "key.pem"', "go together"),
        ('tokens = { admin = "short" }', "api.tokens.admin"),
    ],
)
def test_listening_without_protection_is_refused(tmp_path: Path, section: str, expected: str) -> None:
    file = tmp_path / "sluice.toml"
    file.write_text(f'[catalog]\nwarehouse = "/w"\n[api]\n{section}\n')
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file)
    assert expected in str(caught.value)
    assert "short" not in str(caught.value).replace("shorter", "")


@pytest.mark.parametrize("section", ['host = "::1"', 'host = "0.0.0.0"\ninsecure_behind_proxy = true'])
def test_listening_with_protection_is_allowed(tmp_path: Path, section: str) -> None:
    file = tmp_path / "sluice.toml"
    file.write_text(f'[catalog]\nwarehouse = "/w"\n[api]\n{section}\n')
    assert load_settings(file).api.port == 8765
