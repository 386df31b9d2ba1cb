"""Where a request comes from, behind proxies that are named and in front of anybody's claims."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedProxies:
    """Reads ``X-Forwarded-For`` where a named proxy has sent it, and nowhere else.

    Args:
        networks: addresses and networks of the proxies.

    Raises:
        ValueError: one is neither.
    """

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in networks)

    def origin(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return the address of the caller.

        Args:
            peer: who the connection is from.
            forwarded: the values of the header, in order; each may hold several addresses, the nearest hop last.

        Returns:
            The last address that is no named proxy's. What stands before it is that caller's own claim.
        """
        found = peer
        for address in reversed([part.strip() for value in forwarded for part in value.split(",")]):
            if not self._is_proxy(found) or _parsed(address) is None:
                break
            found = address
        return found

    def _is_proxy(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(address in network for network in self._networks)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
