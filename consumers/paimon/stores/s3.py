"""One way to an S3-compatible store for what pypaimon's file system has not: conditional puts, and listings that go on.

Reads Paimon's own catalog options, so that both ways lead to the same store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import obstore
from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from consumers.errors import ConfigurationError, StoreUnavailableError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Config

S3_SCHEMES = frozenset({"s3", "s3a", "s3n"})
_PAGE = 1000
_SAID = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", re.DOTALL)
_PREFIXES = ("s3.", "s3a.", "fs.s3.", "fs.s3a.")

# Small objects and pages of listings only: what takes longer is lost, and is better tried again.
_CLIENT: ClientConfig = {"timeout": timedelta(seconds=15), "connect_timeout": timedelta(seconds=5)}
_RETRY: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


_known_buckets: set[tuple[str, str]] = set()


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket, opened, and a key or prefix in it without slashes at either end."""

    store: S3Store
    scheme: str
    bucket: str
    key: str
    endpoint: str

    def uri(self, key: str) -> str:
        """Return the URI of another key in the bucket."""
        return f"{self.scheme}://{self.bucket}/{key}"


def is_s3(location: str) -> bool:
    """Return whether ``location`` is the URI of an S3 object or prefix."""
    return urlparse(location).scheme.lower() in S3_SCHEMES


def open_s3(location: str, options: Mapping[str, str]) -> S3Location:
    """Return ``location`` (``s3://bucket/key``) opened with Paimon's ``s3.*`` options; nothing is sent yet.

    Without keys in the options they come from the environment or from the role of the pod or the machine.

    Raises:
        ConfigurationError: the location names no bucket, or the options contradict each other.
    """
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise ConfigurationError(f"{location}: names no bucket; an S3 location is s3://bucket/prefix")
    config: S3Config = {}
    if access_key := _option(options, "access-key", "access.key", legacy="accessKeyId"):
        config["access_key_id"] = access_key
    if secret_key := _option(options, "secret-key", "secret.key", legacy="accessKeySecret"):
        config["secret_access_key"] = secret_key
    if token := _option(
        options, "session-token", "session.token", "security-token", "security.token", legacy="securityToken"
    ):
        config["session_token"] = token
    if region := _option(options, "region"):
        config["region"] = region
    is_path_style = "true" in {
        str(_option(options, name) or "").lower() for name in ("path-style-access", "path.style.access")
    }
    # A wildcard certificate does not cover a bucket whose name holds a dot.
    is_virtual = not is_path_style and "." not in bucket
    config["virtual_hosted_style_request"] = is_virtual
    endpoint = _option(options, "endpoint") or ""
    client: ClientConfig = {**_CLIENT}
    if endpoint:
        endpoint = endpoint if "://" in endpoint else f"https://{endpoint}"
        protocol, _, host = endpoint.rstrip("/").partition("://")
        config["endpoint"] = f"{protocol}://{bucket}.{host}" if is_virtual else f"{protocol}://{host}"
        client["allow_http"] = protocol == "http"
    try:
        store = S3Store(bucket, config=config, client_options=client, retry_config=_RETRY)
    except Exception as error:
        raise ConfigurationError(f"{location}: the s3.* options do not fit: {' '.join(str(error).split())}") from error
    return S3Location(store, scheme, bucket, key.strip("/"), endpoint or "AWS")


def list_pages(location: S3Location, after: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
    """Yield what lies under ``location``, taken as a folder, in the order of keys, page by page.

    Args:
        location: the folder; an empty key is the whole bucket.
        after: only keys that sort after this one; the store seeks, and nothing before it is listed.

    Raises:
        ConfigurationError: an object's name cannot be dealt with.
        FileNotFoundError: there is no such bucket.
        Exception: what else the store raised.
    """
    try:
        yield from obstore.list(location.store, location.key or None, offset=after, chunk_size=_PAGE)
    except InvalidPathError as error:
        name = str(error).split("\n", 1)[0]
        raise ConfigurationError(
            f"{location.uri(location.key)}: holds an object whose name has an empty part, '.' or '..' between slashes, "
            f"which cannot be listed: {name}; rename it, or name folders beside it"
        ) from error
    except Exception as error:
        if "<Code>NoSuchBucket</Code>" in str(error):
            raise FileNotFoundError(f"there is no bucket {location.bucket}") from error
        raise


def check_bucket(what: str, location: str, options: Mapping[str, str]) -> None:
    """Return if the bucket of ``location`` is there and answers; asked once per bucket and process.

    Args:
        what: for messages: whose location it is.
        location: ``s3://bucket/prefix``.
        options: catalog options.

    Raises:
        ConfigurationError: there is no such bucket, or the keys grant no access to it.
        StoreUnavailableError: the store did not answer.
    """
    opened = open_s3(location, options)
    known = (opened.endpoint, opened.bucket)
    if known in _known_buckets:
        return
    where = f"{what} {location} (S3 at {opened.endpoint})"
    try:
        next(list_pages(opened), None)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{where}: there is no such bucket; create it, or correct the name") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise ConfigurationError(f"{where}: {explain(error)}; check the keys and their rights") from error
    except ConfigurationError:
        # It answers, and holds names that only a listing of videos has to understand.
        pass
    except Exception as error:
        raise StoreUnavailableError(f"{where} did not answer: {explain(error)}") from error
    _known_buckets.add(known)


def explain(error: Exception) -> str:
    """Return what the store said in one line: its own code and message, without the client's inner life."""
    text = str(error)
    said = _SAID.search(text)
    return f"{said[1]}: {said[2]}" if said else text.split("\n", 1)[0]


def _option(options: Mapping[str, str], *names: str, legacy: str = "") -> str | None:
    """Return the option as pypaimon finds it: under any of its prefixes and spellings."""
    keys = [f"fs.s3.{legacy}"] if legacy else []
    keys += [prefix + name for prefix in _PREFIXES for name in names]
    return next((options[key] for key in keys if options.get(key)), None)
