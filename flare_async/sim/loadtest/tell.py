"""What a load test prints and writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console
from rich.table import Table

from flare_async.errors import MissingExtra
from flare_async.sim.loadtest.figures import LoadFigures
from flare_async.sim.loadtest.picture import draw_latency

__all__ = ["tell", "write"]

FIGURES: Final = "load.json"
PICTURE: Final = "latency.png"


def write(figures: LoadFigures, folder: Path, messages: TextIO) -> None:
    """Write the figures and the picture into the run's folder."""
    text = json.dumps(figures.document(), indent=1)
    (folder / FIGURES).write_text(text + "\n", encoding="utf-8")
    try:
        draw_latency(figures, folder / PICTURE)
    except MissingExtra as exc:
        messages.write(f"note: no {PICTURE}: {exc}\n")


def tell(figures: LoadFigures, folder: Path, results: TextIO, *, as_json: bool) -> None:
    """Print a table, or one JSON document and nothing else."""
    if as_json:
        results.write(json.dumps({**figures.document(), "folder": str(folder)}, indent=1) + "\n")
        results.flush()
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in figures.rows():
        table.add_row(name, value)
    console = Console(file=results, width=None if results.isatty() else 100)
    console.print(table)
    console.print(f"results in {folder}", highlight=False, soft_wrap=True)
