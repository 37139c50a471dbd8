"""The rules for text that travels: names, messages that a peer may log, values shown in ours."""

from __future__ import annotations

__all__ = [
    "MESSAGE_CHARACTERS",
    "NAME_CHARACTERS",
    "clean_message",
    "is_message",
    "is_name",
    "shown",
]

NAME_CHARACTERS = 255
MESSAGE_CHARACTERS = 1024
SHOWN_CHARACTERS = 60
LONG_BITS = 128  # beyond a few thousand digits Python refuses to print one
FEW_BYTES = 8  # too short for a secret


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


def shown(value: object, most: int = SHOWN_CHARACTERS) -> str:
    """Return a value that a peer sent as it may stand in a message of ours: short, plain ASCII.

    The contents of containers and bytes are left out: they may be nested deeper than ``repr`` can
    follow, as long as a whole message, or secret.
    """
    match value:
        case bytes() | bytearray():
            return ascii(bytes(value)) if len(value) <= FEW_BYTES else "b'...'"
        case list() | tuple():
            return "[...]" if value else "[]"
        case dict():
            return "{...}" if value else "{}"
        case str():
            text = ascii(value[:most])
        case int() if value.bit_length() > LONG_BITS:
            text = f"an integer of {value.bit_length()} bits"
        case None | int() | float():
            text = ascii(value)
        case _:
            text = type(value).__name__
    return text if len(text) <= most else f"{text[:most]}..."
