"""Every listed mutation of an algorithm makes the test that it names fail."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.references.mutate import BROKEN, FOUND, SURVIVED, Mutation, Mutator
from tests.references.mutations import MUTATIONS

TEST = "tests/recipes/test_fedavg_reference.py"
TEST += "::test_the_mean_of_solutions_is_the_solution_where_sites_are_alike"
NAMES = Counter()


def name_of(mutation):
    """Return the name of one mutation's test."""
    NAMES[mutation.algorithm] += 1
    return f"{mutation.algorithm}-{NAMES[mutation.algorithm]}"


@pytest.fixture(scope="module")
def mutator():
    """Return the process that plays them."""
    with Mutator() as found:
        yield found


@pytest.mark.mutation
@pytest.mark.parametrize("mutation", MUTATIONS, ids=name_of)
def test_a_mutation_is_found(mutator, mutation):
    """The test that is named fails, for no other reason than the change."""
    outcome, said = mutator.outcome(mutation)
    assert outcome == FOUND, said


def test_every_algorithm_has_at_least_three():
    """One of weight, sign and order each, or what an algorithm has in their place."""
    counts = Counter(mutation.algorithm for mutation in MUTATIONS)
    assert {name: count for name, count in counts.items() if count < 3} == {}


@pytest.mark.mutation
@pytest.mark.parametrize(
    ("change", "expected", "words"),
    [
        (("flare_async.recipes.fedavg", "(FedAvg).", "(FedAvg) "), SURVIVED, "1 passed"),
        (("flare_async.recipes.fedavg", "no such text", ""), BROKEN, "0 times, not once"),
        (("flare_async.recipes.fedavg", "class FedAvgRecipe", "class Other"), BROKEN, ""),
        (("flare_async.recipes.tracking", "x", "y"), BROKEN, "does not import"),
    ],
)
def test_what_is_no_mutation_is_not_found(mutator, change, expected, words):
    """A change without effect survives; one that cannot be made, or breaks the import, is told."""
    outcome, said = mutator.outcome(Mutation("none", *change, TEST))
    assert outcome == expected, said
    assert words in said
