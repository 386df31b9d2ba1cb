"""Which URIs a raw table may point at. Rows are written by others, so every URI is checked before it is opened."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from consumers.errors import ConfigurationError, UriNotAllowedError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_JAVA_FILE = re.compile(r"file:(/(?!/).*)", re.DOTALL | re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WEB = frozenset({"http", "https"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_MAX_DECODING_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class _Place:
    """A URI taken apart: scheme, authority (host or bucket) and the components of its path."""

    scheme: str
    authority: str
    components: tuple[str, ...]

    def is_under(self, prefix: _Place) -> bool:
        return (
            self.scheme == prefix.scheme
            and self.authority == prefix.authority
            and self.components[: len(prefix.components)] == prefix.components
        )


def file_uri(path: str | Path) -> str:
    """Return the canonical ``file:///absolute/path`` URI of a local path, percent-encoded as RFC 3986 says.

    pypaimon's local reader undoes the encoding of ``file:`` URIs, and takes plain paths literally. Symbolic links are
    kept: the row should say what the person said.
    """
    return Path(os.path.abspath(path)).as_uri()  # noqa: PTH100  (Path.absolute keeps "..")


def local_path(uri: str) -> Path | None:
    """Return the local path that ``uri`` (a plain path, or a ``file:`` URI) names, or None for another scheme."""
    match = _SCHEME.fullmatch(_with_authority(uri))
    if match is None:
        return Path(uri)
    if match[1].lower() != "file":
        return None
    return Path("/" + unquote(match[2].partition("/")[2]))


class AllowList:
    """The prefixes under which videos may lie.

    A prefix is a local folder (``/data/videos`` or ``file:///data/videos``) or a URI (``s3://bucket/folder``,
    ``oss://bucket``, ``https://host/folder``). Prefixes are compared component by component: ``/data/a`` does not
    allow ``/data/ab``. Hosts that name the machine itself or its link (``localhost``, ``169.254.169.254``) can never
    be allowed, as cloud metadata services live there. Host names are not resolved.

    Args:
        prefixes: what is allowed; nothing at all if empty.

    Raises:
        ConfigurationError: a prefix is not absolute, or cannot be understood.
    """

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._texts = tuple(prefixes)
        self._prefixes = tuple(self._parse_prefix(text) for text in prefixes)

    def check(self, uri: str) -> None:
        """Return if ``uri`` lies under an allowed prefix.

        Raises:
            UriNotAllowedError: it does not, or it is written in a way that could mean two places.
        """
        place = _parse(uri)
        _refuse_tricks(place, uri)
        if not any(place.is_under(prefix) for prefix in self._prefixes):
            raise self._refusal(uri)
        if place.scheme == "file" and not any(_real(place).is_under(prefix) for prefix in self._real_prefixes()):
            raise UriNotAllowedError(f"{uri!r} leads through a symbolic link out of the allowed folders")

    def check_opened(self, uri: str, path: str) -> None:
        """Return if the file that was opened for ``uri`` lies under an allowed folder.

        Between :meth:`check` and the opening somebody may have put a symbolic link into the way.

        Args:
            uri: as it was asked for.
            path: where the opened file really lies, absolute and without symbolic links.

        Raises:
            UriNotAllowedError: it does not.
        """
        place = _Place("file", "", _components(path))
        if not any(place.is_under(prefix) for prefix in self._real_prefixes()):
            raise UriNotAllowedError(
                f"{uri!r} led through a symbolic link out of the allowed folders when it was opened"
            )

    def _real_prefixes(self) -> list[_Place]:
        return [_real(prefix) for prefix in self._prefixes if prefix.scheme == "file"]

    def _refusal(self, uri: str) -> UriNotAllowedError:
        shown = ", ".join(self._texts[:3]) + (", ..." if len(self._texts) > 3 else "")
        return UriNotAllowedError(f"{uri!r} is not under an allowed prefix (allowed: {shown or 'none'})")

    @staticmethod
    def _parse_prefix(text: str) -> _Place:
        try:
            place = _parse(text)
            _refuse_tricks(place, text)
        except UriNotAllowedError as error:
            raise ConfigurationError(f"not a prefix for the allow-list: {error}") from error
        return place


def _parse(uri: str) -> _Place:
    if not uri or _CONTROL.search(uri) or uri != uri.strip():
        raise UriNotAllowedError(f"{uri!r} is empty or holds control characters or surrounding blanks")
    match = _SCHEME.fullmatch(_with_authority(uri))
    if match is None:
        if not uri.startswith("/"):
            raise UriNotAllowedError(f"{uri!r} is neither an absolute path nor a URI scheme://place")
        return _Place("file", "", _components(uri))
    scheme, rest = match[1].lower(), match[2]
    authority, slash, path = rest.partition("/")
    if scheme == "file":
        if authority.lower() not in {"", "localhost"} or not slash:
            raise UriNotAllowedError(f"{uri!r} names another host; a file URI is file:///absolute/path")
        if re.search("%2f", path, re.IGNORECASE):
            raise UriNotAllowedError(f"{uri!r} holds an encoded slash")
        return _Place("file", "", _components(unquote(path)))
    return _parse_remote(uri, scheme, authority, path)


def _with_authority(uri: str) -> str:
    """Return ``file:/path``, as Java writes it, as ``file:///path``; anything else as it is."""
    match = _JAVA_FILE.fullmatch(uri)
    return uri if match is None else "file://" + match[1]


def _parse_remote(uri: str, scheme: str, authority: str, path: str) -> _Place:
    if not authority or any(mark in authority for mark in "@%\\?#") or not authority.isascii():
        raise UriNotAllowedError(f"{uri!r} must name a bucket or host, without user, password or encoding")
    if scheme in _WEB:
        if "#" in path:
            raise UriNotAllowedError(f"{uri!r} holds a fragment")
        authority = authority.lower().removesuffix(_DEFAULT_PORTS[scheme])
        _refuse_local_host(uri, authority)
        path = path.partition("?")[0]
    elif "?" in path or "#" in path:
        raise UriNotAllowedError(f"{uri!r} holds '?' or '#', where readers of object stores cut the key off")
    return _Place(scheme, authority, _components(path))


def _components(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _real(place: _Place) -> _Place:
    return _Place("file", "", _components(os.path.realpath("/" + "/".join(place.components))))


def _refuse_tricks(place: _Place, uri: str) -> None:
    """Refuse what could climb out of a prefix in any reading: some servers decode a path once more than others."""
    parts = place.components
    for _ in range(_MAX_DECODING_ROUNDS):
        for part in parts:
            if part in {".", ".."} or "/" in part or "\\" in part or _CONTROL.search(part):
                raise UriNotAllowedError(
                    f"{uri!r} holds '.', '..', a backslash, an encoded slash or a control character in its path"
                )
        decoded = tuple(unquote(part) for part in parts)
        if decoded == parts:
            return
        parts = decoded
    raise UriNotAllowedError(f"{uri!r} is percent-encoded many times over")


def _refuse_local_host(uri: str, authority: str) -> None:
    host = authority.rpartition("]")[0].lstrip("[") or authority.partition(":")[0]
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost") or re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)", name.split(".")[-1]):
        # A last label of digits is an address, and only four plain decimal numbers are one that all parsers agree on.
        try:
            address: ipaddress.IPv4Address | ipaddress.IPv6Address | None = ipaddress.ip_address(name)
        except ValueError:
            raise UriNotAllowedError(f"{uri!r} names this machine, or an address in an unusual form") from None
    else:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            address = None
    if address is None:
        return
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast:
        raise UriNotAllowedError(f"{uri!r} names this machine or its own link")
