"""``ws://host:port/path`` and the proxy on the way there."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from flare_async.errors import ConfigError

__all__ = ["DEFAULT_PATH", "Place", "Proxy"]

DEFAULT_PATH: Final = "/flare"
PORTS: Final = {"ws": 80, "wss": 443}
_PATH: Final = re.compile(r"/[!-~]*")


@dataclass(frozen=True, slots=True)
class Place:
    """A WebSocket address, taken apart."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, address: str) -> Self:
        """Take an address apart; without a port it is the scheme's usual one.

        Raises:
            ConfigError: it is none, or has parts that no WebSocket of ours has.
        """
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError as exc:
            raise ConfigError("address", address, str(exc)) from exc
        if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
            raise ConfigError("address", address, "is not scheme://host:port/path")
        path = parts.path if parts.path not in {"", "/"} else DEFAULT_PATH
        if not _PATH.fullmatch(path):
            raise ConfigError("address", address, f"has the path {path!a}")
        usual = PORTS.get(parts.scheme, 0)
        return cls(parts.scheme, parts.hostname, usual if port is None else port, path)

    @property
    def authority(self) -> str:
        """Host and port as HTTP writes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens tunnels; ``authorization`` is a header's value or empty."""

    host: str
    port: int
    authorization: str = ""

    @classmethod
    def of_environment(cls, place: Place) -> Self | None:
        """Return the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for a place.

        Raises:
            ConfigError: it cannot be used.
        """
        if proxy_bypass(place.authority) or proxy_bypass(place.host):
            return None
        known = getproxies()
        plain, name = ("http", "HTTP_PROXY") if place.scheme == "ws" else ("https", "HTTPS_PROXY")
        url = known.get(plain)
        if not url:
            return None
        return cls._parse(url if "://" in url else f"http://{url}", name)

    @classmethod
    def _parse(cls, url: str, name: str) -> Self:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname}"  # the URL itself may hold a password
        try:
            port = parts.port or 80
        except ValueError as exc:
            raise ConfigError(name, shown, str(exc)) from exc
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError(name, shown, "only http://host:port is supported")
        if parts.username is None:
            return cls(parts.hostname, port)
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        basic = base64.b64encode(secret.encode()).decode()
        return cls(parts.hostname, port, f"Basic {basic}")

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"
