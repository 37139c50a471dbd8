"""Companions: dicts of arrays beside a model, the same through every kind of worker and link."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async import Limits, SimEnv
from flare_async.errors import ConfigError, RunFailed, TrainingFailed
from flare_async.jobs.companions import (
    RESERVED,
    Companion,
    answered,
    companion_names,
    joined,
    parted,
    sparing,
)
from flare_async.model import FLModel, ParamsType
from flare_async.recipes.algorithm import Algorithm
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.transfer.tensors import TensorSet

SLOT, KEPT = Companion("DOWN", "UP"), Companion("KEPT")
START = np.arange(3, dtype=np.float32)
SCRIPT = Path(__file__).parent / "companions_script.py"
KEYS = st.text("abcXYZ012_.-", max_size=8)


class Doubling(Algorithm):
    """Sends what was answered last; keeps what it saw."""

    def __init__(self, seen):
        self.sent = {SLOT: tensors(START + 1), KEPT: tensors(np.full(1, 0.5, np.float32), "k")}
        self.seen = seen

    def companions(self, number):
        return self.sent

    def step(self, model, average):
        self.seen.append({key: value.numpy() for key, value in average.companions.items()})
        self.sent = {SLOT: average.companions[SLOT], KEPT: self.sent[KEPT]}
        return average.model


@dataclass(kw_only=True, eq=False)
class DoublingRecipe(ModelRecipe):
    """Two rounds with a companion that is answered and one that is not."""

    min_clients: int = 2
    model: object = field(default_factory=lambda: {"w": np.zeros(3, np.float32)})
    seen: list = field(default_factory=list)

    def algorithm(self):
        return Doubling(self.seen)


def tensors(array, name="w"):
    """Return a set of one tensor."""
    return TensorSet.from_params({name: array})


def full(model, site):
    """Do what the script does, as a function."""
    answer = {"w": 2 * model.meta["DOWN"]["w"] + model.meta["KEPT"]["k"][0]}
    return FLModel(params={"w": model.params["w"] + 1}, meta={**model.meta, "UP": answer})


def diff(model, site):
    """Return a difference; the answer is no difference all the same."""
    answer = {"w": 2 * model.meta["DOWN"]["w"] + model.meta["KEPT"]["k"][0]}
    ones = np.ones(3, np.float32)
    return FLModel(params={"w": ones}, params_type=ParamsType.DIFF, meta={"UP": answer})


def check(recipe, env):
    """Run and compare with what two rounds must give, in either transfer."""
    run = recipe.execute(env)
    assert run.model.numpy()["w"].tolist() == [2.0] * 3
    assert list(run.model) == ["w"]
    first = 2 * (START + 1) + 0.5
    assert [seen[SLOT]["w"].tolist() for seen in recipe.seen] == [
        first.tolist(),
        (2 * first + 0.5).tolist(),
    ]
    assert all(seen[KEPT]["k"].tolist() == [0.5] for seen in recipe.seen)


@pytest.mark.parametrize("transfer", ["FULL", "DIFF"])
@pytest.mark.parametrize(
    "options",
    [
        {"workers": "inline"},
        {"workers": "thread"},
        {"workers": "process"},
        {"workers": "inline", "transport": "tcp"},
        {"workers": "inline", "num_clients": 4, "relays": 2},
    ],
)
def test_functions_answer_the_same_everywhere(tmp_path, options, transfer):
    """Inline, in threads, in processes, over tcp, behind relays, as whole values or differences."""
    recipe = DoublingRecipe(train=full, params_transfer_type=transfer)
    check(recipe, SimEnv(**{"num_clients": 2, "workspace_root": tmp_path, **options}))


@pytest.mark.parametrize("options", [{}, {"num_clients": 4, "relays": 2, "relay_mode": "reduce"}])
def test_an_answer_beside_a_difference_is_whole(tmp_path, options):
    """User code says DIFF of its params; the mean of the answers is that of the answers."""
    options = {"num_clients": 2, "workers": "inline", "workspace_root": tmp_path, **options}
    check(DoublingRecipe(train=diff), SimEnv(**options))


@pytest.mark.parametrize("kind", ["FULL", "DIFF"])
@pytest.mark.parametrize("external", [False, True])
def test_scripts_answer_the_same(tmp_path, kind, external):
    """In a thread and in a process of its own."""
    recipe = DoublingRecipe(train_script=SCRIPT, train_args=kind, launch_external_process=external)
    limits = Limits(shutdown_timeout=1.0)
    check(recipe, SimEnv(num_clients=2, workspace_root=tmp_path, limits=limits))


@pytest.mark.parametrize("answer", [None, 3, {"x": START}, {"w": START[:2]}, {}])
def test_an_answer_that_does_not_fit_fails_the_site(tmp_path, answer):
    """The reason says which key, or which tensor."""

    def wrong(model, site):
        return FLModel(params=model.params, meta={} if answer is None else {"UP": answer})

    env = SimEnv(num_clients=2, workers="inline", workspace_root=tmp_path)
    with pytest.raises(RunFailed, match="UP"):
        DoublingRecipe(train=wrong).execute(env)


def test_a_model_may_not_use_reserved_names():
    """Neither when the recipe is made nor when it is joined."""
    model = {f"{RESERVED}a>b/w": START}
    with pytest.raises(ConfigError, match=RESERVED):
        DoublingRecipe(train=full, model=model)
    with pytest.raises(ConfigError, match=RESERVED):
        joined(TensorSet.from_params(model), {SLOT: tensors(START)})


@given(st.dictionaries(st.tuples(KEYS, KEYS).filter(any), st.lists(st.text("/>ab", min_size=1))))
def test_what_is_joined_is_parted_again(slots):
    """Whatever the keys and the tensors' own names."""
    companions = {
        Companion(*keys): TensorSet.from_params(dict.fromkeys(names, START))
        for keys, names in slots.items()
        if names
    }
    model, found = parted(joined(tensors(START), companions))
    assert dict(model) == dict(tensors(START))
    assert {slot: (dict(part), dict(part.aliases)) for slot, part in found.items()} == {
        slot: (dict(part), dict(part.aliases)) for slot, part in companions.items()
    }


@given(st.lists(st.one_of(st.text(), st.text().map(RESERVED.__add__))))
def test_no_name_is_too_strange(names):
    """Names of others are companions or are not; reading them raises nothing."""
    assert all(slot.sent or slot.answer for slot in companion_names(names))


@pytest.mark.parametrize("keys", [("", ""), ("a/b", ""), ("", "a>b"), (3, "")])
def test_a_companion_has_plain_keys(keys):
    """They become parts of names."""
    with pytest.raises(ConfigError):
        Companion(*keys)


def test_a_pattern_spares_companions():
    """``exclude_vars`` is about the model; a companion of the same name is averaged."""
    names = ["bn.w", "w", SLOT.name_of("bn.w")]
    assert sparing("bn", names[:2]) == "bn"
    assert sparing("bn", names) == r"\A(?:bn\.w)\Z"
    assert sparing("other", names) is None
    with pytest.raises(ConfigError, match="exclude"):
        sparing("(", names)


def test_an_answer_must_be_a_dict():
    """The message has the key that it was sent under."""
    sent = joined(tensors(START), {SLOT: tensors(START)})
    with pytest.raises(TrainingFailed, match=r"meta\['UP'\] is list.*like meta\['DOWN'\]"):
        answered("site-1", FLModel(params={"w": START}, meta={"UP": [1]}), sent)
