"""Timers that are objects of their owners and copy no context."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import anyio

from flare_async.testing.loop import SimLoop, run_sim
from flare_async.testing.timers import Alarm

WORD: ContextVar[str] = ContextVar("word", default="unset")


class Setting(Alarm):
    """Sets a context variable when it rings."""

    rung = 0.0

    def ring(self) -> None:
        """Take note of the time, and leave a word."""
        self.rung = self._loop.now
        WORD.set("set")


def test_what_an_alarm_sets_is_not_set_for_who_runs_the_loop() -> None:
    """Or ``anyio.run`` would find a loop that runs in a thread where none does."""
    alarms: list[Setting] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        alarms.append(Setting(loop))
        alarms[0].set(2.0)
        await anyio.sleep(3.0)

    run_sim(main)
    assert (alarms[0].rung, WORD.get()) == (2.0, "unset")
