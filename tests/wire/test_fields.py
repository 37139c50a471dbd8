"""Names and messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.wire.fields import clean_message, is_message, is_name


@pytest.mark.parametrize("text", ["site-1", "a b", "Köln", "x" * 255])
def test_printable_text_is_a_name(text: str) -> None:
    """Names need not be ASCII."""
    assert is_name(text)


@pytest.mark.parametrize(
    "text", ["", " a", "a ", "a\nb", "\x1b[2J", "a\x00", "a\u202eb", "\ud800", "x" * 256]
)
def test_text_that_could_forge_a_log_is_no_name(text: str) -> None:
    """Control and format characters, surrogates and outer blanks are refused."""
    assert not is_name(text)


@given(st.text(max_size=2000))
def test_a_cleaned_message_is_a_message_of_the_same_length_or_cut(text: str) -> None:
    """Cleaning never fails."""
    cleaned = clean_message(text)
    assert is_message(cleaned)
    assert len(cleaned) == min(len(text), 1024)
