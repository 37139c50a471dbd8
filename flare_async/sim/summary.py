"""What a run leaves on standard output: a table for people, or one document for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TextIO

from flare_async.jobs.history import finite
from flare_async.sim.facts import Extras, RunFacts
from flare_async.sim.next_steps import next_steps
from flare_async.sim.words import byte_count, clean, duration, number, percent

if TYPE_CHECKING:
    from flare_async.sim.failure import Failure

__all__ = ["document", "print_summary", "run_data"]

SCHEMA: Final = 1
MOST_FAILURES: Final = 10
WIDTH: Final = 120  # of what is no terminal


def document(data: dict[str, object] | None, failure: Failure | None) -> str:
    """Return the ``--json`` document as one line; numbers that JSON lacks become null."""
    whole = {
        "schema": SCHEMA,
        "ok": failure is None,
        "code": "ok" if failure is None else failure.code,
        "data": data,
        "error": None if failure is None else failure.document(),
    }
    return json.dumps(finite(whole), allow_nan=False)


def run_data(facts: RunFacts, extras: Extras) -> dict[str, object]:
    """Return the ``data`` of a run's document."""
    return {
        "run_id": facts.run_id,
        "status": facts.status,
        "recipe": facts.recipe,
        "rounds": facts.rounds,
        "clients": facts.clients,
        "seed": facts.seed,
        "model_digest": facts.model_digest,
        "metrics": facts.metrics,
        "history": facts.history.rows(),
        "wall_s": facts.wall_s,
        "round_s_median": facts.round_s_median,
        "client_round_us": facts.client_round_us,
        "bytes_down": facts.bytes_down,
        "bytes_up": facts.bytes_up,
        "peak_rss_mb": facts.peak_rss_mb,
        "memory_plan": None if facts.plan is None else facts.plan.document(),
        "folder": str(facts.folder),
        "failed_sites": facts.history.failed_sites(),
        **extras.fields,
    }


def print_summary(facts: RunFacts, extras: Extras, stream: TextIO) -> None:
    """Print the table and the next commands to try."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = None if stream.isatty() else WIDTH
    console = Console(file=stream, highlight=False, width=width)
    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _rows(facts, extras):
        table.add_row(Text(label), Text(value))
    console.print()
    console.print(table)
    console.print("\nWhat to try next:", style="bold")
    steps = next_steps(facts, extras)
    width = max(len(step.command) for step in steps)
    for step in steps:
        line = Text(f"  {step.command:{width}}  ")
        line.append(f"# {step.purpose}", style="dim")
        console.print(line, soft_wrap=True)  # a command that is cut cannot be pasted


def _rows(facts: RunFacts, extras: Extras) -> Iterator[tuple[str, str]]:
    yield "run", f"{facts.run_id}: {facts.status}"
    done = f"{facts.rounds} rounds, {facts.clients} sites, seed {facts.seed}"
    yield clean(facts.recipe), f"{done}, {duration(facts.wall_s)}"
    yield from _model_rows(facts)
    for figure in extras.comparison:
        yield figure.label, f"{percent(figure.value)} on the test set"
    moved = f"{byte_count(facts.bytes_down)} down, {byte_count(facts.bytes_up)} up"
    yield "tensors moved", moved
    yield from _memory(facts)
    yield from _failures(facts)
    yield "folder", str(facts.folder)
    if facts.model_digest:
        yield "model digest", facts.model_digest


def _memory(facts: RunFacts) -> Iterator[tuple[str, str]]:
    peak = f"{facts.peak_rss_mb:.0f} MB at its peak"
    if facts.plan is not None:
        peak += f", planned at most {facts.plan.equation()}"
    yield "memory", peak


def _model_rows(facts: RunFacts) -> Iterator[tuple[str, str]]:
    best = facts.history.best()
    if best is not None:
        shown = ", ".join(f"{clean(k, 40)} {number(v)}" for k, v in best.metrics.items())
        yield "best model", f"after {best.version} rounds: {shown}"
    elif facts.metrics:
        shown = ", ".join(f"{clean(k, 40)} {number(v)}" for k, v in facts.metrics.items())
        yield "last metrics", shown


def _failures(facts: RunFacts) -> Iterator[tuple[str, str]]:
    failed = facts.history.failed_sites()
    for site, reason in list(failed.items())[:MOST_FAILURES]:
        yield "failed", f"{clean(site, 40)}: {clean(reason)}"
    if len(failed) > MOST_FAILURES:
        yield "failed", f"and {len(failed) - MOST_FAILURES} more sites"
