"""What every test of job folders gets."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Fail a test that leaves this process importing from elsewhere, or with others' modules."""
    path, names = list(sys.path), set(sys.modules)
    yield
    assert sys.path == path
    left = {name for name in set(sys.modules) - names if name.startswith(("helper", "job"))}
    assert left == set()
