"""The event loops that transports must work on, and a strict way to run one."""

from __future__ import annotations

import asyncio

import uvloop

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def run_on(loop_factory, main):
    """Run a coroutine; fail when it leaves a task or an unhandled exception."""
    unhandled = []
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
        runner.run(main())
        left = asyncio.all_tasks(loop)
    assert (left, unhandled) == (set(), [])
