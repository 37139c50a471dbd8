"""The command line ``python -m flare_async.sim``.

Standard output carries the result, standard error everything else. Heavy modules are imported when
a run begins, so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TextIO

import click

from flare_async.sim.commands import COMMANDS, run_named
from flare_async.sim.failure import INTERRUPTED, Failure, aborted, failure_of
from flare_async.sim.options import PREFIX, Options, project_defaults

if TYPE_CHECKING:
    from flare_async.sim.play import Played

__all__ = ["command", "main", "run_command_line"]

PROJECT: Final = Path("pyproject.toml")
USAGE: Final = 2
CLOSED: Final = 141  # what a shell says of a program that a closed pipe has ended
EPILOG: Final = """\b
Examples:
  python -m flare_async.sim                        the digits job: 8 sites, 10 rounds
  python -m flare_async.sim --clients 20 --alpha 0.1
                                                   more sites that are less alike
  python -m flare_async.sim --json --seed 3 > run.json
                                                   one JSON document, nothing else
  python -m flare_async.sim job.py --clients 4 --rounds 5 --workers process
                                                   a job of your own, in worker processes

\b
Commands, each with a --help of its own:
  python -m flare_async.sim load                   many clients over real sockets
  python -m flare_async.sim what-if JOB.py         a job on thousands of sites, in virtual time
  python -m flare_async.sim hunt JOB.py            a job again and again, until a mistake shows
  python -m flare_async.sim fit-network RUN        the network of a run that has been

\b
JOB is a file or a folder. A job file holds recipe = FedAvgRecipe(...) or def recipe(): ... that
returns one; a job folder is what recipe.export() has written.

\b
An option that is not given comes from the environment (FLARE_ASYNC_CLIENTS=20), then from
[tool.flare-async] in ./pyproject.toml (clients = 20), then from the defaults above.

\b
Exit status: 0 completed, 1 the run failed, 2 usage or configuration, 3 connection, 4 timed out,
5 aborted, 6 quorum not reached, 7 resource limit, 8 integrity, 70 a bug, 130 interrupted.
"""


@click.command(
    epilog=EPILOG,
    context_settings={
        "auto_envvar_prefix": PREFIX,
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "show_default": True,
    },
)
@click.argument("job", required=False, type=click.Path(path_type=Path), metavar="[JOB]")
@click.option("--clients", type=click.IntRange(min=1), show_default="8", help="How many sites.")
@click.option("--rounds", type=click.IntRange(min=1), show_default="the job's", help="How often.")
@click.option(
    "--workers",
    type=click.Choice(["inline", "thread", "process", "ray"]),
    default="thread",
    help="Where training functions run: on the event loop, in threads, processes or a Ray cluster.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    show_default="1; processes: a core less than there are",
    help="How many threads or processes train at once.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=7,
    help="The same seed gives the same model, bit by bit.",
)
@click.option(
    "--transport",
    type=click.Choice(["memory", "tcp", "unix"]),
    default="memory",
    help="How models travel between server and sites.",
)
@click.option(
    "--workspace",
    type=click.Path(path_type=Path),
    default=Path("flare-runs"),
    help="Where each run gets a folder of its own.",
)
@click.option(
    "--alpha",
    type=float,
    show_default="0.5",
    help="Digits: how alike the sites are; less is less alike.",
)
@click.option("--json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--quiet", is_flag=True, help="Show nothing while the run goes on.")
def command(**given: object) -> Options:
    """Simulate a federated run on this machine.

    Without JOB, eight sites with different handwritten digits train one small network. The run
    leaves a folder with its models, history, report.html and learning_curve.png.
    """
    return Options(**given)  # type: ignore[arg-type]


def main() -> NoReturn:
    """Run the command line and end the process with its exit status."""
    status = run_command_line(sys.argv[1:])
    if threading.active_count() > 1:  # an abandoned training function may go on for hours
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def run_command_line(arguments: Sequence[str]) -> int:
    """Do what the arguments ask; return the exit status and never raise."""
    as_json = "--json" in arguments
    try:
        if arguments and arguments[0] in COMMANDS:
            _log_to_stderr()
            return _run_named(arguments)
        options = _parse(arguments)
        if not isinstance(options, Options):
            return 0  # --help was printed
        as_json = options.json
        return _run(options)
    except click.ClickException as exc:
        return _fail(_usage(exc), as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        return _fail(_interrupted("interrupted before the run began"), as_json=as_json)
    except Exception as exc:  # noqa: BLE001 - the outermost frame: every error becomes a status
        enough = isinstance(exc, BrokenPipeError)  # of whoever reads the results
        return CLOSED if enough else _fail(failure_of(exc), as_json=as_json)


def _run_named(arguments: Sequence[str]) -> int:
    try:
        return run_named(arguments)
    except (KeyboardInterrupt, click.Abort):
        return _fail(_interrupted("interrupted"), as_json="--json" in arguments)


def _parse(arguments: Sequence[str]) -> Options | int | None:
    known = [str(param.name) for param in command.params if isinstance(param, click.Option)]
    parsed: Options | int | None = command.main(
        args=list(arguments),
        prog_name="python -m flare_async.sim",
        standalone_mode=False,
        default_map=project_defaults(PROJECT, known),
    )
    return parsed


def _run(options: Options) -> int:
    from flare_async.sim.interrupt import Interrupts
    from flare_async.sim.play import play
    from flare_async.sim.stdout import only_results

    _log_to_stderr()
    with Interrupts() as interrupts, only_results() as results:
        played = play(options, sys.stderr, interrupts)
        failure = _failure(played, interrupted=interrupts.count > 0)
        _tell(played, failure, options, results)
    return 0 if failure is None else failure.status


def _failure(played: Played, *, interrupted: bool) -> Failure | None:
    from flare_async.errors import FlareError

    if played.facts.completed:
        return None
    if interrupted:
        return aborted(played.facts.run_id, str(played.facts.folder))
    try:
        played.run.check()
    except FlareError as exc:
        return failure_of(exc)
    return None


def _tell(played: Played, failure: Failure | None, options: Options, results: TextIO) -> None:
    from flare_async.sim.summary import document, print_summary, run_data

    if options.json:
        results.write(document(run_data(played.facts, played.extras), failure) + "\n")
        results.flush()
        return
    print_summary(played.facts, played.extras, results)
    if failure is not None:
        _say(failure)


def _fail(failure: Failure, *, as_json: bool) -> int:
    if as_json:
        from flare_async.sim.summary import document

        sys.stdout.write(document(None, failure) + "\n")
        sys.stdout.flush()
    else:
        _say(failure)
    return failure.status


def _say(failure: Failure) -> None:
    for line in failure.lines():
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _usage(error: click.ClickException) -> Failure:
    hint = "see python -m flare_async.sim --help"
    message = error.format_message()
    if isinstance(error, click.NoSuchOption):
        near = get_close_matches(error.option_name, error.possibilities or (), n=1)
        hint = f"did you mean {near[0]}?" if near else hint
        message = f"no such option: {error.option_name}"
    return Failure("usage", message, hint, (), USAGE)


def _interrupted(said: str) -> Failure:
    return Failure("interrupted", said, "", (), INTERRUPTED)


def _log_to_stderr() -> None:
    import structlog

    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
