"""The tables of ``docs/peers.md``, made of what ``bench.peers.crowd --write`` has kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from bench.peers.crowd_rows import Medians, marginal_ms, medians_of, two_largest
from bench.peers.exchange import Figures

__all__ = ["BEGIN", "DATA", "END", "PAGE", "PICTURE", "read", "renew", "tables_of"]

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT / "bench" / "data" / "peers-crowd.json"
PAGE: Final = ROOT / "docs" / "peers.md"
PICTURE: Final = ROOT / "docs" / "peers.png"
BEGIN: Final = "<!-- tables: python -m bench.peers.crowd --write -->\n"
END: Final = "<!-- end of tables -->\n"

Document: TypeAlias = Mapping[str, Any]


def read(path: Path = DATA) -> Document:
    """Return what was kept."""
    found: Document = json.loads(path.read_text(encoding="utf-8"))
    return found


def renew(page: Path, document: Document) -> None:
    """Write a page's tables anew, and leave the rest of it alone."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(before + BEGIN + tables_of(document) + END + after, encoding="utf-8")


def tables_of(document: Document) -> str:
    """Return the tables: wall and memory by size, marginal costs, ratios, versions of all."""
    medians = medians_of(runs_of(document))
    parts = (by_size(document, medians), costs(document, medians), ratios(document))
    return "\n".join(["", *parts, about(document), ""])


def runs_of(document: Document) -> dict[str, dict[int, list[Figures]]]:
    """Return all runs as they were measured."""
    return {
        name: {int(size): [Figures(**one) for one in found] for size, found in runs.items()}
        for name, runs in document["runs"].items()
    }


def by_size(document: Document, medians: Medians) -> str:
    """Return seconds and megabytes of every program at every size."""
    sizes = sorted({size for found in medians.values() for size in found})
    rows = [[name, *(cell(found.get(size)) for size in sizes)] for name, found in medians.items()]
    notes = [f"\n{name}: {why}.\n" for name, why in document["not_run"].items()]
    return table(["clients", *(f"{size:,}" for size in sizes)], rows) + "".join(notes)


def cell(found: Figures | None) -> str:
    """Return what stands in a cell; a dash for what was not run."""
    if found is None:
        return "-"
    return "failed" if found.problem else f"{found.wall:.1f} s, {found.peak / 1e6:.0f} MB"


def costs(document: Document, medians: Medians) -> str:
    """Return the marginal costs, and the floor below them."""
    rounds = document["settings"]["rounds"]
    rows = []
    for name, found in medians.items():
        cost, pair = marginal_ms(found, rounds), two_largest(found)
        if cost is not None and pair is not None:
            told = f"{cost:.3f} ms" if cost > 0 else "lost in noise"
            rows.append([name, f"{pair[0]:,} to {pair[1]:,}", told])
    floor = [row["reference_value"] for row in document["rows"] if row["case"] == MARGINAL]
    rows += [["floor: the arithmetic alone", "", f"{found:.3f} ms"] for found in floor[:1]]
    return table(["a client-round more", "between", "cost"], rows)


MARGINAL: Final = "a client-round more"


def ratios(document: Document) -> str:
    """Return every ratio beside its target."""
    found = [row for row in document["rows"] if row["case"] == "ratios"]
    rows = [[row["metric"], f"{row['value']:.2f}", aim(row)] for row in found]
    return table(["theirs / ours", "ratio", "target"], rows)


def aim(row: Mapping[str, Any]) -> str:
    """Return a target, and whether it was missed."""
    words = row["reference"].removeprefix("target, ")
    missed = "" if row["value"] >= row["reference_value"] else " (missed)"
    return f"{words} {row['reference_value']:.3g}{missed}"


def about(document: Document) -> str:
    """Return versions and machine."""
    machine, settings = document["machine"], document["settings"]
    lines = [
        f"- {peer}: " + ", ".join(f"{name} {number}" for name, number in found.items())
        for peer, found in document["versions"].items()
    ]
    size = f"{settings['rounds']} rounds, {settings['size']} bytes"
    seen = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    load = f"{machine['system']}, load {document['load_before']} before"
    head = f"Medians of {settings['runs']} runs; {size}; {seen}, {load}. Versions:"
    return "\n".join([head, "", *lines])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, and the blank line after it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
