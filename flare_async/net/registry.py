"""The transport port: finds the transport of an address by its scheme.

Built-in transports are imported when their scheme is first used; others come from the entry-point
group ``flare_async.transports`` (name = scheme, value = a class that takes ``Limits``). Only
built-in transports are handed the process's credentials.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Protocol

from flare_async.errors import ConfigError
from flare_async.limits import Limits
from flare_async.net.credentials import Credentials
from flare_async.net.link import Link, Listener

__all__ = ["Transport", "Transports"]

BUILT_IN = {
    "memory": ("flare_async.transports.memory", "MemoryTransport"),
    "tcp": ("flare_async.transports.tcp", "TcpTransport"),
    "tls": ("flare_async.transports.tls", "TlsTransport"),
    "unix": ("flare_async.transports.unix", "UnixTransport"),
    "ws": ("flare_async.transports.websocket", "WsTransport"),
    "wss": ("flare_async.transports.websocket", "WssTransport"),
}
ENCRYPTED = {"tls", "wss"}
ENTRY_POINTS = "flare_async.transports"


class Transport(Protocol):
    """Makes links of one scheme."""

    @property
    def scheme(self) -> str:
        """The part of an address before ``://``."""

    async def connect(self, address: str) -> Link:
        """Connect, bounded by ``handshake_timeout``. Raises ConnectFailed."""

    async def listen(self, address: str) -> Listener:
        """Listen. Raises ConnectFailed."""


class Transports:
    """All transports of one process, each made once; two instances share nothing."""

    def __init__(self, limits: Limits, credentials: Credentials | None = None) -> None:
        self._limits = limits
        self._credentials = credentials
        self._made: dict[str, Transport] = {}

    async def connect(self, address: str) -> Link:
        """Connect to an address of any known scheme.

        Raises:
            ConnectFailed: no connection.
            ConfigError: no such scheme, or it needs credentials that are absent or unusable.
        """
        return await self._find(address).connect(address)

    async def listen(self, address: str) -> Listener:
        """Listen on an address of any known scheme; raises as ``connect`` does."""
        return await self._find(address).listen(address)

    def _find(self, address: str) -> Transport:
        scheme, separator, _ = address.partition("://")
        if not separator:
            raise ConfigError("address", address, "has no scheme", "write scheme://...")
        if scheme not in self._made:
            self._made[scheme] = self._make(scheme, address)
        return self._made[scheme]

    def _make(self, scheme: str, address: str) -> Transport:
        if scheme in BUILT_IN:
            return self._make_built_in(scheme, address)
        for entry in entry_points(group=ENTRY_POINTS, name=scheme):
            other: Transport = entry.load()(self._limits)
            return other
        known = ", ".join(sorted(BUILT_IN))
        raise ConfigError("address", address, f"unknown scheme {scheme!r}", f"known: {known}")

    def _make_built_in(self, scheme: str, address: str) -> Transport:
        module, name = BUILT_IN[scheme]
        arguments: tuple[object, ...] = (self._limits,)
        if scheme in ENCRYPTED:
            if self._credentials is None:
                problem = f"{scheme} needs a certificate, its key and an authority"
                raise ConfigError("address", address, problem, "give Transports your Credentials")
            arguments = (self._limits, self._credentials)
        made: Transport = getattr(importlib.import_module(module), name)(*arguments)
        return made
