"""Answers of HTTP servers and proxies: what is read of them, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import RemoteProtocolError
from flare_async.transports.websocket_http import ANSWER_BYTES, Answer, parse_answer

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)


@given(
    status=st.integers(200, 599),
    headers=st.dictionaries(NAMES, VALUES, max_size=5),
    rest=st.binary(max_size=20),
)
def test_an_answer_is_read_as_it_was_written(status, headers, rest):
    """With what follows it left alone, and no part of it taken for the whole."""
    lines = [f"HTTP/1.1 {status} Because", *(f"{name}: {headers[name]}" for name in headers)]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    assert parse_answer(head + rest) == (Answer(status, "Because", headers), len(head))
    assert {parse_answer(head[:end]) for end in range(len(head))} == {None}


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=50).map(lambda b: b"HTTP/1.1 " + b)))
def test_garbage_is_an_answer_a_part_of_one_or_a_typed_error(data):
    """Whatever is at the other end."""
    try:
        found = parse_answer(data + b"\r\n\r\n")
    except RemoteProtocolError:
        return
    assert found is None or 100 <= found[0].status <= 999


def test_answers_that_announce_another_are_skipped():
    """A 100 is no answer, a 101 is one."""
    first, second = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n"
    assert parse_answer(first) is None
    found, end = parse_answer(first + second + b"xyz")
    assert (found.status, end) == (101, len(first + second))


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 " + b"2" * ANSWER_BYTES])
def test_what_never_becomes_an_answer_is_refused_early(data):
    """Another protocol at its first bytes, an endless line at its bound."""
    with pytest.raises(RemoteProtocolError):
        parse_answer(data)
