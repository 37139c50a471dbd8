"""``FedStatsRecipe`` from end to end: the numbers, the ways they travel, and what goes wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import anyio
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.jobs.events import RoundStarted, SiteFinished
from flare_async.recipes import FedStatsRecipe
from flare_async.recipes.statistics import StatisticConfig, Statistics
from tests.recipes.statistics.generators import Arrays, Recorded, Wrong, data_of, parts_of
from tests.references import fed_stats

SITES = ["site-1", "site-2", "site-3", "site-4"]
CELLS = [("train", "age"), ("train", "fare"), ("train", "extra"), ("test", "age")]
NUMBERS = ("count", "failure_count", "sum", "mean", "var", "stddev", "min", "max")
CONFIGS = {
    **{name: {} for name in NUMBERS},
    "histogram": {"*": {"bins": 4}, "age": {"bins": 5, "range": [0, 100]}},
}
OPEN = {"min_noise_level": 0.0, "max_noise_level": 0.0, "precision": None}


def recipe(generator=None, configs=None, **options):
    """Return the recipe of the tests; without noise unless told."""
    given = {"min_count": 10, "max_bins_percent": 20, **OPEN, **options}
    configs = CONFIGS if configs is None else configs
    return FedStatsRecipe("stats", "out/stats.json", SITES, configs, generator or Arrays(), **given)


def result(made, root, **options):
    """Run and return what the run has written."""
    env = SimEnv(**{"clients": SITES, "workers": "inline", "workspace_root": root, **options})
    run = made.execute(env)
    return json.loads((run.folder / "out" / "stats.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return the result of the simplest run."""
    return result(recipe(), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(("dataset", "feature"), CELLS)
def test_global_numbers_equal_those_of_the_pooled_data(plain, dataset, feature):
    """Integers and floats, with missing values, with sites that lack the feature or have no row."""
    expected = fed_stats.pooled(parts_of(dataset, feature))
    for name in NUMBERS:
        found = plain[feature][name]["Global"][dataset]
        assert found == pytest.approx(expected[name], rel=1e-12), name


@pytest.mark.parametrize(("dataset", "feature"), CELLS)
def test_the_numbers_of_a_site_are_its_own(plain, dataset, feature):
    """A site is told apart from the others."""
    for index, site in enumerate(SITES):
        rows = data_of(index)[dataset].get(feature, [])
        expected = fed_stats.pooled([rows]) if len(rows) else {}
        for name in NUMBERS:
            found = plain[feature][name].get(site, {}).get(dataset)
            wanted = expected.get(name)
            told = wanted if wanted is None else pytest.approx(wanted, rel=1e-12)
            assert found == told, (site, name)


@pytest.mark.parametrize(("dataset", "feature"), CELLS)
def test_histograms_add_up_to_the_one_of_the_pooled_data(plain, dataset, feature):
    """With the range that is given, or with the smallest and largest value of all sites."""
    bins = plain[feature]["histogram"]["Global"][dataset]
    expected = fed_stats.counts(parts_of(dataset, feature), len(bins), bins[0][0], bins[-1][1])
    assert [row[2] for row in bins] == expected
    ends = fed_stats.pooled(parts_of(dataset, feature))
    given = (0, 100) if feature == "age" else (ends["min"], ends["max"])
    assert (bins[0][0], bins[-1][1]) == pytest.approx(given)


def test_only_what_is_asked_for_is_written(tmp_path):
    """The mean needs a count and a sum, which are not written; counts are integers."""
    found = result(recipe(configs={"mean": {}, "count": {}}, precision=2), tmp_path)
    assert set(found) == {"age", "fare", "extra"}
    assert {name for one in found.values() for name in one} == {"mean", "count"}
    assert found["age"]["count"]["Global"] == {"train": 165, "test": 330}
    mean = found["age"]["mean"]["Global"]["train"]
    assert mean == round(fed_stats.pooled(parts_of("train", "age"))["mean"], 2)


@pytest.mark.parametrize(
    ("transport", "workers", "relays"),
    [
        ("tcp", "inline", None),
        ("memory", "thread", None),
        ("tcp", "process", None),
        ("memory", "inline", 2),
        ("tcp", "thread", {"r1": "server", "r2": "r1", **dict.fromkeys(SITES[1:], "r2")}),
    ],
)
def test_the_way_changes_nothing(plain, tmp_path, transport, workers, relays):
    """Over memory and tcp, in any worker, below relays."""
    options = {"transport": transport, "workers": workers, "relays": relays}
    assert result(recipe(), tmp_path, **options) == plain


def test_relays_that_add_pass_statistics_on(plain, tmp_path):
    """There is no sum in them to be made on the way."""
    assert result(recipe(), tmp_path, relays=2, relay_mode="reduce") == plain


class Turnstile(FedStatsRecipe):
    """Lets the sites of a round finish in a given order, each when the one before has arrived."""

    order: list[str]

    def work(self, site):
        """Answer as ever, then wait for this site's turn."""
        inner = super().work(site)

        async def train(model, where):
            answer = inner.train(model, where)
            await self.turns[where.name].wait()
            return answer

        return replace(inner, train=train)

    def observe(self, event):
        """Let the next one go."""
        if isinstance(event, RoundStarted):
            self.left = list(self.order)
            self.turns = {site: anyio.Event() for site in SITES}
        if isinstance(event, RoundStarted | SiteFinished) and self.left:
            self.turns[self.left.pop(0)].set()


@pytest.mark.parametrize("order", [SITES[::-1], [SITES[at] for at in (2, 0, 3, 1)]])
def test_the_order_of_arrival_changes_nothing(plain, tmp_path, order):
    """Sums are in the order of the cohort, and exact."""
    options = {"min_count": 10, "max_bins_percent": 20, **OPEN}
    made = Turnstile("stats", "out/stats.json", SITES, CONFIGS, Arrays(), **options)
    made.order = order
    assert result(made, tmp_path, observer=made.observe, num_threads=4) == plain


def without(*left_out):
    """Return the parts of ``train`` and ``fare`` of all other sites."""
    kept = [index for index, site in enumerate(SITES) if site not in left_out]
    return [data_of(index)["train"]["fare"] for index in kept]


@pytest.mark.parametrize("where", ["count", "sum"])
def test_a_site_that_fails_is_left_out(tmp_path, where):
    """The others are enough where the recipe says so; no later step asks it."""
    made = recipe(Arrays(failing="site-1", where=where), min_clients=3)
    found = result(made, tmp_path)["fare"]
    expected = fed_stats.pooled(without("site-1"))
    assert "site-1" not in found["mean"]
    assert found["var"]["Global"]["train"] == pytest.approx(expected["var"], rel=1e-12)


def test_the_variance_of_the_others_is_exact_when_a_site_is_lost_before_its_part(tmp_path):
    """The mean that they were told has the lost site in it, theirs has not."""
    made = recipe(Arrays(failing="site-4", where="variance"), min_clients=3)
    found = result(made, tmp_path)["fare"]
    assert found["count"]["Global"]["train"] == fed_stats.pooled(without())["count"]
    expected = fed_stats.pooled(without("site-4"))
    assert found["var"]["Global"]["train"] == pytest.approx(expected["var"], rel=1e-9)
    assert sum(row[2] for row in found["histogram"]["Global"]["train"]) == expected["count"]


def test_a_generator_that_raises_is_named_with_its_line(tmp_path):
    """All sites are needed by default, so the run ends."""
    made = recipe(Arrays(failing="site-2", where="sum"))
    with pytest.raises(RunFailed, match=r"site-2: .*generators\.py:\d+ in Arrays\.sum: ValueError"):
        result(made, tmp_path)


def test_a_generator_that_returns_the_wrong_type_is_named_with_its_line(tmp_path):
    """In another process too."""
    pattern = r"generators\.py:\d+: Wrong\.count returned str 'many', an integer is needed"
    for workers in ("inline", "process"):
        with pytest.raises(RunFailed, match=pattern):
            result(recipe(Wrong()), tmp_path, workers=workers)


@pytest.mark.parametrize("workers", ["thread", "process"])
def test_every_site_makes_its_own_generator_once(tmp_path, workers):
    """Initialised before the first step, told what is wanted, finalised after the last."""
    log = tmp_path / "calls"
    result(recipe(Recorded(str(log))), tmp_path, workers=workers)
    said = [line.split(" ", 2) for line in log.read_text("utf-8").splitlines()]
    for site in SITES:
        words = [word for name, word, _ in said if name == site]
        assert words == ["initialize", "pre_run", "finalize"]
    asked = next(rest for _, word, rest in said if word == "pre_run")
    assert asked.startswith("count,failure_count,histogram,max,mean,min,stddev,sum,var ")
    assert "{'*': 4, 'age': 5} {'age': (0.0, 100.0)}" in asked


def test_statistics_without_a_second_step_take_two_rounds(tmp_path):
    """The features, then the numbers; a list of configurations does as well."""
    made = recipe(configs=[StatisticConfig("count", {}), StatisticConfig("max", {})])
    run = made.execute(SimEnv(clients=SITES, workers="inline", workspace_root=tmp_path))
    assert (made.num_rounds, len(run.history.rounds)) == (2, 2)
    assert recipe().num_rounds == 3


def test_a_site_that_is_not_listed_is_not_asked(tmp_path):
    """The recipe names its sites; the environment may have more."""
    made = FedStatsRecipe("stats", "out/stats.json", SITES[:2], {"count": {}}, Arrays())
    found = result(made, tmp_path)
    assert set(found["age"]["count"]) == {"site-1", "site-2", "Global"}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"sites": []}, "sites"),
        ({"sites": "site-1"}, "sites"),
        ({"sites": ["a", "a"]}, "sites"),
        ({"min_clients": 5}, "min_clients"),
        ({"min_clients": "2"}, "min_clients"),
        ({"round_timeout": 0}, "round_timeout"),
        ({"stats_output_path": "/tmp/x.json"}, "stats_output_path"),
        ({"stats_output_path": "../x.json"}, "stats_output_path"),
        ({"stats_output_path": "x.html"}, "stats_output_path"),
        ({"precision": -1}, "precision"),
        ({"min_count": -1}, "min_count"),
        ({"min_noise_level": 2}, "min_noise_level"),
        ({"max_noise_level": 0.05}, "max_noise_level"),
        ({"max_bins_percent": "10"}, "max_bins_percent"),
        ({"max_centroids": 3}, "max_centroids"),
        ({"stats_generator": object()}, "stats_generator"),
        ({"statistic_configs": {"median": {}}}, "statistic_configs"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(options, field):
    """Before anything runs."""
    given = {
        "name": "stats",
        "stats_output_path": "s.json",
        "sites": SITES,
        "statistic_configs": {"count": {}},
        "stats_generator": Arrays(),
    }
    with pytest.raises(ConfigError) as caught:
        FedStatsRecipe(**{**given, **options})
    assert caught.value.field == field


class Bare(Statistics):
    """Counts, and nothing else."""

    def features(self):
        """Return nothing."""
        return {}

    def count(self, dataset_name, feature_name):
        """Return nothing."""
        return 0


@pytest.mark.parametrize(
    ("statistic", "method"),
    [("var", "sum"), ("histogram", "min_value"), ("quantile", "quantiles"), ("max", "max_value")],
)
def test_a_method_that_a_statistic_needs_is_missed_at_once(statistic, method):
    """Not at the first site that is asked for it."""
    options = {"histogram": {"*": {"bins": 3}}, "quantile": {"*": [0.5]}}.get(statistic, {})
    with pytest.raises(ConfigError, match=f"has no method {method}, which '{statistic}' needs"):
        recipe(Bare(), {statistic: options})


def test_sites_without_any_feature_of_numbers_end_the_run(tmp_path):
    """There is nothing to ask for."""
    with pytest.raises(RunFailed, match="no site has a feature of numbers"):
        result(recipe(Bare(), {"count": {}}), tmp_path)


def test_a_site_that_does_not_exist_is_refused():
    """When the run starts, with the names that there are."""
    env = SimEnv(num_clients=5, workers="inline")
    made = FedStatsRecipe("stats", "s.json", ["site-1", "site-6"], {"count": {}}, Arrays())
    with pytest.raises(ConfigError, match=r"\['site-6'\]: no such sites"):
        made.execute(env)
