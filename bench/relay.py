"""What a relay holds and gives: ``python -m bench.relay [--bytes N] [--clients N] [--json]``.

A server, a relay and the clients below it are processes of their own, over tcp. All clients pull
the same model at once, verified. ``growth`` is the peak of the relay's resident size while they do,
above its size with all clients connected; ``egress`` is what the server was asked for, in models.
``seconds`` stands beside the same pulls without a relay, in the same run.

In ``reduce`` every client brings an update, and ``ingress`` is what the server pulled of them, in
models; the relay holds the model and the sum, and what is staged.
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
REDUCE: Final = "reduce"
CACHE: Final = 256_000_000
SMALL_MODEL: Final = 64_000_000  # bytes of model below which sums are float64
STAGING: Final = 64 * 1024 * 1024
TENSOR: Final = 16_000_000
GROWTH: Final = 48e6
ANY_PORT: Final = "tcp://127.0.0.1:0"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    options = parser().parse_args(arguments)
    rows: list[Row] = []
    tensors = max(1, options.bytes // TENSOR)
    nbytes = min(TENSOR, options.bytes)
    modes = options.mode or [*MODES, REDUCE]
    if REDUCE in modes:
        rows += summed(tensors, nbytes, options.clients)
    if modes != [REDUCE]:
        rows += passed([mode for mode in modes if mode != REDUCE], options, tensors, nbytes)
    Report("relay", rows).show(as_json=options.json)


def passed(
    modes: Sequence[str], options: argparse.Namespace, tensors: int, nbytes: int
) -> list[Row]:
    """Return what relays hold and ask for that pass a model on."""
    rows: list[Row] = []
    with Child("bench.tree_root", {"address": ANY_PORT, "tensors": tensors, "nbytes": nbytes}) as a:
        root = a.hear()
        case = f"{options.clients} clients, {format_size(tensors * nbytes)}"
        flat = pull_seconds(str(root["address"]), root, options.clients, nbytes)
        rows.append(Row(f"flat, {case}", "seconds", flat, "s"))
        a.ask("served")
        for mode in modes:
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
    return rows


def summed(tensors: int, nbytes: int, clients: int) -> list[Row]:
    """Return what a relay that adds holds, and what the server pulls."""
    total = tensors * nbytes
    name = f"{REDUCE}, {clients} clients, {format_size(total)}"
    root: dict[str, str | float] = {
        "address": ANY_PORT,
        "clients": clients,
        "tensors": tensors,
        "nbytes": nbytes,
    }
    with Child("bench.tree_sums", root) as server:
        setting = {"parent": server.hear()["address"], "mode": REDUCE, "cache_bytes": CACHE}
        with Child("bench.tree_relay", setting) as relay:
            address = str(relay.hear()["address"])
            before = float(relay.ask("memory")["rss"])
            found = server.ask(address)
            growth = (float(relay.ask("memory")["peak"]) - before) / 1e6
            ingress = float(found["received"]) / total
            # The model, the sum in float32 or float64, what is staged, windows.
            width = 1 if total >= SMALL_MODEL else 3  # a sum in float64 is narrowed at the end
            most = (total * (1 + width) + STAGING + GROWTH) / 1e6
            return [
                Row(name, "ingress", ingress, "models").against("target", 1.0),
                Row(name, "growth", growth, "MB").against("target", most),
                Row(name, "seconds", float(found["seconds"]), "s"),
            ]


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
    found.add_argument("--cache", type=parse_size, default=CACHE, help="its budget (256MB)")
    found.add_argument("--mode", choices=(*MODES, REDUCE), action="append", help="(all of them)")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


if __name__ == "__main__":
    main()
