"""The learning curves as a picture file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from flare_async.errors import MissingExtra, WorkspaceError
from flare_async.jobs.curves import Curve, CurveKind, curves_of
from flare_async.jobs.history import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "draw_curves"]

# Okabe and Ito's palette: told apart with any colour vision.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TITLES: Final = {CurveKind.SCORE: "Score by round", CurveKind.LOSS: "Loss by round"}
INK: Final = "#333333"
GRID: Final = "#e4e4e4"


def draw_curves(history: History, path: Path) -> Path:
    """Write the learning curves as a PNG picture; return its path.

    Raises:
        MissingExtra: matplotlib is not installed.
        WorkspaceError: the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtra("matplotlib", "plot") from exc
    curves = curves_of(history)
    kinds = [kind for kind in CurveKind if any(curve.kind is kind for curve in curves)]
    figure = Figure(figsize=(5.6 * max(1, len(kinds)), 4.0), dpi=150, layout="constrained")
    canvas = FigureCanvasAgg(figure)  # no pyplot: a library leaves its host's figures alone
    _fill(figure, curves, kinds, history)
    try:
        with path.open("wb") as file:
            canvas.print_png(file)  # type: ignore[no-untyped-call]
    except OSError as exc:
        raise WorkspaceError("path", str(path), f"cannot write: {exc.strerror}") from exc
    return path


def _fill(figure: Figure, curves: list[Curve], kinds: list[CurveKind], history: History) -> None:
    if not kinds:
        figure.text(0.5, 0.5, "no metrics were reported", ha="center", va="center", color=INK)
        return
    best = history.best()
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        chosen = [curve for curve in curves if curve.kind is kind]
        for colour, curve in zip(COLOURS, chosen, strict=False):
            _draw(axes, curve, colour)
        if best is not None:
            axes.axvline(best.version, color="#888888", lw=1, ls=":", label="best model")
        _dress(axes, _title(kind, chosen))
        if all(0 <= value <= 1 for curve in chosen for _, value in curve.points):
            axes.set_ylim(0, 1.03)  # a share is read against the whole


def _title(kind: CurveKind, curves: list[Curve]) -> str:
    names = {curve.label.partition(" ")[2] for curve in curves}
    return f"{names.pop().capitalize()} by round" if len(names) == 1 else TITLES[kind]


def _draw(axes: Axes, curve: Curve, colour: str) -> None:
    at = [point[0] for point in curve.points]
    values = [point[1] for point in curve.points]
    marker = "o" if len(at) <= 30 else ""
    style = "--" if curve.label.startswith("training") else "-"
    axes.plot(at, values, color=colour, lw=1.8, ls=style, marker=marker, ms=3.5, label=curve.label)


def _dress(axes: Axes, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, color=INK, fontsize=11, loc="left")
    axes.set_xlabel("rounds completed", color=INK, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#aaaaaa")
    axes.legend(frameon=False, fontsize=8.5)
