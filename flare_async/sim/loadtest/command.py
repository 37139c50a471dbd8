"""The command ``python -m flare_async.sim load``."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO
from urllib.parse import urlsplit

import click

from flare_async.sim.commands import Doing
from flare_async.sim.loadtest.asked import Asked, checked
from flare_async.sim.quantities import SECONDS, SHARE, SIZE

if TYPE_CHECKING:
    from flare_async.sim.loadtest.setting import Behaviour, LoadSetting

__all__ = ["command"]

EPILOG: Final = """\b
Examples:
  python -m flare_async.sim load --clients 5000 --rounds 3 --model-size 100KB
  python -m flare_async.sim load --transport tls --slow 5% --drop 1%
  python -m flare_async.sim load --listen tcp://0.0.0.0:7000 --clients 2000 --processes 0
  python -m flare_async.sim load --join tcp://SERVER:7000 --clients 1000 --first 1001

\b
Exit status: 0 when the model is what it should be (--join: no client was lost), 1 otherwise,
2 for what cannot be used, 3 no connection, 4 clients that did not come, 6 quorum not reached,
130 interrupted, 143 terminated."""
LOOPBACK: Final = "127.0.0.1"
ITEM: Final = 4  # bytes of a float32


@click.command("load", epilog=EPILOG, context_settings={"show_default": True})
@click.option("--clients", type=click.IntRange(min=1), default=1000, help="How many clients.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="How many rounds.")
@click.option("--model-size", type=SIZE, default="100KB", help="Of the model, float32.")
@click.option(
    "--transport", type=click.Choice(["tcp", "tls", "ws", "wss", "unix"]), default="tcp",
    help="Real sockets of this kind, on loopback.",
)  # fmt: skip
@click.option("--tls", is_flag=True, help="tls for tcp, wss for ws.")
@click.option(
    "--processes", type=click.IntRange(min=0), default=2,
    help="With the server's; 1 is all in one, 0 waits for others to --join.",
)  # fmt: skip
@click.option("--listen", metavar="ADDRESS", help="Where the server listens, for --join.")
@click.option("--join", metavar="ADDRESS", help="Host clients for a server elsewhere.")
@click.option("--first", type=click.IntRange(min=1), default=1, help="With --join: first number.")
@click.option(
    "--certificates", type=click.Path(path_type=Path),
    help="A folder with certificate.pem, key.pem, authority.pem; --join reads the last.",
)  # fmt: skip
@click.option("--train-time", type=SECONDS, default="0s", help="How long a client trains.")
@click.option("--slow", type=SHARE, default="0%", help="Of the clients: they take longer.")
@click.option("--slow-time", type=SECONDS, default="1s", help="How much longer.")
@click.option("--drop", type=SHARE, default="0%", help="Of the tasks: the link is cut meanwhile.")
@click.option("--fail", type=SHARE, default="0%", help="Of the tasks: the client fails.")
@click.option("--quorum", type=SHARE, show_default="all; half if some fail", help="Of the clients.")
@click.option("--deadline", type=SECONDS, help="Of a round.")
@click.option("--seed", type=click.IntRange(min=0), default=7, help="Of who is slow or fails.")
@click.option("--workspace", type=click.Path(path_type=Path), default="flare-runs", help="Results.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def command(*, tls: bool, **given: object) -> Doing:
    """Load a server with clients in processes of their own, over real sockets.

    Rounds a second, the time of a client-round, latency of tasks, lag of the loop, memory a client,
    bytes and failures by kind are printed and written into a folder, with a picture of the latency.
    """
    asked = checked(Asked(**given), named_options(), tls=tls)  # type: ignore[arg-type]
    return lambda results: join(asked, results) if asked.join else run(asked, results)


def named_options() -> list[str]:
    """Return the names of the options that the command line has."""
    context = click.get_current_context()
    named = click.core.ParameterSource.COMMANDLINE
    return [name for name in context.params if context.get_parameter_source(name) is named]


def join(asked: Asked, results: TextIO) -> int:
    """Host clients until the server says goodbye, and tell what became of them."""
    from flare_async.jobs.loops import new_loop
    from flare_async.sim.loadtest.host import only_warnings, serve_clients
    from flare_async.sim.loadtest.setting import PATIENCE, Hosting
    from flare_async.sim.loadtest.terminable import TERMINATED, unless_terminated

    only_warnings()
    sys.stderr.write(f"joining {asked.join}: tried again for {PATIENCE:g} s\n")
    hosting = Hosting(
        address=asked.join or "",
        first=asked.first,
        count=asked.clients,
        certificates="" if asked.certificates is None else str(asked.certificates),
        behaviour=behaviour(asked),
    )
    with asyncio.Runner(loop_factory=new_loop) as runner:
        figures = runner.run(unless_terminated(serve_clients(hosting)))
    if figures is None:
        return TERMINATED
    to = results if asked.as_json else sys.stderr
    to.write(json.dumps(asdict(figures)) + "\n")
    to.flush()
    return 1 if figures.lost else 0


def run(asked: Asked, results: TextIO) -> int:
    """Run a load test, write its folder and tell what came of it.

    Raises:
        QuorumNotReached: too few tasks of a round ended well; the folder has what came before.
    """
    from flare_async.jobs.loops import calm_collector, new_loop
    from flare_async.jobs.store import new_run_folder
    from flare_async.sim.loadtest.host import only_warnings
    from flare_async.sim.loadtest.play import play_load
    from flare_async.sim.loadtest.tell import tell, write
    from flare_async.sim.loadtest.terminable import TERMINATED, unless_terminated

    only_warnings()
    folder = new_run_folder(asked.workspace.expanduser().absolute(), "load")
    with (
        prepared(asked) as setting,
        calm_collector(),
        asyncio.Runner(loop_factory=new_loop) as runner,
    ):
        figures = runner.run(unless_terminated(play_load(setting, sys.stderr)))
    if figures is None:
        return TERMINATED
    write(figures, folder, sys.stderr)
    if figures.problem is not None:
        figures.problem.add_note(f"figures up to then: {folder}")
        raise figures.problem
    tell(figures, folder, results, as_json=asked.as_json)
    return 0 if figures.correct else 1


@contextmanager
def prepared(asked: Asked) -> Iterator[LoadSetting]:
    """Yield the setting; a folder of certificates and sockets goes with the block."""
    from flare_async.sim.loadtest.certificates import write_certificates
    from flare_async.sim.loadtest.setting import LoadSetting

    scheme = asked.scheme
    with tempfile.TemporaryDirectory(prefix="fa-") as folder:
        certificates = "" if asked.certificates is None else str(asked.certificates)
        if not certificates and scheme in {"tls", "wss"}:
            write_certificates(Path(folder), *hosts_of(asked.listen))
            certificates = folder
        own = f"unix://{folder}/server" if scheme == "unix" else f"{scheme}://{LOOPBACK}:0"
        quorum = asked.quorum if asked.quorum is not None else 0.5 if asked.fail else 1.0
        yield LoadSetting(
            clients=asked.clients,
            rounds=asked.rounds,
            nbytes=max(1, int(asked.model_size) // ITEM) * ITEM,
            address=asked.listen or own,
            processes=asked.processes,
            away=asked.processes == 0,
            quorum=quorum,
            deadline=asked.deadline,
            certificates=certificates,
            behaviour=behaviour(asked),
        )


def hosts_of(address: str | None) -> list[str]:
    """Return the names by which clients find the server: a certificate is for them."""
    host = urlsplit(address or "").hostname
    return list(dict.fromkeys([LOOPBACK, "localhost", *([host] if host else [])]))


def behaviour(asked: Asked) -> Behaviour:
    """Return what the clients do."""
    from flare_async.sim.loadtest.setting import Behaviour

    return Behaviour(
        train_time=asked.train_time,
        slow=asked.slow,
        slow_time=asked.slow_time,
        drop=asked.drop,
        fail=asked.fail,
        seed=asked.seed,
    )
