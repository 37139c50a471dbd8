"""The curves of ``bench.algorithms`` as a picture: means over seeds, and what lies between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from bench.algorithms_runs import Curves
from flare_async.errors import MissingExtra
from flare_async.jobs.picture import COLOURS

__all__ = ["draw"]


def draw(curves: Mapping[str, Sequence[Curves]], path: Path) -> None:
    """Write a PNG picture: accuracy on the left, loss on a logarithmic axis on the right.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtra("matplotlib", "plot") from exc
    figure = Figure(figsize=(9.6, 3.9), dpi=80, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, metric in ((left, "accuracy"), (right, "loss")):
        for colour, (name, found) in zip(COLOURS, curves.items(), strict=False):
            lines = [getattr(one, metric) for one in found]
            by_round = list(zip(*lines, strict=True))
            rounds = range(len(by_round))
            axes.plot(rounds, [fmean(at) for at in by_round], color=colour, lw=1.4, label=name)
            axes.fill_between(
                rounds,
                [min(at) for at in by_round],
                [max(at) for at in by_round],
                color=colour,
                alpha=0.13,
                lw=0,
            )
        axes.set_xlabel("rounds of ten client updates")
        axes.set_ylabel(f"{metric} on the test set")
        axes.grid(color="#e4e4e4", lw=0.6)
    left.set_ylim(0.4, 1.0)
    right.set_yscale("log")
    left.legend(frameon=False, loc="lower right")
    with path.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file)
