"""Mutations of recipes without rounds, robust means, cyclic transfer and evaluation."""

from __future__ import annotations

from tests.references.mutate import Mutation

__all__ = ["ASYNC"]

ASYNCHRONOUS = "tests/recipes/test_asynchronous.py"
ROBUST = "tests/transfer/test_robust.py"
CYCLIC = "tests/recipes/test_cyclic.py"
CROSS = "tests/recipes/test_cross_site.py"
PAPER = f"{ASYNCHRONOUS}::test_fedbuff_is_the_paper_on_the_order_that_the_run_has_taken[inline]"
MIXED = "test_asynchronous_fedavg_is_the_paper_on_the_order_that_the_run_has_taken[inline]"
OLD = f"{ASYNCHRONOUS}::test_a_recorded_order_with_old_updates_is_played_as_it_stands"
BITS = f"{ASYNCHRONOUS}::test_a_replay_has_the_same_bits_in_any_order_and_everywhere[fedbuff]"
REPLAYED = "ages = [self._version - update.version for update in ordered]"
STEP = "self.global_lr * weight / total * factor"


def fedbuff(old: str, new: str, test: str, module: str = "recipes.fedbuff") -> Mutation:
    """Return a mutation of FedBuff."""
    return Mutation("fedbuff", f"flare_async.{module}", old, new, test)


def mixing(old: str, new: str) -> Mutation:
    """Return a mutation of asynchronous FedAvg."""
    module = "flare_async.recipes.async_fedavg"
    return Mutation("async_fedavg", module, old, new, f"{ASYNCHRONOUS}::{MIXED}")


def rule(name: str, old: str, new: str, test: str) -> Mutation:
    """Return a mutation of a robust rule."""
    module = "flare_async.transfer.robust_rules"
    return Mutation(name, module, old, new, f"{ROBUST}::{test}")


def cyclic(old: str, new: str, test: str) -> Mutation:
    """Return a mutation of cyclic weight transfer."""
    return Mutation("cyclic", "flare_async.recipes.cyclic", old, new, f"{CYCLIC}::{test}")


NEAREST = "test_krum_looks_at_the_nearest_only"
EQUALS = "test_the_rule_equals_its_reference"
TURNS = "test_the_model_goes_from_site_to_site_in_the_order_given[FIXED-played0]"

ASYNC = [
    fedbuff(STEP, "weight / total * factor", PAPER),
    fedbuff(STEP, f"-{STEP}", PAPER),
    fedbuff(STEP, "self.global_lr * weight * factor", PAPER),
    fedbuff("return 1.0, [", "return 0.0, [", PAPER),
    fedbuff("1.0 / math.sqrt(1.0 + staleness)", "1.0", OLD, "recipes.staleness"),
    fedbuff(REPLAYED, "ages = [update.version for update in ordered]", OLD, "recipes.async_play"),
    fedbuff(
        "return super().weigh(site, meta) if self.weighted else 1.0",
        "return super().weigh(site, meta)",
        PAPER,
    ),
    fedbuff(
        "order = sorted(range(len(due)), key=lambda at: (place[due[at].site], due[at].task))",
        "order = list(range(len(due)))",
        BITS,
        "recipes.async_play",
    ),
    mixing("return 1.0 - alpha, [alpha]", "return 1.0 + alpha, [alpha]"),
    mixing("return 1.0 - alpha, [alpha]", "return 1.0, [alpha]"),
    mixing("self.alpha * weights[0] * self.age_factor(ages[0])", "self.alpha * weights[0]"),
    rule("median", "np.median(block, axis=0)", "block.mean(axis=0)", f"{EQUALS}[Median()]"),
    rule("median", "np.median(block, axis=0)", "block[0]", f"{EQUALS}[Median()]"),
    rule("median", "np.median(block, axis=0)", "-np.median(block, axis=0)", f"{EQUALS}[Median()]"),
    rule("trimmed", "np.sort(block, axis=0)[cut", "block[cut", f"{EQUALS}[TrimmedMean(beta=0.3)]"),
    rule("trimmed", "[cut : count - cut]", "[cut:]", f"{EQUALS}[TrimmedMean(beta=0.3)]"),
    rule("trimmed", "+ _ROUNDING", "", "test_trimming_counts_whole_updates"),
    rule("krum", "[:, 1 : count - self.f - 1]", "[:, 1:count]", NEAREST),
    rule("krum", "np.argsort(scores", "np.argsort(-scores", f"{EQUALS}[Krum(f=2, m=1)]"),
    rule(
        "krum",
        "block[row + 1 :] - block[row]",
        "block[row + 1 :] + block[row]",
        f"{EQUALS}[Krum(f=2, m=1)]",
    ),
    rule("krum", "[: self.m]", "[:1]", f"{EQUALS}[Krum(f=1, m=3)]"),
    cyclic("for site in order:", "for site in reversed(order):", TURNS),
    cyclic("way.model = following", "pass", TURNS),
    cyclic(
        "if order[0] == avoided:",
        "if order[-1] == avoided:",
        "test_nobody_comes_twice_in_a_row_and_every_other_order_comes",
    ),
    Mutation(
        "cross_site",
        "flare_async.recipes.kept_models",
        "if kind is ParamsType.DIFF and spec.name in given:",
        "if False:",
        f"{CROSS}::test_every_model_is_evaluated_at_every_site[DIFF-options1]",
    ),
    Mutation(
        "cross_site",
        "flare_async.recipes.cross_site",
        "results[site][owner] = metrics",
        "results[owner if owner in results else site][site] = metrics",
        f"{CROSS}::test_every_model_is_evaluated_at_every_site[FULL-options0]",
    ),
    Mutation(
        "cross_site",
        "flare_async.recipes.kept_models",
        "file.discard()\n            raise",
        "file.settle()\n            raise",
        f"{CROSS}::test_an_update_that_is_refused_leaves_the_former_model",
    ),
]
