"""The end of a simulated loop: what may not be left, and how what is left ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from flare_async.errors import LocalProtocolError, SimDeadlock
from flare_async.testing.story import describe_tasks

if TYPE_CHECKING:
    from flare_async.testing.loop import SimLoop

__all__ = ["check_end", "wind_down"]


def check_end(loop: SimLoop) -> None:
    """Check that the program has left nothing.

    Raises:
        LocalProtocolError: tasks are left, or a callback raised.
    """
    left = loop.pending_tasks()
    if left:
        raise LocalProtocolError(
            f"seed {loop.seed}: {len(left)} tasks are left at the end:\n{describe_tasks(left)}"
        )
    if loop.unhandled:
        first = loop.unhandled[0]
        cause = first.get("exception")
        raise LocalProtocolError(
            f"seed {loop.seed}: {len(loop.unhandled)} exceptions were not handled,"
            f" the first: {first['message']} ({cause!r})"
        ) from cause


def wind_down(loop: SimLoop) -> None:
    """Cancel what is left, in a fixed order, and close; the error on its way out matters more."""
    loop.prolong()
    left = loop.pending_tasks()
    try:
        with suppress(SimDeadlock, SystemExit, KeyboardInterrupt):
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        for task in left:
            if task.done() and not task.cancelled():
                task.exception()  # taken note of, so that asyncio does not log it
        loop.close()
