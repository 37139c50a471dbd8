"""The picture of a load test: how long tasks took, over time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from flare_async.errors import MissingExtra
from flare_async.roles.outcome import SiteStatus
from flare_async.sim.loadtest.figures import LoadFigures

__all__ = ["draw_latency"]

BINS: Final = 60


def draw_latency(figures: LoadFigures, path: Path) -> None:
    """Write a picture with the median and the 99th percentile of each moment.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtra("matplotlib", "plot") from exc
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    times, p50, p99 = latency_over_time(figures)
    axes.fill_between(times, p50, p99, alpha=0.25, label="p50 to p99")
    axes.plot(times, p50, label="p50")
    axes.set(xlabel="seconds", ylabel="task latency, ms", ylim=(0, None))
    clients, rounds = figures.setting.clients, len(figures.rounds_s)
    axes.set_title(f"{clients} clients, {rounds} rounds", fontsize=10)
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def latency_over_time(figures: LoadFigures) -> tuple[list[float], list[float], list[float]]:
    """Return moments (seconds since the first task) and milliseconds of tasks that ended then."""
    done = [one for one in figures.records if one.status is SiteStatus.OK]
    if not done:
        return [], [], []
    ended = np.array([one.ended for one in done])
    took = np.array([one.ended - one.started for one in done]) * 1e3
    start = min(one.started for one in done)
    edges = np.linspace(start, ended.max(), BINS + 1)
    which = np.clip(np.digitize(ended, edges) - 1, 0, BINS - 1)
    moments = [at for at in range(BINS) if (which == at).any()]
    middle = [float((edges[at] + edges[at + 1]) / 2 - start) for at in moments]
    p50 = [float(np.percentile(took[which == at], 50)) for at in moments]
    return middle, p50, [float(np.percentile(took[which == at], 99)) for at in moments]
