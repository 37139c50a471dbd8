"""SCAFFOLD's controls sum up to the server's, whatever became of the sites' updates."""

from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.recipes.scaffold import ScaffoldRecipe
from tests.recipes import sites
from tests.references import optimisation as papers

SITES = 4
FATES = ["late", "fails", "refused", "late", "late", "fails", "late"]  # of one site a round
UNLUCKY = [3, 0, 1, 2, 0, 3, 1]
REFUSED = ("site-2", 1)
RATE_OF_SCRIPTS = 0.25


class Fated:
    """Trains with controls; one site a round is late, fails or is refused, having trained."""

    def __init__(self):
        self.server, self.own = {}, {}

    async def __call__(self, model, site):
        """Train."""
        number = site.round_number
        result = sites.controlled(model, site)
        self.server[number] = model.meta[sites.CONTROL]["w"].copy()
        self.own[number, site.index] = site.state["control"].value["w"]
        fate = FATES[number] if UNLUCKY[number] == site.index else ""
        if fate == "late":
            await anyio.sleep_forever()
        if fate == "fails":
            raise RuntimeError("no more memory")
        if fate == "refused":
            result.params["w"] = np.full_like(result.params["w"], 1e6)
        return result


@pytest.fixture
def played(tmp_path):
    """Return a function that plays a round for each fate."""

    def run(train, **options):
        recipe = ScaffoldRecipe(
            model={"w": papers.start()},
            train=train,
            server_lr=0.8,
            min_clients=3,
            clients_per_round=3,
            over_select=4 / 3,
            num_rounds=len(FATES),
            max_norm=1e3,
        )
        settings = {"num_clients": SITES, "num_threads": SITES, "workers": "inline"}
        env = SimEnv(**settings, workspace_root=tmp_path, **options)
        return recipe.execute(env)

    return run


@pytest.mark.parametrize(
    "way",
    [{}, {"relays": 2}, {"relays": 2, "relay_mode": "reduce"}, {"transport": "tcp"}],
    ids=["flat", "relays", "reduce", "tcp"],
)
def test_controls_sum_up_with_late_failing_and_refused_sites(played, way):
    """In every round the mean of the sites' controls is the server's; the model is the paper's."""
    train = Fated()
    run = played(train, **way)
    statuses = [
        str(record.sites[unlucky].status)
        for record, unlucky in zip(run.history.rounds, UNLUCKY, strict=True)
    ]
    wanted = {"late", "failed", "refused"}  # adding relays refuse, which the server sees as failed
    assert set(statuses) == wanted - ({"refused"} if "relay_mode" in way else set())
    for number in range(1, len(FATES)):
        mean = sum(train.own[number, index] for index in range(SITES)) / SITES
        assert np.abs(train.server[number]).max() > 1e-3
        assert np.abs(train.server[number] - mean).max() < 1e-12
    turns = [[index for index in range(SITES) if index != unlucky] for unlucky in UNLUCKY]
    expected, _, own = papers.scaffold(turns[:-1], SITES, 0.8)
    for index in range(SITES):
        assert np.abs(train.own[len(FATES) - 1, index] - own[index]).max() < 1e-12
    expected = papers.scaffold(turns, SITES, 0.8)[0]
    assert np.abs(run.model.numpy()["w"] - expected).max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True])
def test_scripts_hear_of_it_without_a_word_of_their_own(tmp_path, external):
    """NVFlare's calls are enough, in a thread and in a process."""
    torch = pytest.importorskip("torch")
    recipe = ScaffoldRecipe(
        model=torch.nn.Linear(2, 1, bias=False).double(),
        train_script=Path(__file__).with_name("scaffold_script.py"),
        launch_external_process=external,
        min_clients=2,
        num_rounds=4,
        max_norm=1e3,
    )
    run = recipe.execute(SimEnv(num_clients=3, workspace_root=tmp_path))
    assert [record.arrived for record in run.history.rounds] == [3, 2, 3, 3]
    told = [site.metrics for site in run.history.rounds[2].sites]
    assert told[1]["own"] != 0.0
    assert np.mean([one["own"] for one in told]) == pytest.approx(told[0]["server"], abs=1e-12)
