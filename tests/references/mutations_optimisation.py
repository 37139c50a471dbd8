"""Changes that the tests of FedProx, FedOpt, SCAFFOLD, Ditto, q-FedAvg and FedBN must notice."""

from __future__ import annotations

from tests.references.mutate import Mutation

__all__ = ["OPTIMISATION"]

PAPERS = "tests/recipes/test_optimisation.py::test_each_algorithm_is_that_of_its_paper"
RULES = "tests/recipes/test_fedopt.py::test_each_rule_is_that_of_the_paper"
CONTROLS = (
    "tests/recipes/test_optimisation.py::test_the_servers_control_is_the_mean_of_the_sites_controls"
)
HELPER = "tests/client/test_scaffold.py::test_steps_and_controls_in_torch_are_those_of_the_paper"
LAYERS = "tests/client/test_scaffold.py::test_steps_and_controls_by_layers_are_those_of_the_paper"
FATES = (
    "tests/recipes/test_scaffold.py::test_controls_sum_up_with_late_failing_and_refused_sites[flat]"
)
AGAIN = "tests/client/test_scaffold_control.py::test_a_task_that_comes_again_was_not_counted"
CONTROL_MODULE = "flare_async.client.scaffold_control"
TERM = "tests/client/test_fedprox.py"
FEDBN = "tests/recipes/test_fedbn.py"
RULE_MODULE = "flare_async.recipes.server_optimizers"
STEP_MODULE = "flare_async.recipes.server_step"
FAIR_MODULE = "flare_async.recipes.fair_mean"

