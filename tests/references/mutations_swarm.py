"""Mutations of swarm learning and of cyclic transfer from site to site."""

from __future__ import annotations

from tests.references.mutate import Mutation

__all__ = ["SWARM"]

TESTS = "tests/recipes/test_swarm.py"
LOSSES = "tests/recipes/test_swarm_losses.py"
BITS = f"{TESTS}::test_a_swarm_is_fedavg_bit_for_bit[{{}}]"
TURNS = f"{TESTS}::test_client_controlled_cyclic_is_cyclic_bit_for_bit[RANDOM]"
DRAWN = f"{TESTS}::test_aggregators_are_drawn_by_the_seed_and_never_twice_running"
REPLACED = f"{LOSSES}::test_an_aggregator_that_is_lost_is_replaced_and_its_round_repeated"
BEST = "tests/recipes/test_swarm_books.py::test_the_best_model_outlives_its_holders_one_by_one"
AGAIN = f"{LOSSES}::test_the_last_model_is_made_again_when_its_only_holder_is_lost"


def swarm(module: str, old: str, new: str, test: str = BITS) -> Mutation:
    """Return a mutation of swarm learning."""
    return Mutation("swarm", f"flare_async.recipes.{module}", old, new, test)


def cyclic(old: str, new: str) -> Mutation:
    """Return a mutation of cyclic transfer from site to site."""
    return Mutation("client_cyclic", "flare_async.recipes.client_cyclic", old, new, TURNS)


SWARM = [
    swarm("peer_desk", "version + 1, played.model", "version + 1, model"),
    swarm("peer_holders", "{name: version,", "{name: max(0, version - 1),"),
    swarm("peer_play", "best and not (", "False and not (", BEST),
    swarm("peer_play", "key=lambda site: site == self._last", "key=lambda site: 0", DRAWN),
    swarm("peer_play", 'f"aggregator of round {number}"', '"aggregator"', DRAWN),
    swarm(
        "swarm_play", "await self.release(number, number - 1)", "await self.release(number)", AGAIN
    ),
    swarm("swarm_play", "while not await self.doubled(number)", "while False", AGAIN),
    swarm("peer_models", "if version == 0:", "if True:", REPLACED),
    cyclic("hold(at.peers, version + 1, made)", "hold(at.peers, version + 1, model)"),
    cyclic("return version + 1", "return version"),
    cyclic("for site in order:", "for site in reversed(order):"),
    cyclic("taken.answers[0].received", "taken.answers[-1].received"),
]
