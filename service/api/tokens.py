"""Bearer tokens by role: made at the first start or by `sluice token`, kept as hashes, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

from consumers.errors import ConfigurationError

MIN_TOKEN_LENGTH = 20
DEFAULT_TOKEN_FILE = "sluice-tokens.json"  # noqa: S105  a file name
_NUM_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Role(IntEnum):
    """What a token allows; a higher role includes the lower ones."""

    READ = 1
    OPERATE = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """The role as it is written."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Token:
    """One token as it is stored: never the token itself.

    Attributes:
        name: who it stands for, in the audit trail.
        role: what it allows.
        digest: SHA-256 of the token, hexadecimal. Tokens are random and long, so that no slow hash is needed.
        expires_at: when it ends; None is never.
    """

    name: str
    role: Role
    digest: str
    expires_at: datetime | None = None

    def has_expired(self, now: datetime) -> bool:
        """Return whether it has ended by ``now``."""
        return self.expires_at is not None and now >= self.expires_at


def digest_of(token: str) -> str:
    """Return what is stored of ``token``."""
    return hashlib.sha256(token.encode()).hexdigest()


class TokenStore:
    """The tokens that are known.

    Args:
        tokens: at least one.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)

    def find(self, presented: str) -> Token | None:
        """Return the token that was presented, expired or not; every known one is compared, in constant time."""
        digest = digest_of(presented)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def named(self, name: str) -> Token | None:
        """Return the token of that name."""
        return next((token for token in self._tokens if token.name == name), None)


@dataclass(frozen=True, slots=True)
class NewTokens:
    """Where freshly made tokens were written, for a person to hand out and delete."""

    handout: Path


def load_tokens(file: Path, given: dict[Role, str]) -> tuple[TokenStore, NewTokens | None]:
    """Return the tokens that were ``given``, or else those of ``file``, which is made if it is missing.

    Raises:
        ConfigurationError: the file cannot be read or written, or others can read it.
    """
    if given:
        return TokenStore([Token(role.word, role, digest_of(token)) for role, token in given.items()]), None
    new = None
    if not file.exists():
        new = _make(file)
    return TokenStore(_read(file)), new


def add_token(file: Path, name: str, role: Role, expires_at: datetime | None) -> str:
    """Make a token, keep its hash in ``file`` in place of one of the same name, and return it: nobody can later.

    A file that is missing is made, with this token alone.

    Raises:
        ConfigurationError: the file cannot be read or written, others can read it, or the name does not fit.
    """
    kept = [token for token in _read(file) if token.name != name] if file.exists() else []
    made = secrets.token_urlsafe(_NUM_BYTES)
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            f"token name {name!r}: give 1 to 64 letters, digits, '_' or '-', a letter or digit first"
        )
    _write(file, [*kept, Token(name, role, digest_of(made), expires_at)])
    return made


def handout_of(file: Path) -> Path:
    """Return where the tokens themselves are written when ``file`` with their hashes is made."""
    return file.with_name(file.stem + ".handout.txt")


def is_well_formed(presented: str) -> bool:
    """Return whether it could be a token: one word of printable ASCII, long enough."""
    return (
        len(presented) >= MIN_TOKEN_LENGTH and presented.isascii() and presented.isprintable() and " " not in presented
    )


def _make(file: Path) -> NewTokens:
    tokens = {role: secrets.token_urlsafe(_NUM_BYTES) for role in Role}
    handout = handout_of(file)
    lines = [
        "# Bearer tokens of Sluice, one for each role. The service keeps only their hashes: hand these out, then",
        "# delete this file. New ones are made at the next start once the file with the hashes is deleted, too.",
        *(f"{role.word} {token}" for role, token in tokens.items()),
    ]
    try:
        write_privately(handout, "\n".join(lines) + "\n")
    except OSError as error:
        raise _unwritable(file, error) from error
    _write(file, [Token(role.word, role, digest_of(token)) for role, token in tokens.items()])
    return NewTokens(handout)


def _write(file: Path, tokens: Sequence[Token]) -> None:
    """Replace ``file`` by one that holds ``tokens``, as a whole."""
    items = [
        {"name": token.name, "role": token.role.word, "sha256": token.digest}
        | ({} if token.expires_at is None else {"expires_at": token.expires_at.isoformat()})
        for token in tokens
    ]
    partial = file.with_name(f".{file.name}.partial")
    try:
        write_privately(partial, json.dumps({"tokens": items}, indent=2) + "\n")
        partial.replace(file)
    except OSError as error:
        raise _unwritable(file, error) from error


def _unwritable(file: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"token file {file}: cannot be written: {error.strerror}; set [api] token_file to a place that can be, or give "
        "the tokens by SLUICE_API__TOKENS__ADMIN, __OPERATE and __READ"
    )


def write_privately(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _read(file: Path) -> list[Token]:
    try:
        if file.stat().st_mode & 0o077:
            raise ConfigurationError(f"token file {file}: others can read or write it; run `chmod 600 {file}`")
        document: Any = json.loads(file.read_text(encoding="utf-8"))
        tokens = [_token(item) for item in document["tokens"]]
    except OSError as error:
        raise ConfigurationError(f"token file {file}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f'token file {file}: is not {{"tokens": [{{"name", "role", "sha256", "expires_at"}}]}}: {error}; correct '
            "it, or delete it to have new tokens made"
        ) from error
    if not tokens:
        raise ConfigurationError(f"token file {file}: holds no token; delete it to have new ones made")
    names = [token.name for token in tokens]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"token file {file}: more than one token is named {twice[0]}; give each its own name")
    return tokens


def _token(item: Any) -> Token:
    expires = item.get("expires_at")
    digest = str(item["sha256"]).lower()
    if len(bytes.fromhex(digest)) != hashlib.sha256().digest_size:
        raise ValueError(f"sha256 of {item['name']} has not 64 hexadecimal digits")
    at = None if expires is None else datetime.fromisoformat(expires)
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    name = str(item["name"])
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"name {name!r} is not of letters, digits, '_' and '-' alone")
    return Token(name, Role[str(item["role"]).upper()], digest, at)
