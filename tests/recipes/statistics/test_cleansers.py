"""What keeps single values private, before anything leaves a site."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import TensorFormatError
from flare_async.jobs.site import Site, SiteInfo
from flare_async.model import FLModel
from flare_async.recipes.statistics.cleansers import (
    AddNoiseToMinMax,
    HistogramBinsCleanser,
    MinCountCleanser,
)
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.plan import Cell, Common, Plan
from flare_async.recipes.statistics.tables import CellReport
from tests.recipes.statistics.generators import Arrays, data_of
from tests.recipes.statistics.test_fed_stats import CONFIGS, SITES, recipe, result

CELL = Cell("train", "age")
NOISY = {"min_noise_level": 0.1, "max_noise_level": 0.3}


def test_nothing_leaves_of_too_few_values():
    """Not even how many there are; no values at all are always too few."""
    report = CellReport({"count": 9.0})
    assert MinCountCleanser(10, 100).apply(report, 9) is None
    assert MinCountCleanser(10, 100).apply(report, 10) == report
    assert MinCountCleanser(0, 100).apply(report, 0) is None


def test_every_centroid_that_leaves_stands_for_enough_values():
    """Those at the ends would be the smallest and the largest value."""
    digest = Digest(tuple(map(float, range(25))), (1.0,) * 25)
    left = MinCountCleanser(10, 100).apply(CellReport(digest=digest), 25)
    assert left.digest == Digest((4.5, 17.0), (10.0, 15.0))


@pytest.mark.parametrize(("low", "high"), [(17.0, 90.0), (-8.0, -2.0), (0.0, 5.0), (0.0, 0.0)])
def test_noise_moves_the_ends_outwards_within_its_levels(low, high):
    """The true range stays inside, and no end stays where it is."""
    dice = random.Random(3)
    for _ in range(50):
        report = CellReport({"min": low, "max": high})
        left = AddNoiseToMinMax(0.1, 0.3, dice).apply(report, 100).values
        for name, value, way in (("min", low, -1), ("max", high, 1)):
            size = abs(value) or abs(high) or 1.0
            assert 0.1 * size <= way * (left[name] - value) <= 0.3 * size * (1 + 1e-12)


def test_a_histogram_that_is_too_fine_does_not_leave():
    """Ten percent of forty values are four bins."""
    report = CellReport({"var": 1.0}, histogram=(10, 10, 10, 10))
    assert HistogramBinsCleanser(10).apply(report, 40) == report
    assert HistogramBinsCleanser(10).apply(report, 39) == CellReport({"var": 1.0})


def asked(site, made, plan=None, number=1):
    """Return what one site answers to a step, as it leaves the site."""
    place = Site(SiteInfo(name=site, round_number=number, total_rounds=3, index=0), {})
    return made.work(site).train(FLModel(params=plan), place).params


@pytest.mark.parametrize(("step", "tensor"), [(1, "values"), (2, "bins")])
def test_cleansing_happens_before_the_answer_leaves_the_site(step, tensor):
    """The tensors of the answer hold nothing of a feature with too few values."""
    made = recipe(min_count=71)
    plan = Plan(step, (CELL, Cell("test", "age")), (Common(200.0, 50.0), Common(200.0, 50.0)))
    left = asked("site-1", made, {"plan": plan.to_bytes()}, step)
    assert left["told"].tolist() == [0, 1]
    assert not left[tensor][0].any()
    assert left[tensor][1].any()


def test_a_site_below_the_minimum_is_not_in_the_result(tmp_path):
    """The others' statistics are as if it were not there."""
    found = result(recipe(min_count=41), tmp_path)["age"]
    assert set(found["count"]) == {"site-1", "site-2", "site-4", "Global"}  # of the test data
    assert found["count"]["Global"]["train"] == 70 + 55
    assert found["histogram"]["site-4"].keys() == {"test"}


def test_a_histogram_keeps_all_values_inside_its_noisy_range(tmp_path):
    """Noise is for the ends only: every value is in a bin."""
    found = result(recipe(**NOISY), tmp_path)["fare"]
    count = found["count"]["Global"]["train"]
    bins = found["histogram"]["Global"]["train"]
    assert sum(row[2] for row in bins) == count
    assert bins[0][0] == found["min"]["Global"]["train"]
    assert bins[0][0] < min(np.nanmin(data_of(at)["train"]["fare"]) for at in (0, 1, 3)) * 0.91


def test_noise_is_not_made_of_the_seed_unless_the_recipe_says_so(tmp_path):
    """Whoever knows the seed of the run must not be able to take the noise away."""
    runs = [result(recipe(**NOISY), tmp_path, seed=5) for _ in range(2)]
    assert runs[0]["age"]["min"] != runs[1]["age"]["min"]
    assert runs[0]["age"]["mean"] == runs[1]["age"]["mean"]


@pytest.mark.parametrize("workers", ["inline", "process"])
def test_a_simulation_with_noise_can_be_repeated(tmp_path, workers):
    """With ``reproducible_noise``; another seed gives other noise."""
    made = recipe(reproducible_noise=True, **NOISY)
    first = result(made, tmp_path, seed=5)
    assert result(made, tmp_path, seed=5, workers=workers) == first
    assert result(made, tmp_path, seed=6)["age"]["min"] != first["age"]["min"]


def test_asking_a_site_again_gives_the_same_noise():
    """The mean of many answers would be the true value."""
    made, state = recipe(**NOISY), {}
    plan = Plan(1, (CELL,), (Common(),)).to_bytes()
    info = SiteInfo(name="site-1", round_number=1, total_rounds=3)
    answers = [
        made.work("site-1").train(FLModel(params={"plan": plan}), Site(info, state)).params
        for _ in range(2)
    ]
    assert answers[0]["values"].tolist() == answers[1]["values"].tolist()


def test_a_step_is_not_answered_for_another_plan():
    """Histograms of ever smaller ranges would find every value."""
    made, state = recipe(), {}
    info = SiteInfo(name="site-1", round_number=1, total_rounds=3)
    plans = [Plan(2, (CELL,), (Common(50.0, 40.0, 0.0, high),)) for high in (90.0, 90.0, 45.0)]
    ask = made.work("site-1").train
    for plan in plans[:2]:
        ask(FLModel(params={"plan": plan.to_bytes()}), Site(info, state))
    with pytest.raises(TensorFormatError, match="step 2 was asked for before"):
        ask(FLModel(params={"plan": plans[2].to_bytes()}), Site(info, state))


def test_the_ends_do_not_leave_unless_they_are_needed():
    """A range in the configuration is enough for a histogram."""
    configs = {"histogram": {"age": CONFIGS["histogram"]["age"], "fare": {"bins": 4}}}
    made = recipe(configs=configs)
    cells = (CELL, Cell("train", "fare"))
    plan = Plan(1, cells, (Common(), Common())).to_bytes()
    left = asked(SITES[0], made, {"plan": plan})
    assert left["present"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_the_result_has_no_trace_of_a_feature_that_all_sites_keep(tmp_path):
    """It has its name, and nothing else."""
    run = recipe(Arrays(), min_count=1000).execute(
        SimEnv(clients=SITES, workers="inline", workspace_root=tmp_path)
    )
    found = json.loads((run.folder / "out" / "stats.json").read_text("utf-8"))
    assert found == {"age": {}, "fare": {}, "extra": {}}
    assert "No site told anything of it." in (run.folder / "out" / "stats.html").read_text("utf-8")
