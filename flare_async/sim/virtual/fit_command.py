"""The command ``python -m flare_async.sim fit-network``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from flare_async.errors import WorkspaceError
from flare_async.sim.commands import Doing
from flare_async.sim.quantities import SECONDS

if TYPE_CHECKING:
    from flare_async.sim.virtual.fit import Fitted

__all__ = ["command"]

EPILOG: Final = """\b
Example:
  python -m flare_async.sim fit-network flare-runs/job-1 --latency 20ms -o mine.toml
  python -m flare_async.sim what-if job.py --network mine.toml"""
PATH: Final = click.Path(path_type=Path)


@click.command("fit-network", epilog=EPILOG, context_settings={"show_default": True})
@click.argument("run", type=PATH)
@click.option("-o", "--output", type=PATH, help="Write the profile there; else it is printed.")
@click.option("--latency", type=SECONDS, default="0ms", help="Of one direction, from ping / 2.")
def command(run: Path, output: Path | None, latency: float) -> Doing:
    """Fit a network profile to the run in the folder RUN.

    Each site's bandwidth is its bytes, down and up together, by the time that its tasks took
    beyond the training; latency is not recorded and has to be given.
    """
    return lambda results: fit(run, output, latency, results)


def fit(run: Path, output: Path | None, latency: float, results: TextIO) -> int:
    """Fit, and write or print the profile.

    Raises:
        FlareError: the run has no such records, or the file cannot be written.
    """
    from flare_async.sim.virtual.fit import fit_network
    from flare_async.sim.virtual.networks import profile_text

    fitted = fit_network(run, latency=latency)
    text = profile_text(fitted.profile, notes_of(fitted, run))
    if output is None:
        results.write(text)
        return 0
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise WorkspaceError("output", str(output), f"cannot be written: {exc}") from exc
    results.write(f"{output}: {fitted.tasks} tasks of {fitted.sites} sites\n")
    return 0


def notes_of(fitted: Fitted, run: Path) -> list[str]:
    """Return what a reader of the profile should know."""
    median, far = plain(fitted.training.median), plain(fitted.training.far)
    return [
        f"Fitted to {fitted.tasks} tasks of {fitted.sites} sites of the run {run.name}.",
        "Bandwidth: bytes down and up, by the seconds of a task beyond its training; each site's",
        "median over its rounds, the same in both directions. Latency is as given; jitter and loss",
        "are not in the records: what they cost is in the bandwidth.",
        f"Training took {median} s, for a twentieth of the sites {far} s",
        f"or more: --train-time {median}s..{far}s",
    ]


def plain(seconds: float) -> str:
    """Return seconds as ``--train-time`` reads them, which knows no exponents."""
    if seconds >= 100:
        return f"{seconds:.0f}"
    return f"{float(f'{seconds:.3g}'):.9f}".rstrip("0").rstrip(".")
