"""What is seen of a run while it goes on: a live view on a terminal, plain lines elsewhere.

The views are observers. They draw when an event comes, at most eight times a second, and own
neither a thread nor a timer: a run costs the same with and without them, and while user code
blocks the loop nothing moves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TextIO

from flare_async.jobs.events import (
    MemoryPlanned,
    ModelEvaluated,
    RoundFinished,
    RunEvent,
    RunFinished,
    RunStarted,
)
from flare_async.sim.progress import Progress
from flare_async.sim.words import byte_count, clean, duration, number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from flare_async.jobs.events import Observer
    from flare_async.jobs.history import RoundRecord

__all__ = ["LiveView", "PlainLines", "watching"]

INTERVAL: Final = 0.125
LISTED: Final = 5  # failures of a round that get a line of their own


@contextmanager
def watching(stream: TextIO, *, quiet: bool = False) -> Iterator[Observer]:
    """Give the observer that fits ``stream``; inside the block the terminal is its own."""
    if quiet:
        yield _see_nothing
        return
    if not stream.isatty():
        yield PlainLines(stream)
        return
    from rich.console import Console

    console = Console(file=stream)
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainLines(stream)
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False, transient=False) as live:
        view = LiveView(live, console)
        try:
            yield view
        finally:
            view.draw()


def _see_nothing(event: RunEvent) -> None:
    del event


class PlainLines:
    """A line at the start, for every round, for what fails, and at the end."""

    __slots__ = ("_progress", "_stream")

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._progress = Progress()

    def __call__(self, event: RunEvent) -> None:
        """Write what the event is worth."""
        self._progress.see(event)
        for line in self._lines(event):
            self._stream.write(line + "\n")
        self._stream.flush()

    def _lines(self, event: RunEvent) -> Iterator[str]:
        match event:
            case MemoryPlanned(plan):
                yield f"memory at most: {plan.equation()}"
            case RunStarted():
                about = f"{len(event.sites)} sites, {event.rounds} rounds, {event.folder}"
                yield f"{clean(event.recipe)}: {about}"
            case RoundFinished(record=record):
                yield from self._round_lines(record)
            case ModelEvaluated():
                best = ", best so far" if event.best else ""
                yield f"model {event.version}: {_metrics(event.metrics)}{best}"
            case RunFinished():
                yield f"{event.status}: {clean(event.cause)}" if event.cause else event.status
            case _:
                return

    def _round_lines(self, record: RoundRecord) -> Iterator[str]:
        done = f"{record.arrived} of {len(record.sites)} sites, {duration(record.seconds)}"
        moved = f"{byte_count(record.bytes_down)} down, {byte_count(record.bytes_up)} up"
        trained = f", {_metrics(record.metrics)}" if record.metrics else ""
        yield f"round {record.number} ({record.task}): {done}, {moved}{trained}"
        failures = [site for site in record.sites if site.reason]
        for site in failures[:LISTED]:
            yield f"  {clean(site.site)} {site.status}: {clean(site.reason)}"
        if len(failures) > LISTED:
            yield f"  and {len(failures) - LISTED} more"


def _metrics(metrics: object) -> str:
    items = metrics.items() if isinstance(metrics, dict) else ()
    return ", ".join(f"{clean(str(name), 40)} {number(value)}" for name, value in items)


class LiveView:
    """Redraws a terminal as events come, but never more often than eight times a second."""

    __slots__ = ("_console", "_live", "_next", "_now", "_progress", "_started", "drawn")

    def __init__(
        self, live: Live, console: Console, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._live = live
        self._console = console
        self._now = now
        self._progress = Progress()
        self._started = now()
        self._next = self._started
        self.drawn = 0

    def __call__(self, event: RunEvent) -> None:
        """Take the event; redraw when it is time to."""
        self._progress.see(event)
        if self._now() >= self._next:
            self.draw()

    def draw(self) -> None:
        """Draw now."""
        from flare_async.sim.screen import screen

        elapsed = self._now() - self._started
        self._live.update(screen(self._progress, elapsed), refresh=True)
        self._next = self._now() + INTERVAL
        self.drawn += 1
