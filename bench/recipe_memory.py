"""What a server holds under each recipe, in copies: ``python -m bench.recipe_memory``.

A server plays the recipe over tcp with sites in another process; both work as an environment's do.
``held`` is the peak of what Python and NumPy had allocated in the server's process during the run
(``tracemalloc``), the first model included, divided by the size of a copy: a model of 64 MiB in 16
tensors, or what stands in the row. ``resident`` is the growth of the process at its peak, the first
model included, which also has windows, memory of libraries, and what the allocator keeps; it is as
exact as allocators are. Staging is 1 MiB: what waits beyond it is in a file. ``--write`` keeps
the figures in the file that the column of docs/recipes.md is compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from bench.child import Child
from bench.recipe_memory_cases import CASES
from bench.table import Report, Row

__all__ = ["DATA", "Held", "main", "measured", "read"]

COMMAND: Final = "python -m bench.recipe_memory --write"
DATA: Final = Path(__file__).parent / "data" / "recipe-memory.json"


@dataclass(frozen=True, slots=True)
class Held:
    """What a recipe's server held, in copies of ``unit``, by the number of sites."""

    unit: str
    held: dict[str, float] = field(default_factory=dict)
    resident: dict[str, float] = field(default_factory=dict)


def measured(name: str, sites: int, nbytes: int | None = None) -> tuple[float, float]:
    """Play a recipe; return the copies that Python held, and by which the process grew."""
    size = CASES[name].nbytes if nbytes is None else nbytes
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setting = {"case": name, "sites": sites, "nbytes": size, "folder": folder}
        with Child("bench.recipe_memory_server", setting) as server:
            address = server.hear()["address"]
            with Child("bench.recipe_memory_clients", {**setting, "address": address}):
                found = server.hear()
    return float(found["traced"]) / size, float(found["resident"]) / size


def rows_of(name: str, found: Held) -> list[Row]:
    """Return what was held, and by how much the process grew."""
    return [
        Row(name, f"{what}, {sites} sites", copies, found.unit)
        for what, figures in (("held", found.held), ("resident", found.resident))
        for sites, copies in figures.items()
    ]


def write(path: Path, found: Mapping[str, Held]) -> None:
    """Write the figures of all recipes, one a line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(asdict(one))}" for name, one in found.items()]
    head = f'{{\n "command": {json.dumps(COMMAND)},\n "recipes": {{\n'
    path.write_text(head + ",\n".join(lines) + "\n }\n}\n", encoding="utf-8")


def read(path: Path = DATA) -> dict[str, Held]:
    """Return what was written."""
    return {name: Held(**row) for name, row in json.loads(path.read_text())["recipes"].items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    options = parser().parse_args(arguments)
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    found: dict[str, Held] = {}
    for name in options.only or CASES:
        found[name] = Held(CASES[name].unit)
        for sites in options.sites or CASES[name].sites:
            held, resident = measured(name, sites, options.bytes)
            found[name].held[str(sites)] = round(held, 2)
            found[name].resident[str(sites)] = round(resident, 2)
        if options.write:
            write(DATA, {**(read() if DATA.exists() else {}), name: found[name]})
    rows = [row for name, one in found.items() for row in rows_of(name, one)]
    Report("recipe_memory", rows).show(as_json=options.json)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.recipe_memory", description=__doc__)
    found.add_argument("--only", choices=list(CASES), action="append", help="may come twice (all)")
    found.add_argument(
        "--sites", type=int, action="append", help="may come twice (5, for some 10 too)"
    )
    found.add_argument("--bytes", type=int, help="of a copy (64 MiB; less where a row says so)")
    found.add_argument("--write", action="store_true", help="keep the figures in bench/data")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


if __name__ == "__main__":
    main()
