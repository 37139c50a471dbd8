"""FedOpt against its paper, FedAvg and PyTorch's own optimizers."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.recipes.fedavg import FedAvgRecipe
from flare_async.recipes.fedopt import FedOptRecipe
from flare_async.recipes.schedules import CosineDecay, ExponentialDecay, StepDecay
from flare_async.recipes.server_optimizers import SGD, Adam
from tests.recipes import sites
from tests.references.optimisation import fedopt, start

RULES = {
    "sgd": {"lr": 0.7, "momentum": 0.6},
    "adagrad": {"lr": 0.1, "beta1": 0.3},
    "adam": {"lr": 0.1, "beta1": 0.8, "beta2": 0.95, "tau": 0.01},
    "yogi": {"lr": 0.1, "beta2": 0.9, "tau": 0.1},
}
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


def recipe(kind=FedOptRecipe, dtype="float32", **options):
    """Return three rounds of FedOpt with three sites."""
    model = {"w": start().astype(dtype)}
    settings = {"model": model, "train": sites.average, "min_clients": 3, "num_rounds": 3}
    return kind(**{**settings, **options})


def weights(made, tmp_path, clients=3):
    """Return the weights after a run."""
    env = SimEnv(num_clients=clients, workers="inline", workspace_root=tmp_path)
    return made.execute(env).model.numpy()["w"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(RULES))
def test_each_rule_is_that_of_the_paper(tmp_path, name, dtype):
    """Against a simulation in one process, in float64."""
    found = weights(
        recipe(dtype=dtype, optimizer_args={"path": name, "args": RULES[name]}), tmp_path
    )
    expected = fedopt(range(3), 3, name, **RULES[name])
    assert np.abs(found - expected).max() < TOLERANCE[dtype]


@pytest.mark.parametrize(
    "options", [{}, {"optimizer_args": {"class_path": "torch.optim.SGD", "args": {"lr": 1.0}}}]
)
def test_sgd_with_a_rate_of_one_is_fedavg(tmp_path, options):
    """By the default and by PyTorch's optimizer."""
    found = weights(recipe(**options), tmp_path)
    plain = weights(recipe(FedAvgRecipe), tmp_path)
    assert np.abs(found - plain).max() <= (1e-6 if options else 0)


def mixed(model, site):
    """Move everything, buffers and counters too."""
    params = {name: value + site.index + 1 for name, value in model.params.items()}
    return FLModel(params=params)


@pytest.mark.parametrize("path", ["sgd", "torch.optim.SGD"])
def test_buffers_integers_and_excluded_tensors_are_not_stepped(tmp_path, path):
    """What is trained goes half of the way, buffers all of it, what is excluded none."""
    names = ("w", "bn.running_mean", "fixed")
    model = {name: np.zeros(2, np.float32) for name in names} | {"n": np.array(0, np.int64)}
    made = FedOptRecipe(
        model=model,
        train=mixed,
        min_clients=3,
        num_rounds=1,
        exclude_vars="fixed",
        optimizer_args={"path": path, "args": {"lr": 0.5}},
    )
    env = SimEnv(num_clients=3, workers="inline", workspace_root=tmp_path)
    found = made.execute(env).model.numpy()
    assert {name: value.max() for name, value in found.items()} == {
        "w": 1.0,
        "bn.running_mean": 2.0,
        "fixed": 0.0,
        "n": 2,
    }


def test_a_module_says_which_of_its_tensors_are_trained(tmp_path):
    """A parameter that is frozen is averaged, as buffers are."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(2)
            self.frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    made = FedOptRecipe(
        model=Net(), train=mixed, min_clients=1, num_rounds=1, optimizer_args=SGD(lr=0.5)
    )
    env = SimEnv(num_clients=1, workers="inline", workspace_root=tmp_path)
    found = made.execute(env).model.numpy()
    moved = {
        name: float(value.max()) - (name in {"norm.weight", "norm.running_var"})
        for name, value in found.items()
    }
    assert moved == {
        "norm.weight": 0.5,
        "norm.bias": 0.5,
        "norm.running_mean": 1.0,
        "norm.running_var": 1.0,
        "norm.num_batches_tracked": 1.0,
        "frozen": 1.0,
    }


def test_torch_optimizers_and_schedulers_have_their_own_arithmetic(tmp_path):
    """AdamW with cosine annealing over ``{num_rounds}``, against a loop with PyTorch alone."""
    import torch

    made = recipe(
        dtype="float64",
        optimizer_args={"class_path": "torch.optim.AdamW", "args": {"lr": 0.1}},
        lr_scheduler_args={
            "class_path": "torch.optim.lr_scheduler.CosineAnnealingLR",
            "args": {"T_max": "{num_rounds}", "eta_min": 0.01},
        },
    )
    found = weights(made, tmp_path)
    w = torch.nn.Parameter(torch.from_numpy(start()))
    optimizer = torch.optim.AdamW([w], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3, eta_min=0.01)
    for _ in range(3):
        here = w.detach().numpy()
        ends = [sites.descend(here, k) * (1 + k) for k in range(3)]
        w.grad = w.detach() - torch.from_numpy(sum(ends) / 6)
        optimizer.step()
        scheduler.step()
    assert np.abs(found - w.detach().numpy()).max() < 1e-12


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (
            {"path": "CosineDecay", "args": {"decay_steps": "{num_rounds}", "alpha": 0.5}},
            [1, 0.875, 0.625],
        ),
        (ExponentialDecay(gamma=0.5), [1, 0.5, 0.25]),
        (StepDecay(step_size=2), [1, 1, 0.1]),
        ({"path": "torch.optim.lr_scheduler.StepLR", "args": {"step_size": 1}}, [1, 0.1, 0.01]),
    ],
)
def test_schedules_multiply_the_rate(tmp_path, given, rate):
    """Ours, and PyTorch's over one of our rules."""
    made = recipe(dtype="float64", optimizer_args=SGD(lr=0.8), lr_scheduler_args=given)
    expected = fedopt(range(3), 3, "sgd", lr=lambda number: 0.8 * rate[number])
    assert np.abs(weights(made, tmp_path) - expected).max() < 1e-9


