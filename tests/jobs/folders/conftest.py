"""What every test of job folders gets."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def path_as_it_was(monkeypatch):
    """Forget the folders of the jobs that a test has loaded."""
    monkeypatch.setattr(sys, "path", list(sys.path))
