"""One site's script in its thread: started, given tasks, revoked, ended."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from flare_async.errors import LocalProtocolError
from flare_async.jobs.scripts.argv import ARGV
from flare_async.jobs.scripts.code import ScriptCodes
from flare_async.jobs.scripts.desk import Place, TaskFacts
from flare_async.jobs.scripts.idle import cpu_clock, cpu_seconds, standing_at
from flare_async.jobs.scripts.output import OUTPUT, SiteOutput
from flare_async.jobs.scripts.script import Script
from flare_async.jobs.scripts.seat import SEAT, Seat
from flare_async.jobs.scripts.thread_desk import Errand, OnLog, ThreadDesk
from flare_async.jobs.scripts.verdict import EndedBefore, is_normal, verdict
from flare_async.jobs.seeding import limit_torch_threads
from flare_async.jobs.training import TrainOutcome, TrainTask

__all__ = ["LiveScript"]

# Only what is touched counts, but hundreds of sites reserve it. With half of it code that recurses
# through C functions ends the process before the interpreter raises RecursionError.
STACK_BYTES: Final = 2 * 1024 * 1024

OnEnd = Callable[["LiveScript", BaseException | None], None]


class LiveScript:
    """A script's thread and desk. Everything here but ``_main`` runs on the loop.

    ``on_end`` is called once, on the loop: when the script has ended, or has shut its context down.
    """

    def __init__(self, script: Script, place: Place, on_log: OnLog | None, on_end: OnEnd) -> None:
        self.script = script
        self.place = place
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._on_end = on_end
        self._over = False
        self._codes = ScriptCodes()
        self._served = 0
        self._errand: Errand | None = None
        self._clock: int | None = None
        self.done: asyncio.Future[None] = self._loop.create_future()
        closed = partial(self._end, None)
        self.desk = ThreadDesk(place, self._post, on_log, closed)
        self.thread = threading.Thread(
            target=self._main, name=f"flare-script {place.site}", daemon=True
        )

    @property
    def is_idle(self) -> bool:
        """Whether it has no task and was not told to stop: it is about to wait for one."""
        return self._errand is None and not self.desk.is_stopped

    def start(self, codes: ScriptCodes) -> None:
        """Start the thread, with a small stack."""
        self._codes = codes
        before = threading.stack_size(STACK_BYTES)
        try:
            self.thread.start()
        finally:
            threading.stack_size(before)

    def assign(self, task: TrainTask) -> Errand:
        """Give the script a task; the errand's ``done`` is its outcome."""
        self._served += 1
        site = task.site
        facts = TaskFacts(
            self._served, task.kind, site.round_number, site.total_rounds, dict(task.meta)
        )
        done: asyncio.Future[TrainOutcome] = self._loop.create_future()
        self._errand = errand = Errand(task, facts, done, time.perf_counter())
        self.desk.assign(errand)
        return errand

    def revoke(self, errand: Errand) -> bool:
        """Take a task back; return whether the script knows nothing of it and may go on."""
        errand.withdrawn = True
        errand.done.cancel()
        if errand.seen:
            self.desk.stop()
        return not errand.seen

    def settled(self, errand: Errand) -> None:
        """Let go of a task that is decided, and with it of its model."""
        if self._errand is errand:
            self._errand = None

    def cpu_seconds(self) -> float | None:
        """Return the processor time of the thread, None where it is not known."""
        return cpu_seconds(self._clock)

    def standing(self) -> str:
        """Return what the script called last, and where it stands."""
        called = f"flare.{self.desk.last_call}" if self.desk.last_call else "none"
        return f"last call {called}, at {standing_at(self.thread.ident or 0, self._path)}"

    def abandon(self) -> None:
        """Let whoever waits for the current task know that nobody works on it any more."""
        errand = self._errand
        if errand is not None and not errand.done.done():
            errand.done.set_exception(LocalProtocolError("the spawner was closed meanwhile"))

    @property
    def _path(self) -> str:
        return str(self.script.path)

    def _post(self, call: Callable[[], None]) -> None:
        # Not in the script's context: what the loop logs is not the script's.
        self._loop.call_soon_threadsafe(call, context=self._context)

    def _main(self) -> None:
        SEAT.set(Seat(self.desk))
        ARGV.set(self.script.argv())
        output = SiteOutput(self.place.site)
        OUTPUT.set(output)
        self._clock = cpu_clock()
        limit_torch_threads()  # never undone: the thread does nothing else
        error: BaseException | None = None
        try:
            self._codes.of(self.script.path).run()
        except BaseException as exc:  # noqa: BLE001 - also SystemExit is the script's own affair
            error = exc
        _print_rest(output)
        try:
            self._post(partial(self._thread_over, error))
        except RuntimeError:
            return  # the loop is closed: nobody waits

    def _thread_over(self, error: BaseException | None) -> None:
        self._end(error)
        if not self.done.done():
            self.done.set_result(None)

    def _end(self, error: BaseException | None) -> None:
        if self._over:
            return
        self._over = True
        errand = self._errand
        if errand is not None and not errand.done.done():
            if is_normal(error) and self._served > 1 and not errand.seen:
                errand.done.set_exception(EndedBefore())
            else:
                errand.done.set_exception(verdict(self.place.site, error, self._path))
            error = None
        self._on_end(self, error)


def _print_rest(output: SiteOutput) -> None:
    """Write unfinished last lines; a stream that is closed by now gets none."""
    for name, rest in output.finish().items():
        stream = sys.stdout if name == "stdout" else sys.stderr
        original = getattr(stream, "original", None)
        with suppress(OSError, ValueError):
            if original is not None:
                original.write(rest)
