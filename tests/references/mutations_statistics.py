"""Changes that the tests of federated statistics must notice."""

from __future__ import annotations

from tests.references.mutate import Mutation

__all__ = ["STATISTICS"]

MODULE = "flare_async.recipes.statistics.pooled"
TESTS = "tests/recipes/statistics/test_pooled.py"
NUMBERS = f"{TESTS}::test_global_numbers_are_those_of_the_pooled_data"
LOST = f"{TESTS}::test_a_lost_part_of_the_variance_is_taken_out"
HISTOGRAM = f"{TESTS}::test_the_histogram_of_all_is_the_sum_of_histograms"
PRIVACY = "tests/recipes/statistics/test_cleansers.py"
DIGESTS = "tests/recipes/statistics/test_digest.py"
CLEANSERS = "flare_async.recipes.statistics.cleansers"

ROWS = (
    (MODULE, "for values in told) / count if", "for values in told) / (count + 1) if", NUMBERS),
    (MODULE, "return math.fsum(found) if found", "return math.fsum(found[1:]) if found", NUMBERS),
    (MODULE, "max(0.0, squares) / (count - 1)", "max(0.0, squares) / count", NUMBERS),
    (MODULE, "* (common.count - 1) for site", "* common.count for site", NUMBERS),
    (MODULE, '"max": lambda: max(', '"max": lambda: min(', NUMBERS),
    (MODULE, "squares -= count *", "squares += count *", LOST),
    (MODULE, "map(sum, zip(*found, strict=True))", "map(max, zip(*found, strict=True))", HISTOGRAM),
    (MODULE, 'low = min(self.told(cell, "min")', 'low = max(self.told(cell, "min")', HISTOGRAM),
    (
        CLEANSERS,
        "zip(ENDS, (-1, 1), strict=True)",
        "zip(ENDS, (1, -1), strict=True)",
        f"{PRIVACY}::test_noise_moves_the_ends_outwards_within_its_levels",
    ),
    (
        CLEANSERS,
        "if count < max(1, self.min_count):",
        "if count < max(1, self.min_count) - 1:",
        f"{PRIVACY}::test_nothing_leaves_of_too_few_values",
    ),
    (
        CLEANSERS,
        "<= count * self.max_bins_percent / 100",
        "<= count * self.max_bins_percent / 90",
        f"{PRIVACY}::test_a_histogram_that_is_too_fine_does_not_leave",
    ),
    (
        "flare_async.recipes.statistics.digest",
        "mass_of(groups[-1]) >= least:",
        "mass_of(groups[-1]) >= 9 * least:",
        f"{DIGESTS}::test_coarser_centroids_cost_no_more_than_their_weight_at_each_site",
    ),
)
STATISTICS = [Mutation("fedstats", *row) for row in ROWS]
