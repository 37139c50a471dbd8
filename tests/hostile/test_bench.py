"""The bench of bad inputs: every one is refused, and its memory stays within the bound."""

from __future__ import annotations

import json

import pytest

from bench.hostile import INPUTS, main


def test_every_input_is_refused_within_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    """Times are printed and not judged here."""
    main(["--times", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    peaks = {row["case"]: row["value"] for row in rows if row["metric"] == "traced peak"}
    assert peaks.keys() == INPUTS.keys()
    assert max(peaks.values()) < 1_000_000
