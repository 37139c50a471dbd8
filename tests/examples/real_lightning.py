"""The Lightning examples, played where it is installed: a stage of ``.ci/run``."""

from __future__ import annotations

import pytest

from tests.examples.play import Expected, check

EXAMPLES = {
    "hello-lightning": Expected("val_acc", 0.8),
    "multi-gpu-lightning": Expected("val_acc", 0.7),
}
pytestmark = [pytest.mark.lightning, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_lightning_example_learns_the_same_in_threads_and_in_processes(name, tmp_path):
    """Also where each site has two ranks."""
    check(name, tmp_path, EXAMPLES[name])
