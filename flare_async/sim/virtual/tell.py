"""What ``what-if`` prints: a table, or one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, TextIO

from rich.console import Console
from rich.table import Table

from flare_async.sim.quantities import format_bytes
from flare_async.sim.summary import document
from flare_async.sim.virtual.run import Held
from flare_async.sim.virtual.whatif import WhatIf, percentile

if TYPE_CHECKING:
    from flare_async.sim.virtual.asked import Asked

__all__ = ["Found", "best_case", "case_data", "tell"]

Found = Sequence[tuple[str, WhatIf]]
SHARES: Final = (10, 50, 90, 99, 100)
SHOWN: Final = 5


def tell(asked: Asked, found: Found, results: TextIO) -> None:
    """Print what the cases give."""
    if asked.as_json:
        results.write(document(data(asked, found), None) + "\n")
        results.flush()
        return
    console = Console(file=results, width=None if results.isatty() else 100, highlight=False)
    if asked.sweep is None:
        for _, case in found:
            one(case, console)
        return
    swept(asked.sweep[0], found, console)


def data(asked: Asked, found: Found) -> dict[str, object]:
    """Return the ``data`` of the document."""
    cases = [case_data(case) | ({"value": label} if label else {}) for label, case in found]
    whole: dict[str, object] = {"job": str(asked.job), "seed": asked.seed, "cases": cases}
    if asked.sweep is not None:
        best = best_case(found)
        whole |= {"sweep": asked.sweep[0], "best": None if best is None else best[0]}
    return whole


def case_data(case: WhatIf) -> dict[str, object]:
    """Return one case as plain values."""
    best = case.best_quorum
    names = ("clients", "relays", "updates", "missing", "egress", "ingress", "model_bytes")
    return {
        **{name: getattr(case, name) for name in names},
        "round_seconds": percentiles(case.round_seconds),
        "site_seconds": percentiles(case.site_seconds),
        "server": memory(case.server),
        "relay": memory(case.relay),
        "quorums": [asdict(one) for one in case.arrivals],
        "best_quorum": None if best is None else best.quorum,
        "stragglers": [asdict(one) for one in case.stragglers],
        "virtual_seconds": case.seconds,
        "frames": case.frames,
        "trace_hash": case.trace_hash,
    }


def best_case(found: Found) -> tuple[str, WhatIf] | None:
    """Return the case with the shortest median round; of equal ones the first."""
    return min(found, key=lambda one: percentile(one[1].round_seconds, 50), default=None)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return the shares that are told, by name."""
    return {name_of(share): percentile(seconds, share) for share in SHARES}


def name_of(share: int) -> str:
    """Return what a percentile is called."""
    return "max" if share == 100 else f"p{share}"


def memory(held: Held) -> dict[str, int]:
    """Return what a role has held."""
    return {**asdict(held), "memory": held.memory}


def one(case: WhatIf, console: Console) -> None:
    """Print one case."""
    updates = f"{case.updates} updates, {case.missing} missing"
    behind = f", {case.relays} relays" if case.relays else ""
    console.print(f"{case.clients} sites{behind}, {len(case.round_seconds)} rounds: {updates}")
    table = Table(box=None, pad_edge=False)
    table.add_column("seconds")
    for share in SHARES:
        table.add_column(name_of(share), justify="right")
    for name, values in (("a round", case.round_seconds), ("a site's part", case.site_seconds)):
        table.add_row(name, *(f"{percentile(values, share):.1f}" for share in SHARES))
    console.print(table)
    console.print(facts(case))
    if case.arrivals:
        console.print(quorums(case))
    console.print(stragglers(case))


def facts(case: WhatIf) -> Table:
    """Return the server's bytes, and what roles have held."""
    table = Table(box=None, pad_edge=False, show_header=False)
    rounds = max(1, len(case.round_seconds))
    table.add_row("server sends a round", format_bytes(case.egress / rounds))
    table.add_row("server receives a round", format_bytes(case.ingress / rounds))
    staged = f"{format_bytes(case.server.staged)} staged, {format_bytes(case.server.credit)} credit"
    table.add_row("server holds besides the model", f"at most {staged}")
    if case.server.spilled:
        table.add_row("server writes to spool files", format_bytes(case.server.spilled))
    if case.relays:
        relay = f"{format_bytes(case.relay.cached)} cached, {format_bytes(case.relay.credit)}"
        table.add_row("a relay holds", f"at most {relay} credit")
    return table


def quorums(case: WhatIf) -> Table:
    """Return how long a round would take for a part of the sites."""
    table = Table(box=None, pad_edge=False)
    for name in ("quorum", "updates", "seconds", "updates a second"):
        table.add_column(name, justify="right")
    best = case.best_quorum
    for arrival in case.arrivals:
        mark = " (best)" if arrival is best else ""
        rate = f"{arrival.rate:.2f}{mark}"
        share = f"{arrival.quorum:.0%}"
        table.add_row(share, str(arrival.updates), f"{arrival.seconds:.1f}", rate)
    return table


def stragglers(case: WhatIf) -> Table:
    """Return the slowest sites."""
    table = Table(box=None, pad_edge=False)
    for name in ("slowest sites", "seconds", "of these training"):
        table.add_column(name, justify="left" if name == "slowest sites" else "right")
    for late in case.stragglers[:SHOWN]:
        table.add_row(late.site, f"{late.seconds:.1f}", f"{late.training:.1f}")
    return table


def swept(name: str, found: Found, console: Console) -> None:
    """Print a row for each value of the swept option."""
    table = Table(box=None, pad_edge=False)
    columns = (name, "round p50 s", "p90 s", "max s", "site p99 s", "server sends", "receives")
    for column in (*columns, "server holds", "relay holds", "missing"):
        table.add_column(column, justify="right")
    best = best_case(found)
    for label, case in found:
        rounds, sites = percentiles(case.round_seconds), percentiles(case.site_seconds)
        count = max(1, len(case.round_seconds))
        mark = "*" if best is not None and best[1] is case else ""
        seconds = (rounds["p50"], rounds["p90"], rounds["max"], sites["p99"])
        nbytes = (case.egress / count, case.ingress / count, case.server.memory, case.relay.memory)
        table.add_row(
            f"{label}{mark}",
            *(f"{value:.1f}" for value in seconds),
            *(format_bytes(value) for value in nbytes),
            str(case.missing),
        )
    console.print(table)
    if best is not None:
        console.print(f"* shortest median round: {name}={best[0]}; bytes are a round's")
