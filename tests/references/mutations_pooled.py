"""Changes that the tests of Newton's regression, k-means, the SVM and the filters must notice."""

from __future__ import annotations

from tests.references.mutate import Mutation

__all__ = ["POOLED"]

RESULT = "tests/recipes/test_pooled_sklearn.py::test_the_result_is_that_of_all_data_together"
PRIVACY = "tests/transfer/filters/test_privacy.py"
CODES = "tests/transfer/filters/test_quantize.py"
NEWTON = "flare_async.recipes.logistic_newton"
KMEANS = "flare_async.recipes.kmeans"
SVM = "flare_async.recipes.svm"
ANSWERS = "flare_async.jobs.filters.answers"
CONTROLS = "tests/jobs/filters/test_answers.py"
FILTERS = "flare_async.transfer.filters"

ROWS = {
    "newton": (
        (
            NEWTON,
            "weights + recipe.damping_factor",
            "weights - recipe.damping_factor",
            f"{RESULT}[newton]",
        ),
        (NEWTON, "gradient -= penalty", "gradient += penalty", f"{RESULT}[newton]"),
        (NEWTON, "(sites * means", "(means", f"{RESULT}[newton]"),
        (NEWTON, "penalty[0] = 0.0", "penalty[0] = recipe.l2", f"{RESULT}[newton]"),
        (
            NEWTON,
            "return 1.0",
            "return super().weigh(site, meta) + site.count('2')",
            f"{RESULT}[newton]",
        ),
    ),
    "kmeans": (
        (KMEANS, "* count[:, None]", "", f"{RESULT}[kmeans]"),
        (
            KMEANS,
            "sums = center * self._given[:, None]",
            "sums = center * 0.0",
            f"{RESULT}[kmeans]",
        ),
        (KMEANS, "self._given + count", "self._given - count", f"{RESULT}[kmeans]"),
    ),
    "svm": (
        (SVM, "kernel=self.kernel).fit", "kernel='linear').fit", f"{RESULT}[svm]"),
        (SVM, '"support_x": samples[support]', '"support_x": samples', f"{RESULT}[svm]"),
        (
            "flare_async.recipes.collected",
            "for site in cohort.sites if site in here",
            "for site in reversed(cohort.sites) if site in here",
            f"{RESULT}[svm]",
        ),
    ),
    "answers": (
        (ANSWERS, "Shift(sent, names, -1)", "Shift(sent, names, 1)", CONTROLS),
        (ANSWERS, "if given is ParamsType.DIFF", "if given is ParamsType.FULL", CONTROLS),
        (ANSWERS, "blanked(sent, answers_in(sent))", "sent", CONTROLS),
    ),
    "percentile privacy": (
        (f"{FILTERS}.percentile", "np.abs(step) < cutoff", "np.abs(step) > cutoff", PRIVACY),
        (f"{FILTERS}.percentile", "(kept * steps)", "(kept)", PRIVACY),
        (f"{FILTERS}.selection", "* (1 - share)", "* share", PRIVACY),
        (f"{FILTERS}.selection", "rank -= int", "rank += int", PRIVACY),
    ),
    "sparse vector technique": (
        (f"{FILTERS}.svt", "(2.0 * count) ** (2.0 / 3.0)", "(2.0 * count)", PRIVACY),
        (f"{FILTERS}.svt", "np.clip(changes[chosen] + noise,", "np.clip(noise,", PRIVACY),
        (f"{FILTERS}.svt", "self._sent(changes, rng) * steps", "self._sent(changes, rng)", PRIVACY),
    ),
    "gaussian": (
        (
            f"{FILTERS}.gaussian",
            "values * factor + noise * spread",
            "values + noise * spread",
            PRIVACY,
        ),
        (
            f"{FILTERS}.gaussian",
            "min(1.0, self.clip_norm / norm)",
            "self.clip_norm / norm",
            PRIVACY,
        ),
        (
            f"{FILTERS}.gaussian",
            "self.clip_norm * self.noise_multiplier",
            "self.noise_multiplier",
            PRIVACY,
        ),
        (f"{FILTERS}.gaussian", "- math.exp(epsilon)", "+ math.exp(epsilon)", PRIVACY),
        (f"{FILTERS}.filter", "[0, 0, cell, tensor]", "[0, 0, 0, tensor]", PRIVACY),
    ),
    "quantisation": (
        (f"{FILTERS}.quantize", "(levels * scales)", "(levels * scales[::-1])", CODES),
        (f"{FILTERS}.quantize", "np.rint(padded", "np.floor(padded", CODES),
        (f"{FILTERS}.quantize", "(np.abs(padded).max(axis=1)", "(padded.max(axis=1)", CODES),
    ),
}

POOLED = [
    Mutation(algorithm, module, old, new, test)
    for algorithm, rows in ROWS.items()
    for module, old, new, test in rows
]
