"""The conformance kit: what every transport must do, as checks that run against any.

A check is a coroutine that takes a *pair maker*: a function without arguments that returns an
asynchronous context manager over the two ends of a new connection (connecting end, accepting end),
neither of them started. ``link_pair`` makes one of a network and an address. So a new transport is
checked in a few lines::

    @pytest.mark.parametrize("check", CHECKS, ids=check_name)
    def test_my_transport(check):
        async def main():
            network = MyTransport(Limits())
            await run_check(check, lambda: link_pair(network, "mine://127.0.0.1:0"))

        asyncio.run(main())

A check that fails raises AssertionError with the numbers. None of them measures time: they count
bytes, frames and channels, so that they give the same verdict on a busy machine, and they run under
a ``SimLoop`` as well. ``CHECKS`` has four parts: links alone, links
under pressure, channels, and endings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio

from flare_async.testing.channel_checks import CHANNEL_CHECKS
from flare_async.testing.ending_checks import ENDING_CHECKS
from flare_async.testing.link_checks import LINK_CHECKS
from flare_async.testing.pair import LinkPair, PairMaker, connected, link_pair
from flare_async.testing.pressure_checks import PRESSURE_CHECKS

__all__ = [
    "CHECKS",
    "Check",
    "LinkPair",
    "PairMaker",
    "check_name",
    "connected",
    "link_pair",
    "run_check",
]

Check: TypeAlias = Callable[[PairMaker], Awaitable[None]]
CHECKS: Final[tuple[Check, ...]] = (
    *LINK_CHECKS,
    *PRESSURE_CHECKS,
    *CHANNEL_CHECKS,
    *ENDING_CHECKS,
)
CHECK_SECONDS: Final = 15.0  # a check takes a fraction of a second; this ends one that hangs


def check_name(check: Check) -> str:
    """Return the name of a check for test ids and messages."""
    name: str = getattr(check, "__name__", "check")
    return name.removeprefix("check_").replace("_", "-")


async def run_check(check: Check, make: PairMaker) -> None:
    """Run one check; bounded by ``CHECK_SECONDS`` of the running loop's clock.

    Raises:
        AssertionError: the transport does not do what the check says, or the check hangs.
    """
    try:
        with anyio.fail_after(CHECK_SECONDS):
            await check(make)
    except TimeoutError:
        raise AssertionError(f"{check_name(check)}: hangs for {CHECK_SECONDS:g} s") from None
