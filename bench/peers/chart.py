"""The chart of ``bench.peers.crowd``: wall time and memory over the number of clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.peers.exchange import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "figure_of"]

FAILED_AT: Final = 0.97  # of the height


def draw(measured: Mapping[str, Mapping[int, Figures]], rounds: int, path: Path) -> None:
    """Write the chart as a picture."""
    figure = figure_of(measured, rounds)
    with path.open("wb") as file:
        figure.savefig(file, dpi=100, format="png")


def figure_of(measured: Mapping[str, Mapping[int, Figures]], rounds: int) -> Figure:
    """Return the chart, on logarithmic axes; what failed has a cross at the top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels: tuple[tuple[str, Callable[[Figures], float]], ...] = (
        (f"whole program with {rounds} rounds, seconds", lambda found: found.wall),
        ("resident memory of all its processes, MB", lambda found: found.peak / 1e6),
    )
    sizes = sorted({size for runs in measured.values() for size in runs})
    left, right = figure.subplots(1, 2)
    for axes, (label, value) in zip((left, right), panels, strict=True):
        for name, runs in measured.items():
            plot(axes, name, runs, value)
        axes.set(xscale="log", yscale="log", xlabel="clients", ylabel=label)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def plot(
    axes: Axes, name: str, runs: Mapping[int, Figures], value: Callable[[Figures], float]
) -> None:
    """Draw one program's line; ours are drawn through."""
    points = {size: value(found) for size, found in runs.items() if not found.problem}
    style = "o-" if name.startswith("ours") else "o--"
    (line,) = axes.plot(list(points), list(points.values()), style, label=name, markersize=4)
    top = axes.get_xaxis_transform()
    for size in runs.keys() - points.keys():
        axes.plot(size, FAILED_AT, "x", color=line.get_color(), transform=top)
        axes.annotate("failed ", (size, FAILED_AT), xycoords=top, ha="right", fontsize=7)
