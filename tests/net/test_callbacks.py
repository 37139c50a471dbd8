"""What is made in plain callbacks, where anyio may not see which event loop runs."""

from __future__ import annotations

import asyncio

import anyio
import sniffio

from flare_async.net.callbacks import cancel_scope, start_soon


def test_a_callback_makes_scopes_and_tasks_where_sniffio_is_installed() -> None:
    """A callback of a plain loop is inside of no task, so sniffio cannot tell."""
    seen: list[object] = []

    async def work(scope: anyio.CancelScope) -> None:
        with scope:
            seen.append(sniffio.current_async_library())
            scope.cancel()
            await anyio.sleep_forever()

    def callback(tasks: anyio.abc.TaskGroup) -> None:
        try:
            anyio.CancelScope()
        except RuntimeError as exc:
            seen.append(type(exc).__name__)
        start_soon(tasks, work, cancel_scope())

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            asyncio.get_running_loop().call_soon(callback, tasks)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == ["NoEventLoopError", "asyncio"]
