"""Sizes as people write them."""

from __future__ import annotations

import argparse
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.size import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("1KB", 1000), ("8MB", 8_000_000), ("1 KiB", 1024), ("1GiB", 2**30), ("77", 77), ("3b", 3)],
)
def test_units_are_decimal_and_with_an_i_binary(text: str, nbytes: int) -> None:
    """KB and KiB differ, case does not matter, no unit means bytes."""
    assert parse_size(text) == nbytes


@given(st.integers(1, 10**15 - 1))
def test_what_is_printed_is_read_again(nbytes: int) -> None:
    """No digit is lost on the way."""
    assert parse_size(format_size(nbytes)) == nbytes


@given(st.text(max_size=20))
def test_anything_else_is_refused(text: str) -> None:
    """Garbage is a usage error, never another exception and never a size of nothing."""
    with contextlib.suppress(argparse.ArgumentTypeError):
        assert parse_size(text) > 0


def test_the_refusal_names_the_value() -> None:
    """Whoever wrote it sees what was wrong and what to write."""
    with pytest.raises(argparse.ArgumentTypeError, match="'8 parsecs' is no size: write 100KB"):
        parse_size("8 parsecs")
