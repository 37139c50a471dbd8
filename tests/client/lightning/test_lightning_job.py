"""Lightning scripts in a job: in a thread, in a process, and in two that train together."""

from __future__ import annotations

from pathlib import Path

import pytest

from flare_async import SimEnv
from flare_async.recipes import FedAvgRecipe

pytestmark = [
    pytest.mark.lightning,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("default"),  # Lightning's own
]
SCRIPT = Path(__file__).parents[1] / "scripts" / "lightning_client.py"
ROUNDS = 2
CASES = {"thread": (1, False, 2), "process": (1, True, 2), "ddp": (2, True, 1)}


class Probe(FedAvgRecipe):
    """FedAvg that keeps what the sites tell of their rounds."""

    def weigh(self, site, meta):
        self.told.append((site, dict(meta)))
        return super().weigh(site, meta)


def make_model():
    """Return the module whose tensors have the names of the script's."""
    import torch

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1, bias=False)
            torch.nn.init.constant_(self.layer.weight, 1.0)

    return Line()


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Return a function that runs a case, once, and returns the run and what the sites told."""
    found = {}

    def get(case):
        if case not in found:
            found[case] = play(tmp_path_factory.mktemp(case), case)
        return found[case]

    return get


def play(path, case):
    """Run the script; return the run and what the sites told."""
    devices, external, sites = CASES[case]
    recipe = Probe.__new__(Probe)
    recipe.told = []
    recipe.__init__(
        model=make_model(),
        train_script=str(SCRIPT),
        train_args=str(devices),
        launch_external_process=external,
        min_clients=sites,
        num_rounds=ROUNDS,
    )
    run = recipe.execute(SimEnv(num_clients=sites, num_threads=1, workspace_root=path))
    return run, recipe.told


@pytest.mark.parametrize("case", CASES)
def test_every_rank_trains_the_received_model_and_goes_on_with_its_state(played, case):
    """Rank 0 answers each task once; steps are those of the round."""
    devices, _, sites = CASES[case]
    run, told = played(case)
    metas = [meta for _, meta in told]
    assert len(metas) == ROUNDS * sites
    assert {(meta["ranks"], meta["agree"]) for meta in metas} == {(devices, True)}
    assert {meta["NUM_STEPS_CURRENT_ROUND"] for meta in metas} == {8 // devices}
    first, last = metas[0], metas[-1]
    assert (first["momentum"], first["rate"], last["rate"]) == (0.0, 0.5, 0.25)
    assert last["momentum"] > 0
    weights = [model.metrics["weight"] for model in run.history.models]
    assert weights[0] == 1.0
    assert len(weights) == ROUNDS
    assert len(run.metrics.of("train_loss", "site-1")) == ROUNDS * 8 // devices


def test_a_thread_and_a_process_make_the_same_model(played):
    """The same script, wherever it runs."""
    models = [played(case)[0].model.torch() for case in ("thread", "process")]
    assert abs(models[0]["layer.weight"] - models[1]["layer.weight"]).item() <= 1e-5
