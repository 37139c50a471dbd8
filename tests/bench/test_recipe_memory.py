"""What servers hold: every recipe of the table was measured, and the table says what was found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.recipe_memory import Held, measured, read
from bench.recipe_memory_cases import CASES

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
NAME = re.compile(r"`([^`]+)`")


def table() -> dict[str, tuple[list[str], str]]:
    """Return the names and the cell about memory of every row of the table of all recipes."""
    _, _, below = PAGE.read_text("utf-8").partition("| class | paper |")
    rows = below.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return {row[0]: (NAME.findall(row[0]), row[3]) for row in cells}


def first(found: Held) -> str:
    """Return what was held with the smaller number of sites, as the table has it."""
    return f"{next(iter(found.held.values())):.1f}"


def test_every_recipe_of_the_table_was_measured() -> None:
    """And all that was measured is still what the bench measures."""
    found, rows = read(), table()

    named = {name for names, _ in rows.values() for name in names}
    assert len(rows) >= 20
    assert named <= set(found)
    assert set(found) == set(CASES)
    for name, one in found.items():
        assert list(one.held) == [str(sites) for sites in CASES[name].sites]
        assert one.unit == CASES[name].unit


@pytest.mark.parametrize("row", table())
def test_the_column_has_what_was_measured(row: str) -> None:
    """The number of each class of the row, with one decimal."""
    found, (names, cell) = read(), table()[row]

    for name in names:
        assert re.search(rf"(?<![\d.]){re.escape(first(found[name]))}(?!\d)", cell), name


@pytest.mark.sweep
@pytest.mark.timeout(120)
def test_a_server_that_evaluates_holds_less_than_one_that_sums() -> None:
    """Models below 64 MB are summed in float64: the first, the current one, and two for the sum."""
    evaluating, _ = measured("FedEvalRecipe", 2, 8_000_000)
    summing, resident = measured("FedAvgRecipe", 2, 8_000_000)

    assert 1 <= evaluating < 2
    assert 3.9 < summing < 5.5
    assert resident > 3
