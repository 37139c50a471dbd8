"""The chart of ``bench.peers.crowd``: wall time and memory over the number of clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bench.peers.exchange import Figures

__all__ = ["draw"]


def draw(measured: Mapping[str, Mapping[int, Figures]], rounds: int, path: Path) -> None:
    """Write a picture with both, on logarithmic axes; what failed has no point."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panels: tuple[tuple[str, Callable[[Figures], float]], ...] = (
        (f"seconds for {rounds} rounds", lambda found: found.wall),
        ("resident memory of all processes, MB", lambda found: found.peak / 1e6),
    )
    for axes, (label, value) in zip(figure.subplots(1, 2), panels, strict=True):
        for name, runs in measured.items():
            points = {size: value(found) for size, found in runs.items() if not found.problem}
            style = "-" if name.startswith("ours") else "--"
            axes.plot(list(points), list(points.values()), f"o{style}", label=name, markersize=4)
        axes.set(xscale="log", yscale="log", xlabel="clients", ylabel=label)
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=100)
