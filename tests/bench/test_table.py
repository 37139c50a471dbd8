"""What benches print."""

from __future__ import annotations

import io
import json

import pytest

from bench.table import Report, Row

KEYS = {"case", "metric", "value", "unit", "reference", "reference_value", "ratio"}


def shown(report: Report, *, as_json: bool) -> str:
    """Return what a report prints."""
    out = io.StringIO()
    report.show(as_json=as_json, out=out)
    return out.getvalue()


def test_a_row_beside_a_reference_has_their_ratio() -> None:
    """The ratio is ours in units of the reference."""
    row = Row("tcp", "channel", 3.0, "GB/s").against("raw", 4.0)

    assert (row.reference, row.reference_value, row.ratio) == ("raw", 4.0, 0.75)


def test_a_reference_of_zero_gives_no_ratio() -> None:
    """Nothing is divided by zero; the reference is shown all the same."""
    row = Row("tcp", "acks", 3.0).against("over tcp", 0.0)

    assert row.reference_value == 0.0
    assert row.ratio is None


def test_the_document_names_bench_machine_and_rows() -> None:
    """One JSON document, with exactly the agreed fields in every row."""
    report = Report("rounds", [Row("a", "wall", 1.5, "s"), Row("a", "b", 1).against("c", 2)])

    document = json.loads(shown(report, as_json=True))

    assert set(document) == {"bench", "machine", "rows"}
    assert document["bench"] == "rounds"
    assert [set(row) for row in document["rows"]] == [KEYS, KEYS]
    assert document["rows"][0]["value"] == 1.5
    assert document["rows"][0]["ratio"] is None


def test_the_document_says_what_the_machine_is_and_not_which() -> None:
    """Versions and sizes, no host name."""
    facts = Report("rounds", []).document()["machine"]

    assert isinstance(facts, dict)
    assert {"cpu", "cores", "load_1min", "python", "numpy", "uvloop"} <= set(facts)
    assert not {"host", "hostname", "node"} & set(facts)


def test_the_table_names_a_case_once_and_shows_every_figure() -> None:
    """A case's rows stand together under its name."""
    rows = [Row("tcp", "channel", 2.714, "GB/s").against("raw", 3.0), Row("tcp", "reads", 7)]

    text = shown(Report("throughput", rows), as_json=False)

    assert text.count("tcp") == 1
    for part in ("channel", "2.71", "GB/s", "raw", "0.90", "reads", "7"):
        assert part in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (7.0, "7"), (1234.5, "1234"), (0.12345, "0.123")]
)
def test_figures_have_three_digits_and_whole_numbers_all(value: float, text: str) -> None:
    """Nobody reads the seventh digit of a measurement."""
    assert f" {text} " in shown(Report("x", [Row("c", "m", value)]), as_json=False)
