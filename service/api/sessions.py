"""Sessions of the page: signed cookies, a key that nothing else tells, and the ends that people put to them."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consumers.clock import Clock
from consumers.errors import ConfigurationError
from service.api.tokens import Token, TokenStore, write_privately

SESSION_S = 12 * 3600
_KEY_BYTES = 32
_MAX_ENDED = 10_000

_log = logging.getLogger(__name__)


class SessionFile:
    """Where the key of the sessions and those that were ended are kept, so that both outlive a restart.

    Without a file, or where it cannot be written, they live as long as the process.

    Args:
        path: a file that only its owner can read; made at the first need.
        secret: what the key is made from instead, where there is a secret that every process of the service knows.
    """

    def __init__(self, path: Path | None = None, secret: str | None = None) -> None:
        self._path = path
        self.key, self._stored_ended = self._read()
        if self.key == b"" and secret is not None:
            self.key = hashlib.sha256(b"sluice-session" + secret.encode()).digest()
        elif self.key == b"":
            self.key = secrets.token_bytes(_KEY_BYTES)
            self.write({})

    @property
    def ended(self) -> dict[str, int]:
        """The sessions that were ended, and when each would have ended by itself, in Unix seconds."""
        return dict(self._stored_ended)

    def write(self, ended: Mapping[str, int]) -> None:
        """Keep what was ended."""
        if self._path is None:
            return
        partial = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.partial")
        try:
            write_privately(partial, json.dumps({"key": self.key.hex(), "ended": dict(ended)}) + "\n")
            partial.replace(self._path)
        except OSError as error:
            _log.warning("sessions end with this process: %s cannot be written: %s", self._path, error.strerror)
            partial.unlink(missing_ok=True)
            self._path = None

    def _read(self) -> tuple[bytes, dict[str, int]]:
        if self._path is None or not self._path.exists():
            return b"", {}
        try:
            if self._path.stat().st_mode & 0o077:
                raise ConfigurationError(
                    f"session file {self._path}: others can read or write it; delete it, everybody logs in again"
                )
            document: Any = json.loads(self._path.read_text(encoding="utf-8"))
            key = bytes.fromhex(document["key"])
            if len(key) < _KEY_BYTES:
                raise ValueError("the key is too short")
            return key, {str(session): int(until) for session, until in document["ended"].items()}
        except OSError as error:
            raise ConfigurationError(f"session file {self._path}: cannot be read: {error.strerror}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"session file {self._path}: is damaged ({error}); delete it, everybody logs in again"
            ) from error


class Sessions:
    """Gives and reads the cookies ``name.expiry.id.signature``. Thread-safe.

    Args:
        tokens: a session ends with the token that it was begun with.
        clock: time.
        file: the key, and the sessions that were ended.
    """

    def __init__(self, tokens: TokenStore, clock: Clock, file: SessionFile | None = None) -> None:
        self._tokens = tokens
        self._clock = clock
        self._file = file or SessionFile()
        self._ended = self._file.ended
        self._lock = threading.Lock()

    def begin(self, name: str) -> str:
        """Return a new cookie for whoever presented the token ``name``.

        Raises:
            ValueError: there is no such token.
        """
        token = self._tokens.named(name)
        if token is None:
            raise ValueError(f"no token is named {name}")
        claim = f"{name}.{int(self._clock.now().timestamp()) + SESSION_S}.{secrets.token_hex(12)}"
        return f"{claim}.{self._sign('session', claim, token)}"

    def end(self, cookie: str) -> None:
        """Let ``cookie`` be nobody's from now on; what is no session is let be."""
        if self.token_of(cookie) is None:
            return
        _, expiry, session, _ = cookie.split(".")
        now = self._clock.now().timestamp()
        with self._lock:
            self._ended[session] = int(expiry)
            # Those that are over by themselves need no keeping, and so there are never more than twelve hours' worth.
            standing = {each: until for each, until in self._ended.items() if until > now}
            self._ended = dict(sorted(standing.items(), key=lambda item: item[1])[-_MAX_ENDED:])
            self._file.write(self._ended)

    def token_of(self, cookie: str) -> Token | None:
        """Return the token whose session this is, None where it is not one or has ended."""
        claim, _, signature = cookie.rpartition(".")
        parts = claim.split(".")
        token = self._tokens.named(parts[0])
        if len(parts) != 3 or token is None:
            return None
        if not hmac.compare_digest(self._sign("session", claim, token).encode(), signature.encode()):
            return None
        now = self._clock.now()
        with self._lock:
            is_ended = parts[2] in self._ended
        return None if is_ended or int(parts[1]) <= now.timestamp() or token.has_expired(now) else token

    def csrf_token(self, cookie: str) -> str:
        """Return what requests with ``cookie``, a session's, have to carry in the header to change something."""
        token = self._tokens.named(cookie.partition(".")[0])
        return "" if token is None else self._sign("csrf", cookie, token)

    def _sign(self, kind: str, text: str, token: Token) -> str:
        # With the digest in it, a session ends when its token is exchanged; without the key nobody can sign.
        message = "\x1f".join((kind, token.digest, text))
        return hmac.new(self._file.key, message.encode(), "sha256").hexdigest()
