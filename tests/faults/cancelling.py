"""Stages for tests that cancel: networks, listeners and links of every scheme, on every loop."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from flare_async.limits import MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.testing import SimNetwork, link_pair
from flare_async.transports import memory as _imported_before_the_loop  # noqa: F401
from tests.transports.certificates import Authority

__all__ = [
    "LIMITS",
    "LOOPS",
    "address_of",
    "everywhere",
    "linked",
    "listening",
    "network_of",
    "real_loops",
]

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
SCHEMES = ("memory", "tcp", "unix", "tls", "ws", "wss")
REAL = [(scheme, loop) for scheme in SCHEMES for loop in LOOPS]
ENCRYPTED = {"tls", "wss"}
LIMITS = Limits(window_bytes=2 * MIB, shutdown_timeout=0.5)

everywhere = pytest.mark.parametrize(("scheme", "loop"), [*REAL, ("sim", "sim")])
real_loops = pytest.mark.parametrize("loop", LOOPS)


@functools.cache
def credentials():
    """Return credentials that both ends believe, made once: reading them takes a millisecond."""
    folder = tempfile.TemporaryDirectory(prefix="fc")
    made = Authority(Path(folder.name)).server()
    return made, folder


def address_of(scheme, folder):
    """Return an address to listen on."""
    if scheme in {"tcp", "tls", "ws", "wss"}:
        return f"{scheme}://127.0.0.1:0"
    return f"unix://{folder}/s" if scheme == "unix" else f"{scheme}://s"


def network_of(scheme):
    """Return a network port of the running loop."""
    if scheme == "sim":
        return SimNetwork(LoopClock(), SeededRandom(1), limits=LIMITS)
    return Transports(LIMITS, credentials()[0] if scheme in ENCRYPTED else None)


@asynccontextmanager
async def listening(scheme):
    """Yield a network and a listener."""
    with tempfile.TemporaryDirectory(prefix="fl") as folder:
        network = network_of(scheme)
        listener = await network.listen(address_of(scheme, folder))
        try:
            yield network, listener
        finally:
            await listener.aclose()


@asynccontextmanager
async def linked(scheme):
    """Yield both ends of a new connection."""
    with tempfile.TemporaryDirectory(prefix="fl") as folder:
        async with link_pair(network_of(scheme), address_of(scheme, folder)) as ends:
            yield ends
