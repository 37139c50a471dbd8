"""Changes that the tests of FedAvg, aggregators and companions must notice."""

from __future__ import annotations

from tests.references.mutate import Mutation

__all__ = ["FEDAVG"]

TESTS = "tests/recipes/test_fedavg_reference.py"
POOLED = f"{TESTS}::test_one_step_on_every_site_is_one_step_on_all_data"
MODULE = "flare_async.recipes.model_recipe"
WEIGHT = "return steps * (self.aggregation_weights or {}).get(site, 1.0)"
AGGREGATED = "tests/recipes/test_aggregators.py::test_an_aggregator_gives_the_built_in_mean"
COMPANIONS = "tests/jobs/test_companions.py"

ROWS = {
    "fedavg": (
        (MODULE, WEIGHT, "return 1.0", POOLED),
        (
            MODULE,
            WEIGHT,
            "return steps",
            f"{TESTS}::test_weights_of_sites_are_factors_of_their_steps",
        ),
        (
            MODULE,
            "return WeightedMean(model, order=sites,",
            "return WeightedMean(model, order=sites[::-1],",
            f"{TESTS}::test_the_sum_is_taken_in_the_order_of_the_cohort",
        ),
        (
            "flare_async.transfer.kernel",
            "np.add(part, product, out=part)",
            "np.subtract(part, product, out=part)",
            POOLED,
        ),
        (
            "flare_async.transfer.sums",
            "np.divide(acc, self._weight, out=acc)",
            "np.divide(acc, self._weight + 1.0, out=acc)",
            f"{TESTS}::test_a_failing_site_is_as_if_its_rows_were_not_there",
        ),
        (
            "flare_async.transfer.sums",
            "share = self._diff_weight / self._weight",
            "share = self._diff_weight",
            f"{TESTS}::test_differences_of_user_code_are_added_to_the_model",
        ),
    ),
    "aggregator": (
        (
            "flare_async.recipes.aggregators",
            "for site in self._setting.order:\n            if site in arrived:",
            "for site in reversed(self._setting.order):\n            if site in arrived:",
            AGGREGATED,
        ),
        ("flare_async.recipes.aggregators", "self._aggregator.reset_stats()", "pass", AGGREGATED),
        (
            "flare_async.recipes.aggregators",
            'mean.stage("aggregator", 1.0, ParamsType.DIFF)',
            'mean.stage("aggregator", 1.0, ParamsType.FULL)',
            "tests/recipes/test_aggregators.py::test_differences_in_and_out",
        ),
    ),
    "companions": (
        (
            "flare_async.jobs.companions",
            "difference(whole, old)",
            "difference(old, whole)",
            f"{COMPANIONS}::test_an_answer_beside_a_difference_is_whole",
        ),
        (
            "flare_async.jobs.companions",
            "if kind is ParamsType.DIFF:",
            "if kind is ParamsType.FULL:",
            f"{COMPANIONS}::test_an_answer_beside_a_difference_is_whole",
        ),
        (
            "flare_async.jobs.companions",
            "**{name: old[name] for name in unanswered}",
            "**{name: bytes(old[name].nbytes) for name in unanswered}",
            f"{COMPANIONS}::test_functions_answer_the_same_everywhere[options0-FULL]",
        ),
    ),
}

FEDAVG = [Mutation(algorithm, *row) for algorithm, rows in ROWS.items() for row in rows]
