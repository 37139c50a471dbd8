"""The picture of ``what-if``: when updates arrive, or what a sweep gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from flare_async.errors import ConfigError, MissingExtra, WorkspaceError
from flare_async.sim.virtual.tell import Found
from flare_async.sim.virtual.whatif import percentile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flare_async.sim.virtual.asked import Asked

__all__ = ["check_picture", "draw"]

POINTS: Final = 500


def check_picture(path: Path) -> None:
    """Refuse a picture that could not be written in the end: a run may take long.

    Raises:
        MissingExtra: matplotlib is not installed.
        ConfigError: its name has no ending of a picture, or there is no such folder.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError as exc:
        raise MissingExtra("matplotlib", "plot") from exc
    known = sorted(FigureCanvasAgg.get_supported_filetypes())
    if path.suffix.lower().removeprefix(".") not in known:
        problem = "its name has no ending of a picture"
        raise ConfigError("picture", str(path), problem, f"use one of {', '.join(known)}")
    if not path.parent.is_dir():
        raise ConfigError("picture", str(path), f"there is no folder {str(path.parent)!r}")


def draw(asked: Asked, found: Found, path: Path) -> None:
    """Write the picture.

    Raises:
        MissingExtra: matplotlib is not installed.
        WorkspaceError: it cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtra("matplotlib", "plot") from exc
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    draw_arrivals(left, found, "" if asked.sweep is None else asked.sweep[0])
    if asked.sweep is None:
        draw_rounds(right, found)
    else:
        draw_sweep(right, found, asked.sweep[0])
    figure.suptitle(f"{asked.job.stem}: {asked.clients} sites over {asked.network}", fontsize=10)
    try:
        figure.savefig(path, dpi=100)
    except OSError as exc:
        raise WorkspaceError("picture", str(path), exc.strerror or str(exc)) from exc


def draw_arrivals(axes: Axes, found: Found, name: str) -> None:
    """Draw which share of a round's updates is there after how many seconds."""
    for label, case in found:
        seconds = sorted(case.site_seconds)
        step = max(1, len(seconds) // POINTS)
        asked = case.updates + case.missing
        shares = [100 * (at + 1) / asked for at in range(0, len(seconds), step)]
        axes.plot(seconds[::step], shares, label=f"{name}={label}" if name else "updates")
    axes.set(xlabel="seconds since the round began", ylabel="% of the sites", ylim=(0, 100))
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def draw_rounds(axes: Axes, found: Found) -> None:
    """Draw how long each round took."""
    for _, case in found:
        axes.bar(range(1, len(case.round_seconds) + 1), case.round_seconds)
    axes.set(xlabel="round", ylabel="seconds")
    axes.grid(alpha=0.3)


def draw_sweep(axes: Axes, found: Found, name: str) -> None:
    """Draw the median round, and what the server sends in one, for each value."""
    labels = [label for label, _ in found]
    medians = [percentile(case.round_seconds, 50) for _, case in found]
    sent = [case.egress / max(1, len(case.round_seconds)) / 1e6 for _, case in found]
    axes.plot(labels, medians, marker="o", label="median round, s")
    axes.set(xlabel=name, ylabel="seconds", ylim=(0, None))
    other = axes.twinx()
    other.bar(labels, sent, alpha=0.25)
    other.set_ylabel("server sends a round, MB")
    axes.legend(fontsize=8)
