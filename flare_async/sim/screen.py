"""The live view's picture of a run's progress, for rich to draw.

Up to twelve sites have a row each; of more, the counts and the ten slowest are shown. Foreign text
goes into ``Text`` and never through markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flare_async.sim.progress import Progress, SiteProgress, SiteState
from flare_async.sim.words import byte_count, clean, duration, number

__all__ = ["screen", "sparkline"]

MOST_ROWS: Final = 12
SLOWEST: Final = 10
BLOCKS: Final = "▁▂▃▄▅▆▇█"
SPARKS: Final = 40
STYLES: Final = {
    SiteState.WAITING: "dim",
    SiteState.WORKING: "cyan",
    SiteState.DONE: "green",
    SiteState.FAILED: "red",
    SiteState.LATE: "yellow",
}


def screen(progress: Progress, elapsed: float) -> RenderableType:
    """Return the whole view."""
    memory = Text(f"memory at most: {progress.memory}" if progress.memory else "", style="dim")
    return Group(_head(progress, elapsed), _figures(progress), memory, _sites(progress))


def sparkline(values: Sequence[float], width: int = SPARKS) -> str:
    """Return the last values as a row of small bars between their least and greatest."""
    shown = list(values)[-width:]
    if not shown:
        return ""
    low, span = min(shown), (max(shown) - min(shown)) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in shown)


def _head(progress: Progress, elapsed: float) -> RenderableType:
    row = Table.grid(padding=(0, 2))
    name = Text(clean(progress.recipe) or "starting", style="bold")
    bar = ProgressBar(total=max(1, progress.rounds), completed=progress.completed, width=30)
    done = f"{progress.completed} of {progress.rounds} rounds, {duration(elapsed)}"
    row.add_row(name, bar, Text(f"{done}, {progress.task if _runs(progress) else progress.status}"))
    return row


def _runs(progress: Progress) -> bool:
    return progress.status == "running"


def _figures(progress: Progress) -> RenderableType:
    row = Table.grid(padding=(0, 2))
    moved = f"{byte_count(progress.bytes_down)} down, {byte_count(progress.bytes_up)} up"
    cells: list[RenderableType] = [Text(moved)]
    if progress.models:
        last = progress.models[-1]
        name = next(iter(last), "")
        if name:
            cells.append(Text(f"{clean(name, 40)} {number(last[name])}", style="bold"))
            cells.append(Text(sparkline(progress.scores(name)), style="cyan"))
        if progress.best_version is not None:
            cells.append(Text(f"best: model {progress.best_version}", style="dim"))
    row.add_row(*cells)
    return row


def _sites(progress: Progress) -> RenderableType:
    sites = list(progress.sites.values())
    if len(sites) <= MOST_ROWS:
        return _table(sites)
    slowest = sorted(sites, key=_seconds, reverse=True)[:SLOWEST]
    return Group(_counts(progress), Text("the slowest:", style="dim"), _table(slowest))


def _seconds(site: SiteProgress) -> float:
    return 0.0 if site.last is None else site.last.ended - site.last.started


def _counts(progress: Progress) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    counts, total = progress.counts(), max(1, len(progress.sites))
    for state in SiteState:
        bar = ProgressBar(total=total, completed=counts[state], width=30)
        label = Text(state, style=STYLES[state])
        row.add_row(label, bar, Text(f"{counts[state]} of {len(progress.sites)}"))
    return row


def _table(sites: Sequence[SiteProgress]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("site")
    table.add_column("state")
    for name in ("training", "weight", "loss", "down", "up"):
        table.add_column(name, justify="right")
    table.add_column("", overflow="ellipsis", no_wrap=True, ratio=1)
    for site in sites:
        table.add_row(*_row(site))
    return table


def _row(site: SiteProgress) -> list[Text]:
    last = site.last
    cells = [Text(clean(site.name, 24)), Text(site.state, style=STYLES[site.state])]
    if last is None:
        return [*cells, *(Text("-", style="dim") for _ in range(5)), Text("")]
    loss = last.metrics.get("loss")
    return [
        *cells,
        Text(duration(last.train_seconds)),
        Text(number(last.weight)),
        Text("-" if loss is None else number(loss)),
        Text(byte_count(site.bytes_down)),
        Text(byte_count(site.bytes_up)),
        Text(clean(last.reason, 120), style="red"),
    ]