ROWS = {
    "fedopt": (
        (RULE_MODULE, 'slots["m"] += move', 'slots["m"] -= move', f"{RULES}[sgd-float32]"),
        (RULE_MODULE, 'slots["m"] *= self.momentum', "pass", f"{RULES}[sgd-float32]"),
        (RULE_MODULE, "mean += (1 - self.beta1) * move", "mean += move", f"{RULES}[adam-float32]"),
        (RULE_MODULE, "size += squares", "size -= squares", f"{RULES}[adagrad-float32]"),
        (RULE_MODULE, "size *= self.beta2", "size *= self.beta1", f"{RULES}[adam-float32]"),
        (
            RULE_MODULE,
            "np.sign(size - squares)",
            "np.sign(squares - size)",
            f"{RULES}[yogi-float32]",
        ),
        (RULE_MODULE, '"v": self.tau**2', '"v": self.tau', f"{RULES}[adam-float32]"),
        (
            RULE_MODULE,
            "(np.sqrt(size) + self.tau)",
            "np.sqrt(size + self.tau)",
            f"{RULES}[yogi-float32]",
        ),
        (
            STEP_MODULE,
            ".astype(np.float64) - start",
            ".astype(np.float64) + start",
            f"{RULES}[sgd-float64]",
        ),
        (
            STEP_MODULE,
            "self._steps += 1",
            "pass",
            "tests/recipes/test_fedopt.py::test_schedules_multiply_the_rate",
        ),
        (
            "flare_async.recipes.torch_step",
            "param.detach() - _parameter(mean, name).to(self._device)",
            "_parameter(mean, name).to(self._device) - param.detach()",
            "tests/recipes/test_fedopt.py::test_sgd_with_a_rate_of_one_is_fedavg",
        ),
        (
            "flare_async.recipes.torch_step",
            "value.float() if value.itemsize < FLOAT32 else value",
            "value",
            "tests/recipes/test_fedopt.py::test_torch_steps_narrow_models_in_float32[float16]",
        ),
    ),
    "scaffold": (
        ("flare_async.recipes.scaffold", "len(counted) / self._sites", "1.0", CONTROLS),
        ("flare_async.recipes.scaffold", "set(average.sites)) - counted", "set())", FATES),
        ("flare_async.recipes.scaffold", "self._counted.get(site, -1)", "number - 1", FATES),
        (CONTROL_MODULE, "rounds.get(site, number) == number", "True", FATES),
        (CONTROL_MODULE, "self.value = pending.value", "pass", FATES),
        (CONTROL_MODULE, "pending.number != number and", "", AGAIN),
        (
            "flare_async.recipes.scaffold",
            "total += part *",
            "total -= part *",
            f"{PAPERS}[scaffold-FULL]",
        ),
        (
            "flare_async.recipes.scaffold",
            "return 1.0",
            'return 1.0 + ("2" in site)',
            f"{PAPERS}[scaffold-DIFF]",
        ),
        (
            "flare_async.recipes.scaffold",
            "SGD(lr=self.server_lr)",
            "SGD(lr=1.0)",
            f"{PAPERS}[scaffold-FULL]",
        ),
        ("flare_async.client.scaffold", "alpha=curr_lr", "alpha=-curr_lr", HELPER),
        ("flare_async.client.scaffold", "self._rates += curr_lr", "self._rates += 0.1", HELPER),
        (
            "flare_async.client.scaffold",
            "- c_global_para[name] + moved",
            "+ c_global_para[name] + moved",
            HELPER,
        ),
        (
            "flare_async.client.scaffold_tf",
            "rate * (server - c_local_para[at])",
            "rate * (c_local_para[at] - server)",
            LAYERS,
        ),
        (
            "flare_async.client.scaffold_tf",
            "(own - server + moved)",
            "(own - server - moved)",
            LAYERS,
        ),
    ),
    "qfedavg": (
        (
            FAIR_MODULE,
            "max(loss**q, LEAST)",
            "max(loss, LEAST)",
            f"{PAPERS}[qfedavg-FULL]",
        ),
        (FAIR_MODULE, "part ** (q - 1) / top", "part ** (q - 1)", f"{PAPERS}[qfedavg-FULL]"),
        (FAIR_MODULE, "part ** (q - 1)", "part ** (q + 1)", f"{PAPERS}[qfedavg-FULL]"),
        (FAIR_MODULE, "lipschitz**2 *", "lipschitz *", f"{PAPERS}[qfedavg-FULL]"),
        (FAIR_MODULE, "moved -= widen", "moved += widen", f"{PAPERS}[qfedavg-FULL]"),
        (
            FAIR_MODULE,
            "if kind is not ParamsType.DIFF",
            "if kind is ParamsType.DIFF",
            f"{PAPERS}[qfedavg-DIFF]",
        ),
    ),
    "fedprox": (
        ("flare_async.recipes.fedprox", "float(value)", "-float(value)", f"{PAPERS}[fedprox-FULL]"),
        (
            "flare_async.client.fedprox",
            "return self.mu / 2 * total",
            "return self.mu * total",
            f"{TERM}::test_the_term_is_half_mu_times_the_squared_distance",
        ),
        (
            "flare_async.client.fedprox",
            "(local - fixed.detach()) ** 2",
            "(local + fixed.detach()) ** 2",
            f"{TERM}::test_its_gradient_pulls_towards_the_global_model_and_leaves_that_alone",
        ),
        (
            "flare_async.client.fedprox",
            "fixed.detach()",
            "fixed",
            f"{TERM}::test_its_gradient_pulls_towards_the_global_model_and_leaves_that_alone",
        ),
    ),
    "ditto": (
        (
            "flare_async.recipes.ditto",
            'SiteNumber("ditto_lambda", self.ditto_lambda)',
            'SiteNumber("ditto_lambda", -self.ditto_lambda)',
            "tests/recipes/test_optimisation.py::test_personal_models_are_those_of_the_paper",
        ),
        (
            "flare_async.client.ditto",
            "+ self.term(",
            "- self.term(",
            f"{TERM}::test_ditto_trains_the_personal_model_by_its_equation",
        ),
        (
            "flare_async.client.ditto",
            "copy.deepcopy(model)",
            "model",
            f"{TERM}::test_ditto_trains_the_personal_model_by_its_equation",
        ),
    ),
    "fedbn": (
        (
            "flare_async.recipes.fedbn",
            'self.exclude_vars = "|".join(patterns)',
            'pass; LOCAL = "|".join(patterns)',
            f"{FEDBN}::test_other_tensors_can_stay_local_too",
        ),
        (
            "flare_async.client.fedbn",
            "if self._pattern.search(name)",
            "if not self._pattern.search(name)",
            f"{FEDBN}::test_normalisation_stays_at_the_sites_and_all_else_is_averaged",
        ),
        (
            "flare_async.client.fedbn",
            "self._kept[name] = copied(value)",
            "self._kept[name] = value",
            f"{FEDBN}::test_what_is_kept_is_a_copy",
        ),
    ),
}

OPTIMISATION = [Mutation(algorithm, *row) for algorithm, rows in ROWS.items() for row in rows]