def test_a_recipe_can_run_twice(tmp_path):
    """The optimizer's state belongs to a run."""
    made = recipe(optimizer_args=Adam(lr=0.1))
    assert weights(made, tmp_path).tolist() == weights(made, tmp_path).tolist()


def test_what_is_held_is_planned():
    """Adam has two numbers for each trained value beside what FedAvg holds."""
    plain, adam = recipe(FedAvgRecipe).demand(), recipe(optimizer_args=Adam()).demand()
    assert adam.accumulator - plain.accumulator == 2 * 3 * 8
    assert adam.model == plain.model


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"optimizer_args": {"path": "adam", "args": {"lr": -1}}}, "optimizer_args.lr"),
        ({"optimizer_args": {"path": "adam", "args": {"rate": 1}}}, "optimizer_args.args"),
        ({"optimizer_args": {"name": "adam"}}, "optimizer_args"),
        ({"optimizer_args": {"class_path": "torch.optim.Nothing"}}, "optimizer_args"),
        ({"optimizer_args": {"class_path": "torch.nn.ReLU"}}, "optimizer_args"),
        ({"optimizer_args": {"class_path": "torch.optim.LBFGS"}}, "optimizer_args"),
        ({"optimizer_args": SGD}, "optimizer_args"),
        ({"optimizer_args": object()}, "optimizer_args"),
        ({"lr_scheduler_args": CosineDecay}, "lr_scheduler_args"),
        (
            {"lr_scheduler_args": {"path": "torch.optim.lr_scheduler.ReduceLROnPlateau"}},
            "lr_scheduler_args",
        ),
        (
            {"lr_scheduler_args": {"path": "CosineDecay", "args": {"decay_steps": 0}}},
            "lr_scheduler_args.decay_steps",
        ),
        ({"lr_scheduler_args": {"path": "torch.optim.SGD", "args": {}}}, "lr_scheduler_args"),
        ({"model": {"n": np.zeros(2, np.int64)}}, "model"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(options, field):
    """The error names the argument."""
    with pytest.raises(ConfigError) as caught:
        recipe(**options)
    assert caught.value.field == field


def test_a_cosine_ends_at_its_floor():
    """And stays there."""
    decay = CosineDecay(4, alpha=0.25)
    assert [round(decay.factor(step), 6) for step in (0, 2, 4, 9)] == [1.0, 0.625, 0.25, 0.25]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_torch_steps_narrow_models_in_float32(tmp_path, dtype):
    """In their own type the smallest terms are lost, and what has not moved is zero by zero."""
    import torch

    kind, moved = getattr(torch, dtype), torch.tensor([0.0, 1e-3, 1.0])
    made = FedOptRecipe(
        model={"w": torch.zeros(3, dtype=kind)},
        train=lambda model, site: FLModel(params={"w": (model.params["w"] + moved).to(kind)}),
        min_clients=1,
        num_rounds=2,
        optimizer_args={"class_path": "torch.optim.Adam", "args": {"lr": 0.1}},
    )
    env = SimEnv(num_clients=1, workers="inline", workspace_root=tmp_path)
    found = made.execute(env).model.torch()["w"]
    w = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=0.1)
    for _ in range(2):
        w.grad = w.detach().to(kind).float() - (w.detach().to(kind) + moved).to(kind).float()
        optimizer.step()
        w.data = w.data.to(kind).float()
    assert found.tolist() == w.detach().to(kind).tolist()


def test_a_step_out_of_the_models_range_is_the_servers_own(tmp_path):
    """The next round would blame the sites for what they got."""
    made = FedOptRecipe(
        model={"w": np.zeros(3, np.float16)},
        train=lambda model, site: FLModel(params={"w": model.params["w"] + 1}),
        min_clients=1,
        num_rounds=2,
        optimizer_args=SGD(lr=1e6),
    )
    env = SimEnv(num_clients=1, workers="inline", workspace_root=tmp_path)
    with pytest.raises(RunFailed, match="step of round 0: tensor 'w' of the new model is not fin"):
        made.execute(env)
