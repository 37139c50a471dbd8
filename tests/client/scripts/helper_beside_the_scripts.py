"""A module that scripts import from their own folder."""


def one():
    """Return what is added."""
    return 1.0
