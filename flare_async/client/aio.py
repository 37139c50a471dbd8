"""The calls for scripts that have an event loop of their own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from flare_async.client.api import APIContext, current
from flare_async.model import FLModel

__all__ = ["AsyncTask", "tasks"]

SLICE: Final = 0.5  # seconds that a cancellation may have to wait for
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, eq=False)
class AsyncTask:
    """One task: its name, its model, and the way to send the result."""

    name: str
    model: FLModel
    context: APIContext

    async def send(self, model: FLModel, clear_cache: bool = True) -> None:
        """Hand in the result.

        Waits until the client has it; cancelling takes effect afterwards. Raises as
        ``APIContext.send``.
        """
        await _in_thread(partial(self.context.send, model, clear_cache))


async def tasks(ctx: APIContext | None = None) -> AsyncGenerator[AsyncTask, None]:
    """Give the tasks of the job one after the other; ends with the job.

    Waits for ever for each, in a worker thread, so that the script's loop goes on. Cancelling
    takes effect within half a second and loses nothing: the task that came meanwhile is given by
    the next call, as is one whose result was not sent. On ranks other than 0 there are none.

    Raises:
        ScriptStopped: the job was aborted, or the client is gone.
    """
    context = current(ctx)
    while context.rank == 0:
        if await _in_thread(partial(context.poll, SLICE)):
            model = await _in_thread(context.receive)
            if model is not None:
                yield AsyncTask(context.get_task_name(), model, context)
        elif context.has_ended:
            return


async def _in_thread(call: Callable[[], ResultT]) -> ResultT:
    """Return what a blocking call returns; a cancellation waits for its end."""
    inside = contextvars.copy_context()
    done = asyncio.get_running_loop().run_in_executor(None, inside.run, call)
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is None:
        return done.result()
    done.exception()  # it is the cancellation that is reported
    raise cancelled
