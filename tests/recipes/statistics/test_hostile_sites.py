"""A site that says what cannot be is left out; its statistics have touched nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import RunFailed
from flare_async.recipes import FedStatsRecipe
from flare_async.recipes.statistics.site import FEATURES
from tests.recipes.statistics.generators import Arrays
from tests.recipes.statistics.test_fed_stats import CONFIGS, OPEN, SITES, result

LIAR = "site-2"


@dataclass(eq=False)
class Spoiled(FedStatsRecipe):
    """Changes what one site answers in one step."""

    def spoil_with(self, step, spoil):
        """Set the step, and the function that changes the answer."""
        self.step, self.spoil = step, spoil
        return self

    def work(self, site):
        """Answer as ever, but for the liar."""
        inner = super().work(site)

        def train(model, where):
            answer = inner.train(model, where)
            if where.name == LIAR and where.round_number == self.step:
                self.spoil(answer)
            return answer

        return replace(inner, train=train)


def spoiled(step, spoil, **options):
    """Return a recipe with a liar."""
    given = {"min_count": 10, "max_bins_percent": 20, **OPEN, **options}
    made = Spoiled("stats", "out/stats.json", SITES, CONFIGS, Arrays(), **given)
    return made.spoil_with(step, spoil)


def tell(text):
    """Return a function that tells other features."""

    def spoil(answer):
        room = answer.params[FEATURES].size
        answer.params[FEATURES] = np.frombuffer(text.ljust(room, b"\0"), np.uint8).copy()

    return spoil


def put(tensor, value):
    """Return a function that writes into a tensor."""

    def spoil(answer):
        answer.params[tensor][0] = value

    return spoil


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"train": [["age", 7]]}', b'{"train": 3}', b"\xff"]
)
def test_a_site_whose_features_are_none_is_refused(tmp_path, text):
    """The record of the round says why."""
    made = spoiled(0, tell(text), min_clients=3)
    run = made.execute(SimEnv(clients=SITES, workers="inline", workspace_root=tmp_path))
    first = {record.site: record for record in run.history.rounds[0].sites}
    assert first[LIAR].status == "refused"
    assert "feature" in first[LIAR].reason or "JSON" in first[LIAR].reason
    assert [record.site for record in run.history.rounds[1].sites] == [SITES[0], *SITES[2:]]


@pytest.mark.parametrize(
    ("step", "tensor", "value"),
    [
        (1, "values", -1.0),
        (1, "values", 0.5),
        (1, "values", 1e302),
        (1, "present", 0),
        (2, "bins", -1),
        (2, "bins", 2**62),
        (2, "values", -1),
    ],
)
def test_a_site_whose_numbers_cannot_be_is_refused(tmp_path, step, tensor, value):
    """Of what it said only what was told earlier remains; the record of the round says why."""
    made = spoiled(step, put(tensor, value), min_clients=3)
    run = made.execute(SimEnv(clients=SITES, workers="inline", workspace_root=tmp_path))
    found = json.loads((run.folder / "out/stats.json").read_text("utf-8"))
    assert LIAR not in found["age"]["histogram"]
    assert (LIAR in found["age"]["count"]) == (step == 2)
    said = {record.site: record for record in run.history.rounds[step].sites}
    assert said[LIAR].status == "refused"
    assert "Cell(dataset=" in said[LIAR].reason
    assert all(record.status == "ok" for site, record in said.items() if site != LIAR)


def test_without_enough_others_the_run_fails_and_names_it(tmp_path):
    """All sites are needed by default."""
    with pytest.raises(
        RunFailed, match=r"quorum is 4; failed: site-2: site-2: Cell.*: -1 is no count"
    ):
        result(spoiled(1, put("values", -1.0)), tmp_path)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    """With the tensor that they are in."""
    with pytest.raises(RunFailed, match=r"failed: site-2: .*'values': .* not finite"):
        result(spoiled(1, put("values", float("inf"))), tmp_path)
