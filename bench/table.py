"""What a bench prints: a table for people, or one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TextIO

from rich.console import Console
from rich.table import Table

from bench.machine import machine_facts

__all__ = ["Report", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, and what it is compared with."""

    case: str
    metric: str
    value: float
    unit: str = ""
    reference: str | None = None
    reference_value: float | None = None
    ratio: float | None = None

    def against(self, reference: str, value: float) -> Row:
        """Return the row with a reference and its ratio to it; no ratio to a reference of 0."""
        ratio = self.value / value if value else None
        return replace(self, reference=reference, reference_value=value, ratio=ratio)


@dataclass(frozen=True, slots=True)
class Report:
    """The rows of one bench."""

    bench: str
    rows: Sequence[Row]

    def document(self) -> dict[str, object]:
        """Return what ``--json`` prints."""
        rows = [asdict(row) for row in self.rows]
        return {"bench": self.bench, "machine": machine_facts(), "rows": rows}

    def show(self, *, as_json: bool, out: TextIO | None = None) -> None:
        """Print the table, or the document and nothing else."""
        to = out or sys.stdout
        if as_json:
            to.write(json.dumps(self.document(), indent=1) + "\n")
            return
        console = Console(file=to, width=None if to.isatty() else 132)
        console.print(self._table())
        facts = ", ".join(f"{name} {value}" for name, value in machine_facts().items())
        console.print(facts, style="dim", highlight=False)

    def _table(self) -> Table:
        table = Table(title=f"bench.{self.bench}", title_justify="left")
        for heading in ("case", "metric"):
            table.add_column(heading)
        table.add_column("value", justify="right")
        table.add_column("unit")
        table.add_column("reference")
        for heading in ("its value", "ratio"):
            table.add_column(heading, justify="right")
        before = ""
        for row in self.rows:
            if before and row.case != before:
                table.add_section()
            shown = "" if row.case == before else row.case
            table.add_row(shown, *_cells(row))
            before = row.case
        return table


def _cells(row: Row) -> list[str]:
    return [
        row.metric,
        number(row.value),
        row.unit,
        row.reference or "",
        "" if row.reference_value is None else number(row.reference_value),
        "" if row.ratio is None else f"{row.ratio:.2f}",
    ]


def number(value: float) -> str:
    """Return a figure with three significant digits, and whole numbers as they are."""
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value)}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
