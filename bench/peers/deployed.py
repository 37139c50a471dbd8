"""The exchange by processes of ours over tcp: those of ``bench.memory``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from bench.memory import Case, processes

__all__ = ["main"]


def main() -> None:
    """Run as the command line says, and print what came of it."""
    found = argparse.ArgumentParser()
    found.add_argument("--folder", type=Path, required=True)
    found.add_argument("--nbytes", type=int, required=True)
    found.add_argument("--clients", type=int, required=True)
    found.add_argument("--rounds", type=int, required=True)
    options = found.parse_args()
    case = Case(options.clients, options.nbytes, options.nbytes)
    with processes(case, options.folder) as started:
        first = float(started.server.ask("load")["value"])
        for _ in range(options.rounds):
            with (options.folder / "server.txt").open("a", encoding="ascii") as file:
                file.write(f"{time.time()}\n")
            started.round()
        last = started.server.ask("peak")
    value = float(last["value"]) - first
    ok = abs(value - options.rounds) < 1e-5
    server = float(last["peak"]) / 1e6
    print(json.dumps({"ok": ok, "values": [value], "server_mb": server}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
