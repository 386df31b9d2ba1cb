"""Speaking to a running service: where it is, who asks, and its problems as one line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from consumers.errors import ConfigurationError, SluiceError

DEFAULT_URL = "http://127.0.0.1:8765"
_TIMEOUT_S = 60.0

ConsumerOption = Annotated[
    str | None,
    typer.Option("--consumer", help="Consumer id; default: the only one that the service hosts.", show_default=False),
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", envvar="SLUICE_URL", help=f"The service; default {DEFAULT_URL}.", show_default=False),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="SLUICE_TOKEN_FILE",
        help="File that holds a token of the service and nothing else, instead of SLUICE_TOKEN.",
        show_default=False,
    ),
]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why, for the audit trail.", show_default=False)]


def is_meant(url: str | None, token_file: Path | None) -> bool:
    """Return whether a command that can do without a service is to ask one."""
    return bool(url or token_file or os.environ.get("SLUICE_TOKEN"))


def _read(token_file: Path) -> str:
    try:
        return token_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigurationError(f"--token-file {token_file}: cannot be read: {reason}") from error


class ServiceError(SluiceError):
    """The service refused the request."""


class Remote:
    """One service.

    Args:
        url: where it is; :data:`DEFAULT_URL` if None.
        token_file: holds the token; if None, ``SLUICE_TOKEN`` is the token.

    Raises:
        ConfigurationError: there is no token, or the URL is none.
    """

    def __init__(self, url: str | None, token_file: Path | None) -> None:
        # Half of the commands never speak to a service.
        import httpx  # noqa: PLC0415

        url = url or DEFAULT_URL
        token = os.environ.get("SLUICE_TOKEN") if token_file is None else _read(token_file)
        if not token:
            raise ConfigurationError(
                "there is no token: put one of the service's into SLUICE_TOKEN, or its file into --token-file "
                "(`sluice run` writes them to sluice-tokens.handout.txt beside its settings when it first starts)"
            )
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"--url {url}: is not an http(s) URL, such as {DEFAULT_URL}")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigurationError(
                f"{token_file or 'SLUICE_TOKEN'}: holds characters that no token has; copy the token "
                "alone, without its role"
            )
        self._url = url.rstrip("/")
        self._transport_error = httpx.TransportError
        self._client = httpx.Client(
            base_url=f"{self._url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S
        )

    def __enter__(self) -> Remote:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close its connections."""
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[Any, dict[str, str]]:
        """Return the answer's document and headers.

        Raises:
            ServiceError: the service cannot be reached, or has refused.
        """
        given = {key: value for key, value in (params or {}).items() if value is not None}
        try:
            answer = self._client.request(method, path, json=body, params=given, headers=headers)
        except self._transport_error as error:
            raise ServiceError(
                f"{self._url}: cannot be reached ({error}); is `sluice run` running there? (--url or SLUICE_URL says "
                "where)"
            ) from error
        try:
            document: Any = answer.json()
        except ValueError:
            raise ServiceError(f"{self._url}: answered {answer.status_code} and no JSON; is it Sluice?") from None
        if answer.is_error:
            raise ServiceError(f"{document.get('title', answer.status_code)}: {document.get('detail', '')}")
        return document, dict(answer.headers)

    def get(self, path: str, **params: Any) -> Any:
        """Return the document at ``path``."""
        return self.request("GET", path, params=params)[0]

    def consumer(self, chosen: str | None) -> str:
        """Return the path of the chosen consumer, or of the only one.

        Raises:
            ConfigurationError: there are several, and none was chosen.
        """
        if chosen is None:
            known = [item["consumer"] for item in self.get("/consumers")]
            if len(known) != 1:
                raise ConfigurationError(f"--consumer: choose one of {', '.join(known) or 'none'}")
            chosen = known[0]
        return f"/consumers/{quote(chosen, safe='')}"
