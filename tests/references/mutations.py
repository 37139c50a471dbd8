"""What the tests of every algorithm must notice: changes of a weight, a sign, an order, a division.

Each algorithm has at least three, in a file ``mutations_*.py`` that exports one list.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.references.mutate import Mutation

__all__ = ["MUTATIONS"]


def lists() -> list[list[Mutation]]:
    """Return the lists of all files beside this one."""
    found = []
    for path in sorted(Path(__file__).parent.glob("mutations_*.py")):
        module = import_module(f"tests.references.{path.stem}")
        found.append(getattr(module, module.__all__[0]))
    return found


MUTATIONS = [mutation for listed in lists() for mutation in listed]
