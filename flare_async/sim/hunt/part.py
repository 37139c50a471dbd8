"""A part of a hunt in a process of its own: ``python -m flare_async.sim.hunt.part``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import structlog

from flare_async.sim.hunt.hunter import Hunt, as_line, tell_found
from flare_async.sim.hunt.judge import Judge
from flare_async.sim.hunt.play import Job
from flare_async.sim.stdout import only_results

__all__ = ["main", "only_errors"]


def only_errors() -> None:
    """Log next to nothing: in a hunt everything goes wrong all the time."""
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
    )


def main() -> None:
    """Play the seeds that the command line names; a line of JSON each."""
    path, clients, rounds, seed, any_order, may_lose, *bounds = sys.argv[1:]
    only_errors()
    job = Job(Path(path), int(clients), int(rounds) or None, int(seed))
    hunt = Hunt(job, Judge(job, any_order == "1"), may_lose == "1")
    with only_results() as results:
        for number in range(*map(int, bounds)):
            verdict = hunt.verdict(number)
            tell_found(verdict)
            results.write(as_line(verdict) + "\n")
            results.flush()


if __name__ == "__main__":
    main()
