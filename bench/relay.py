"""What a relay holds and gives: ``python -m bench.relay [--bytes N] [--clients N] [--json]``.

A server, a relay and the clients below it are processes of their own, over tcp. All clients pull
the same model at once, verified. ``growth`` is the peak of the relay's resident size while they do,
above its size with all clients connected; ``egress`` is what the server was asked for, in models.
``seconds`` stands beside the same pulls without a relay, in the same run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from bench.child import Child
from bench.size import format_size, parse_size
from bench.table import Report, Row

__all__ = ["main"]

MODES: Final = ("splice", "cache")
TENSOR: Final = 16_000_000
GROWTH: Final = 48e6
ANY_PORT: Final = "tcp://127.0.0.1:0"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    options = parser().parse_args(arguments)
    rows: list[Row] = []
    tensors = max(1, options.bytes // TENSOR)
    nbytes = min(TENSOR, options.bytes)
    with Child("bench.tree_root", {"address": ANY_PORT, "tensors": tensors, "nbytes": nbytes}) as a:
        root = a.hear()
        case = f"{options.clients} clients, {format_size(tensors * nbytes)}"
        flat = pull_seconds(str(root["address"]), root, options.clients, nbytes)
        rows.append(Row(f"flat, {case}", "seconds", flat, "s"))
        a.ask("served")
        for mode in options.mode or MODES:
            setting = {"parent": root["address"], "mode": mode, "cache_bytes": options.cache}
            with Child("bench.tree_relay", setting) as relay:
                address = str(relay.hear()["address"])
                seconds, growth = watched_pull(relay, address, root, options.clients, nbytes)
            egress = float(a.ask("served")["served"]) / (tensors * nbytes)
            most = GROWTH if mode == "splice" else GROWTH + options.cache
            name = f"{mode}, {case}"
            rows.append(Row(name, "growth", growth / 1e6, "MB").against("target", most / 1e6))
            wanted = options.clients if mode == "splice" else 1.0
            rows.append(Row(name, "egress", egress, "models").against("target", wanted))
            rows.append(Row(name, "seconds", seconds, "s").against("flat", flat))
    Report("relay", rows).show(as_json=options.json)


def pull_seconds(address: str, root: dict[str, str | float], clients: int, nbytes: int) -> float:
    """Return how long all clients together need for the model."""
    with Child("bench.tree_readers", readers(address, root, clients, nbytes)) as child:
        child.hear()
        return float(child.ask("pull")["seconds"])


def watched_pull(
    relay: Child, address: str, root: dict[str, str | float], clients: int, nbytes: int
) -> tuple[float, float]:
    """Return how long all clients need through a relay, and by how much that grew."""
    with Child("bench.tree_readers", readers(address, root, clients, nbytes)) as child:
        child.hear()
        before = float(relay.ask("memory")["rss"])
        seconds = float(child.ask("pull")["seconds"])
        return seconds, float(relay.ask("memory")["peak"]) - before


def readers(
    address: str, root: dict[str, str | float], clients: int, nbytes: int
) -> dict[str, str | float]:
    """Return the setting of the clients' process."""
    return {"address": address, "ref": root["ref"], "clients": clients, "nbytes": nbytes}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.relay", description=__doc__)
    found.add_argument("--bytes", type=parse_size, default=1_000_000_000, help="the model (1GB)")
    found.add_argument("--clients", type=int, default=8, help="below the relay (8)")
    found.add_argument("--cache", type=parse_size, default=256_000_000, help="its budget (256MB)")
    found.add_argument("--mode", choices=MODES, action="append", help="(all of them)")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


if __name__ == "__main__":
    main()
