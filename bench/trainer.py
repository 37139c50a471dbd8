"""What a client and its trainer hold: ``python -m bench.trainer [--model-mb N] [--rounds N]``.

A server, a client and the client's trainer, each a process of its own, over tcp and a unix socket.
The script adds one to the model in place. ``growth`` is a process's peak above its resident size
before it received anything; ``copies`` is the same in models. The client's target is a peak of
100 MB in all, the trainer's one received copy and one result above its framework.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.child import Child
from bench.table import Report, Row
from flare_async.model import ParamsType

__all__ = ["main", "measure"]

CLIENT_TARGET: Final = 100.0
TRAINER_TARGET: Final = 2.0
MB: Final = 1e6


def measure(nbytes: int, rounds: int, transfer: str) -> Iterator[Row]:
    """Yield the figures of one way of sending updates."""
    case = f"{nbytes / MB:.0f} MB, {transfer}"
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "trainer.json"
        setting: dict[str, str | float] = {
            "address": "tcp://127.0.0.1:0",
            "clients": 1,
            "nbytes": nbytes,
            "tensor_bytes": max(1, nbytes // 10),
            "spool": folder,
        }
        with Child("bench.memory_server", setting) as server:
            told = {"address": server.hear()["address"], "transfer": transfer}
            with Child("bench.trainer_client", {**told, "figures": str(figures)}) as client:
                server.hear()
                base = float(client.ask("base")["rss"])
                server.tell("load")
                server.hear()
                seconds = [float(server.ask("round")["seconds"]) for _ in range(rounds)]
                peak = float(client.ask("peak")["peak"])
        trainer = json.loads(figures.read_text(encoding="ascii"))
    grown = max(trainer["peaks"])
    yield Row(case, "client peak", peak / MB, "MB").against("target", CLIENT_TARGET)
    yield Row(case, "client growth", (peak - base) / MB, "MB")
    yield Row(case, "trainer base", trainer["base"] / MB, "MB")
    yield Row(case, "trainer growth", grown / nbytes, "copies").against("target", TRAINER_TARGET)
    yield Row(case, "first round", seconds[0], "s")
    if rounds > 1:
        yield Row(case, "later round", min(seconds[1:]), "s")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--model-mb", type=float, default=100.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    nbytes = int(options.model_mb * MB)
    rows = [row for kind in ParamsType for row in measure(nbytes, options.rounds, kind.value)]
    Report("trainer", rows).show(as_json=options.json)


if __name__ == "__main__":
    main()
