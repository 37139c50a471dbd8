"""The command ``python -m flare_async.sim what-if``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from flare_async.sim.commands import Doing
from flare_async.sim.quantities import SECONDS, SHARE, SIZE
from flare_async.sim.virtual.parameters import SPREAD, SWEEP

if TYPE_CHECKING:
    from flare_async.sim.virtual.asked import Asked
    from flare_async.sim.virtual.whatif import WhatIf

__all__ = ["command", "played"]

EPILOG: Final = """\b
Examples:
  python -m flare_async.sim what-if job.py --clients 1000 --network 4g --model-size 1MB
  python -m flare_async.sim what-if job.py --clients 1000 --network 4g --sweep relays=0,5,20
  python -m flare_async.sim what-if job.py --network hospital-vpn --train-time 60s..300s
  python -m flare_async.sim what-if job.py --dropout 10% --quorum 80% --deadline 10min

\b
Networks: lan, wan, 4g, hospital-vpn, or a TOML file such as fit-network writes.
Exit status: 0, or what the run would fail with: 2 configuration, 6 quorum not reached."""
PATH: Final = click.Path(path_type=Path)


@click.command("what-if", epilog=EPILOG, context_settings={"show_default": True})
@click.argument("job", type=PATH)
@click.option("--clients", type=click.IntRange(min=1), default=100, help="How many sites.")
@click.option("--rounds", type=click.IntRange(min=1), show_default="the job's", help="How many.")
@click.option("--network", default="wan", metavar="NAME|FILE", help="Of the sites.")
@click.option("--relay-network", default="lan", metavar="NAME|FILE", help="Relays to server.")
@click.option("--relays", type=click.IntRange(min=0), default=0, help="Between server and sites.")
@click.option(
    "--relay-mode", type=click.Choice(["splice", "cache", "reduce"]), default="cache",
    help="What relays do.",
)  # fmt: skip
@click.option("--relay-memory", type=SIZE, default="24MiB", help="Credit of all its links.")
@click.option("--dropout", type=SHARE, default="0%", help="Of the sites, in each round.")
@click.option("--quorum", type=SHARE, show_default="the job's", help="Updates a round needs.")
@click.option("--deadline", type=SECONDS, show_default="the job's", help="Of a round.")
@click.option("--model-size", type=SIZE, show_default="the job's model", help="Of a float32 model.")
@click.option("--train-time", type=SPREAD, default="0s", help="30s, or 30s..90s: median and p95.")
@click.option("--server-mbit", type=float, default=10_000, help="Of the server, each direction.")
@click.option("--sweep", type=SWEEP, help="relays=0,10,20: one row each, and which is best.")
@click.option("--seed", type=click.IntRange(min=0), default=7, help="The same gives the same.")
@click.option("--picture", type=PATH, help="Write a picture (extra [plot]).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(model_size: float | None, relay_memory: float, **given: object) -> Doing:
    """Play JOB on many sites in virtual time: nobody trains, and only sizes count.

    The real server, relays and clients run on a simulated network. What rounds take, what passes
    through the server, what it holds, who is late and which quorum is best is told at once.
    """
    from flare_async.sim.virtual.asked import Asked

    size = None if model_size is None else int(model_size)
    asked = Asked(model_size=size, relay_memory=int(relay_memory), **given)  # type: ignore[arg-type]
    return lambda results: run(asked, results)


def run(asked: Asked, results: TextIO) -> int:
    """Play every case, tell what came of it, and draw it where that was asked for."""
    from flare_async.sim.virtual.tell import tell

    asked.check()
    if asked.picture is not None:
        from flare_async.sim.virtual.picture import check_picture

        check_picture(asked.picture)
    found = [(label, played(case)) for label, case in asked.cases()]
    tell(asked, found, results)
    if asked.picture is not None:
        from flare_async.sim.virtual.picture import draw

        draw(asked, found, asked.picture)
        sys.stderr.write(f"picture in {asked.picture}\n")
    return 0


def played(asked: Asked) -> WhatIf:
    """Play the job as it was asked for.

    Raises:
        FlareError: the job or an option cannot be used, or what the run would fail with.
    """
    from flare_async.errors import FlareError, RunFailed
    from flare_async.sim.load import loaded_recipe
    from flare_async.sim.play import changed
    from flare_async.sim.virtual.whatif import what_if

    with loaded_recipe(asked.job, {"seed": asked.seed}) as found:
        least = min(asked.least() or found.min_clients, asked.clients)
        recipe = changed(found, num_rounds=asked.rounds, min_clients=least)
        if asked.deadline is not None:
            recipe = changed(recipe, round_timeout=asked.deadline)
        try:
            return what_if(recipe, asked.setting())
        except RunFailed as exc:  # it names a folder, and there is none
            raise exc.__cause__ if isinstance(exc.__cause__, FlareError) else exc from None
