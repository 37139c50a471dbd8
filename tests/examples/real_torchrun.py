"""The example with several ranks a site, which starts eight processes: a stage of ``.ci/run``."""

from __future__ import annotations

import pytest

from tests.examples.play import Expected, check

EXAMPLES = {"multi-gpu-pt": Expected("accuracy", 0.6, options=("--epochs", "1"))}
pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_learns_the_same_with_one_rank_and_with_two(name, tmp_path):
    """The ranks share each batch, so the results agree to 1e-5."""
    check(name, tmp_path, EXAMPLES[name])
