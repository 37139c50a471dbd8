"""Bulk bytes between two processes, beside raw sockets: ``python -m bench.throughput [--json]``.

The ceiling of tcp, unix and tls is a pair of blocking sockets that send from the same memory and
receive into the same touched buffer in frames of the same size; that of tls is the standard
library's ``ssl`` with the same certificate. ws and wss are measured by the same way over tcp.
``channel`` is one leased channel, from the side that listens to the one that connects; ``upload``
is the same in the other direction, until the listener says that all has landed; ``verified`` is an
offer that is pulled into fresh tensors, digests on. The first pull, which computes the owner's
digests, stands apart. Runs alternate (raw, channel, raw, upload, raw, verified), and a ratio is the
median over pairs of neighbours. Each process has a core of its own where there are two: the kernel
otherwise puts both on one or on two, as it pleases, and the same program is half as fast in one run
as in the next. ``--counts`` adds what happens on a tcp or unix link, from a run of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import median
from typing import Final

from bench.cpu import ANY_CORE, two_cores
from bench.pairs import Pair, Pairs, Run, Wire
from bench.size import parse_size
from bench.table import Report, Row
from bench.wires import NAMES, NOT_AVAILABLE, available
from flare_async.limits import MIB

__all__ = ["main"]

TARGETS: Final = {
    ("channel", "tcp"): 0.85,
    ("channel", "unix"): 0.75,
    ("channel", "tls"): 0.85,
    ("verified", "tcp"): 0.6,
    ("channel", "ws"): 0.6,
    ("upload", "ws"): 0.4,
}
WAYS: Final = ("channel", "upload", "verified")
COUNTED: Final = ("tcp", "unix")
COUNTS: Final = (
    ("reads", "reads a MiB"),
    ("frames_in", "frames a MiB in"),
    ("frames_out", "frames a MiB out"),
    ("scratch_bytes", "bytes a MiB through scratch"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    options = parser().parse_args(arguments)
    rows: list[Row] = []
    for transport in options.transport or NAMES:
        if not available(transport):
            rows.append(Row(transport, NOT_AVAILABLE, 0))
            continue
        cores = (ANY_CORE, ANY_CORE) if options.unpinned else two_cores()
        wire = Wire(transport, options.bytes, options.tensors, options.frame, cores).rounded()
        rows += wire_rows(wire, options.pairs)
        if options.counts and transport in COUNTED:
            rows += count_rows(wire)
    Report("throughput", rows).show(as_json=options.json)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    found.add_argument("--transport", choices=NAMES, action="append", help="(all)")
    found.add_argument("--bytes", type=parse_size, default=1024 * MIB, help="a run's (1GiB)")
    found.add_argument("--pairs", type=int, default=7, help="of runs, for each way (7)")
    found.add_argument("--tensors", type=int, default=16, help="that the bytes make up (16)")
    found.add_argument("--frame", type=parse_size, default=MIB, help="the raw frames' (1MiB)")
    found.add_argument("--unpinned", action="store_true", help="let the scheduler choose cores")
    found.add_argument("--counts", action="store_true", help="count reads and frames as well")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def wire_rows(wire: Wire, count: int) -> list[Row]:
    """Run all pairs of one transport and return their rows."""
    name = str(wire)
    pairs: dict[str, list[Pair]] = {way: [] for way in WAYS}
    with wire.opened() as peers:
        for way in ("raw", "channel", "upload") if wire.reference == "raw" else WAYS[:2]:
            peers.check(way)
        first = peers.pair("verified")
        for _ in range(max(1, count)):
            for way in WAYS:
                pairs[way].append(peers.pair(way))
    rows = []
    for way in WAYS:
        rows += way_rows(wire, way, Pairs(pairs[way]))
    first_row = Row(name, "verified, first pull", first.ours.gb_s, "GB/s")
    touched = median(pair.ours.touch_gb_s for pair in pairs["verified"])
    return [
        *rows,
        first_row.against(f"{wire.reference} before it", first.reference.gb_s),
        Row(name, "first touch of fresh memory, for itself", touched, "GB/s"),
    ]


def way_rows(wire: Wire, way: str, pairs: Pairs) -> list[Row]:
    """Return the rows of one way to transfer."""
    name, beside = str(wire), f"{wire.reference} beside it"
    target = TARGETS.get((way, wire.transport))
    rate = Row(name, way, pairs.ours(gb_s), "GB/s", beside, pairs.reference(gb_s), pairs.ratio)
    cpu = Row(name, f"{way}: CPU of both", pairs.ours(cpu_s_gb), "s/GB")
    ratio = Row(name, f"{way}: median ratio of {len(pairs.pairs)} pairs", pairs.ratio)
    if target is not None:
        ratio = ratio.against("target, at least", target)
    return [rate, ratio, cpu.against(beside, pairs.reference(cpu_s_gb))]


def gb_s(run: Run) -> float:
    """Return a run's rate."""
    return run.gb_s


def cpu_s_gb(run: Run) -> float:
    """Return a run's processor time for each GB."""
    return run.cpu_s_gb


def count_rows(wire: Wire) -> list[Row]:
    """Return what happens on the link for each MiB that comes, counted at the receiver."""
    name, size = f"{wire.transport}, counted", wire.nbytes / MIB
    with wire.opened(counting=True) as peers:
        runs: dict[str, Run] = {way: peers.run(way) for way in ("raw", "channel", "verified")}
    return [
        Row(name, f"{way}: {text}", run.counts[key] / size)
        for way, run in runs.items()
        for key, text in COUNTS
        if key in run.counts
    ]


if __name__ == "__main__":
    main()
