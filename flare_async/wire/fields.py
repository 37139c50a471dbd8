"""The rules for text that travels: names, and messages that a peer may log."""

from __future__ import annotations

__all__ = ["MESSAGE_CHARACTERS", "NAME_CHARACTERS", "clean_message", "is_message", "is_name"]

NAME_CHARACTERS = 255
MESSAGE_CHARACTERS = 1024


def is_name(text: str) -> bool:
    """Tell whether text can be a peer, role, topic or destination.

    ``isprintable`` refuses control and format characters, lone surrogates and all white space but
    the plain blank, so a name cannot forge a line of a log.
    """
    return (
        0 < len(text) <= NAME_CHARACTERS
        and text.isprintable()
        and text[0] != " "
        and text[-1] != " "
    )


def is_message(text: str) -> bool:
    """Tell whether text can be the message of a Reset or a Goodbye."""
    return len(text) <= MESSAGE_CHARACTERS and text.isprintable()


def clean_message(text: str) -> str:
    """Return text as a valid message: cut, with ``?`` for what may not travel."""
    text = text[:MESSAGE_CHARACTERS]
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else "?" for mark in text)
