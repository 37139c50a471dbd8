"""Training at one site: what user code receives, what it may return, and what comes out."""

from __future__ import annotations

import asyncio
import functools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import ConfigError, TrainingFailed
from flare_async.jobs.seeding import SingleTorchThread, seeded
from flare_async.jobs.site import Site, SiteInfo, SiteStates, plain
from flare_async.jobs.training import TrainTask, call, conclude, finish, prepare
from flare_async.jobs.work import Work, code_of, inside_worker, is_async
from flare_async.model import FLModel, ParamsType
from flare_async.transfer.pool import SlotPool
from flare_async.transfer.tensors import TensorSet
from tests.jobs import user_code

MODEL = TensorSet.from_params({"w": np.arange(4, dtype=np.float32), "n": np.array(3)})
INFO = SiteInfo(name="site-2", index=1, num_sites=4, job_id="job", seed=7, round_number=2)


def task_of(train=user_code.numpy_step, tensors=MODEL, framework="numpy"):
    return TrainTask(Work(train, framework), tensors, INFO)


def concluded(result, pool=None, tensors=MODEL):
    return conclude(task_of(tensors=tensors), result, pool or SlotPool())


def fresh(**changes):
    params = {"w": np.ones(4, np.float32), "n": np.array(4)}
    return FLModel(params={**params, **changes})


def array_of(tensors, name="w"):
    return tensors.numpy()[name]


def test_user_code_receives_a_writable_copy_and_the_facts_of_the_round():
    """What a train function does to its params reaches nobody else."""
    model, site = prepare(task_of(), SlotPool(), {})
    model.params["w"] += 1
    assert array_of(MODEL).tolist() == [0, 1, 2, 3]
    assert (model.current_round, model.params_type) == (2, ParamsType.FULL)
    assert (site.name, site.index, site.num_sites, site.seed) == ("site-2", 1, 4, 7)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "returned None, return an FLModel"),
        ({"w": 1}, "returned dict, return an FLModel"),
        (FLModel(metrics={"a": 1}), "no params"),
        (FLModel(params={"w": np.ones(4, np.float32)}), "'n' is missing"),
        (fresh(v=np.ones(1)), "'v' is unexpected"),
        (fresh(w=np.ones(5, np.float32)), "'w' is F32[5], not F32[4]"),
        (fresh(n=np.array(4.0)), "'n' is F64[], not I64[]"),
        (fresh(n=np.array(4, np.int32)), "'n' is I32[], not I64[]"),
        (fresh(w=np.array(["a"] * 4)), "'w'"),
        (fresh(w=[1, 2, 3, 4]), "'w'"),
        (FLModel(params=fresh().params, metrics={"loss": "low"}), "metric 'loss' is str"),
        (FLModel(params=fresh().params, metrics={"loss": np.ones(2)}), "metric 'loss' is ndarray"),
        (FLModel(params=fresh().params, metrics={3: 1.0}), "metrics key 3 is int"),
        (FLModel(params=fresh().params, meta={"steps": [1]}), "meta 'steps' is list"),
        (FLModel(params=fresh().params, meta={"steps": 2**63}), "meta 'steps' is int"),
    ],
)
def test_an_unusable_result_is_refused_with_its_reason(result, words):
    """The message says what was returned and names the key."""
    with pytest.raises(TrainingFailed) as caught:
        concluded(result)
    assert caught.value.site == "site-2"
    assert words in caught.value.problem


def test_only_the_first_five_differences_are_listed():
    """A model of another architecture must not fill the log."""
    strange = FLModel(params={f"layer{number}": np.ones(1) for number in range(100)})
    with pytest.raises(TrainingFailed) as caught:
        concluded(strange)
    assert caught.value.problem.count("'") == 10


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "evaluate returned NoneType"),
        ({}, "evaluate returned dict"),
        (FLModel(), "evaluate returned FLModel"),
        ({"loss": "low"}, "metric 'loss' is str"),
    ],
)
def test_an_evaluation_without_metrics_is_refused(result, words):
    """A mapping of numbers, or a model that has one."""
    task = TrainTask(Work(user_code.raising), MODEL, INFO, kind="validate")
    with pytest.raises(TrainingFailed, match=words):
        conclude(task, result, SlotPool())
    with pytest.raises(TrainingFailed, match="without evaluate="):
        call(task, *prepare(task, SlotPool(), {}))


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_a_float_of_another_width_is_cast_to_the_models(kind):
    """NumPy computes in float64 unless told otherwise."""
    outcome = concluded(fresh(w=np.full(4, 0.5, kind)))
    assert outcome.tensors.specs == MODEL.specs
    assert array_of(outcome.tensors).tolist() == [0.5] * 4


def test_the_result_comes_in_the_order_of_the_received_model():
    """User code may build its dict in any order."""
    params = fresh().params
    outcome = concluded(FLModel(params=dict(reversed(params.items()))))
    assert list(outcome.tensors) == ["w", "n"]


def test_metrics_and_meta_become_plain_values():
    """Whatever float() accepts is a metric, whatever has one item is metadata."""
    torch = pytest.importorskip("torch")
    loss = torch.tensor(0.5, requires_grad=True)
    metrics = {"loss": loss, "accuracy": np.float32(0.25), "one": np.ones(1), "hit": True}
    model = FLModel(params=fresh().params, metrics=metrics, meta={"steps": np.int64(3)})
    outcome = concluded(model)
    assert outcome.metrics == {"loss": 0.5, "accuracy": 0.25, "one": 1.0, "hit": 1.0}
    assert all(type(value) is float for value in outcome.metrics.values())
    assert (outcome.meta, type(outcome.meta["steps"])) == ({"steps": 3}, int)


def test_a_difference_keeps_its_type():
    """DIFF is checked like FULL and stays DIFF."""
    model, site = prepare(task_of(), SlotPool(), {})
    outcome = concluded(call(task_of(user_code.difference), model, site))
    assert outcome.params_type is ParamsType.DIFF


def test_a_fresh_array_is_taken_without_a_copy():
    """What nobody else refers to needs no copy."""
    model = fresh()
    address = model.params["w"].ctypes.data
    outcome = concluded(model)
    assert array_of(outcome.tensors).ctypes.data == address


def test_a_view_of_a_fresh_array_is_taken_without_a_copy():
    """Reshaping, as flattening helpers do, does not cost a copy."""
    model = fresh(w=np.ones((2, 2), np.float32).reshape(4))
    address = model.params["w"].ctypes.data
    outcome = concluded(model)
    assert array_of(outcome.tensors).ctypes.data == address


def test_an_update_in_the_slots_own_memory_is_copied():
    """The next site that trains in the slot would overwrite it."""
    pool = SlotPool()
    model, _ = prepare(task_of(), pool, {})
    model.params["w"] += 1
    outcome = concluded(model, pool)
    prepare(task_of(), pool, {})
    assert array_of(outcome.tensors).tolist() == [1, 2, 3, 4]
    assert not any(pool.owns(value) for value in outcome.tensors.numpy().values())


def test_an_array_that_user_code_keeps_is_copied():
    """The next round changes it in place while the server still sums the former one."""
    state = {"w": np.zeros(4, np.float32)}
    outcome = concluded(fresh(w=state["w"]))
    view = concluded(fresh(w=state["w"][:]))
    state["w"] += 1
    assert array_of(outcome.tensors).tolist() == array_of(view.tensors).tolist() == [0] * 4


def test_a_live_torch_state_is_copied():
    """A state_dict shares the module's memory, also through numpy()."""
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(2, 2, bias=False)
    received = TensorSet.from_params(net.state_dict())
    before = net.weight.tolist()
    outcomes = [
        concluded(FLModel(params=net.state_dict()), tensors=received),
        concluded(FLModel(params={"weight": net.weight.detach().numpy()}), tensors=received),
    ]
    with torch.no_grad():
        net.weight.add_(1)
    assert [array_of(found.tensors, "weight").tolist() for found in outcomes] == [before] * 2


def test_tied_weights_stay_tied():
    """Two names of one tensor travel once, cast or not."""
    tied = np.ones(3, np.float32)
    received = TensorSet.from_params({"a": tied, "b": tied})
    wide = np.full(3, 2.0)
    outcome = concluded(FLModel(params={"b": wide, "a": wide}), tensors=received)
    assert dict(outcome.tensors.aliases) == {"b": "a"}
    assert outcome.tensors.nbytes == 12


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        (user_code.raising, "ValueError: no data"),
        (user_code.exiting, "SystemExit: 4"),
        (lambda: None, "TypeError"),
    ],
)
def test_what_user_code_raises_becomes_a_typed_error(train, problem):
    """The message has the exception, the details its traceback, the error no live frames."""
    model, site = prepare(task_of(), SlotPool(), {})
    with pytest.raises(TrainingFailed) as caught:
        call(task_of(train), model, site)
    assert caught.value.problem.startswith(problem)
    assert caught.value.details.splitlines()[0] == "Traceback (most recent call last):"
    assert caught.value.__context__ is None


def test_a_long_traceback_keeps_its_last_50_lines():
    """The place of the failure stands at the end."""

    def deep(depth):
        return 1 / 0 if depth == 0 else (deep if depth % 2 else deeper)(depth - 1)

    def deeper(depth):
        return deep(depth - 1)

    model, site = prepare(task_of(), SlotPool(), {})
    with pytest.raises(TrainingFailed) as caught:
        call(task_of(lambda model, site: deep(60)), model, site)
    lines = caught.value.details.splitlines()
    assert len(lines) == 50
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_an_exception_whose_text_raises_is_reported_all_the_same():
    """User code may raise anything."""

    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    def train(model, site):
        raise Broken

    with pytest.raises(TrainingFailed, match=r"Broken: <its str\(\) failed>"):
        call(task_of(train), *prepare(task_of(), SlotPool(), {}))


def test_text_that_cannot_travel_is_escaped():
    """A file name that is no UTF-8 has lone surrogates, and stands in many an error."""

    def train(model, site):
        raise ValueError("cannot read \udcff.csv")

    with pytest.raises(TrainingFailed) as caught:
        call(task_of(train), FLModel(), Site(INFO, {}))
    assert caught.value.problem.startswith("ValueError: cannot read \\udcff.csv (at ")
    assert "\\udcff.csv" in caught.value.details.encode().decode()


def test_an_interrupt_passes_through_user_code():
    """Ctrl-C ends the run, not one site."""

    def train(model, site):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(task_of(train), *prepare(task_of(), SlotPool(), {}))


@pytest.mark.asyncio
async def test_a_cancelled_coroutine_is_no_failure_of_user_code():
    """Cancelling belongs to whoever runs the round."""

    async def train():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await finish("site-2", train())


def test_the_sites_generators_depend_on_seed_round_and_site_only():
    """The same facts give the same numbers; another round, site or seed gives others."""
    pytest.importorskip("torch")

    def draw(**changes):
        facts = {"seed": 7, "index": 1, "round_number": 2, **changes}
        site = Site(SiteInfo(name="any", **facts), {})
        return int(site.rng.integers(2**63)), site.torch_rng().initial_seed()

    assert draw() == draw(num_sites=9) == (6628161471680934540, 286225615992988149)
    assert len({draw(), draw(seed=8), draw(index=2), draw(round_number=3)}) == 4


def test_global_generators_are_seeded_and_restored():
    """User code that calls random.random() is reproducible, and its host undisturbed."""
    torch = pytest.importorskip("torch")

    def draw():
        return random.random(), np.random.random(), float(torch.rand(()))

    _, site = prepare(task_of(), SlotPool(), {})
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    host = [draw(), draw()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    found = [draw()]
    with seeded(site):
        inside = draw()
    found.append(draw())
    with seeded(site):
        assert draw() == inside
    assert found == host


def test_torch_computes_with_one_thread_while_anyone_is_inside():
    """Two threads add up in another order; interleaved coroutines must not restore too early."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    single = SingleTorchThread()
    with single:
        with single, seeded(Site(INFO, {})):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_options_arrive_as_a_private_copy_with_lists():
    """An inline site sees what a site in another process would see."""
    config = {"rates": (0.1, 0.2), "name": "a"}
    site = Site(SiteInfo(name="a", config=config), {})
    assert site.config == {"rates": [0.1, 0.2], "name": "a"}
    assert site.config["rates"] is not config["rates"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.float32(1), "config.a=np.float32(1.0): float32 cannot travel"),
        (object, "type cannot travel"),
        (2**63, "64 bits"),
        ({1: 2}, "key must be text"),
        (functools.reduce(lambda inner, _: [inner], range(40), 0), "nested deeper than 32"),
    ],
)
def test_an_option_that_cannot_travel_is_named(value, words):
    """The error names the key at which it stands."""
    with pytest.raises(ConfigError) as caught:
        SiteInfo(name="a", config={"a": value})
    assert words in str(caught.value)
    assert caught.value.field.startswith("config.a")


def test_a_negative_seed_is_refused():
    """Seeds and counts are not negative."""
    with pytest.raises(ConfigError, match=r"site\.seed=-1"):
        SiteInfo(name="a", seed=-1)


def test_state_is_kept_for_each_site_of_each_job_until_forgotten():
    """Two jobs in one process never meet each other's state."""
    states = SiteStates()
    states.of(INFO)["a"] = 1
    assert states.of(INFO) == {"a": 1}
    assert states.of(SiteInfo(name=INFO.name, job_id="other")) == {}
    states.forget(INFO)
    assert states.of(INFO) == {}


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), st.lists))
def test_plain_values_are_copied_as_they_are(value):
    """Scalars and lists of them travel unchanged."""
    assert plain("value", value) == value


def test_code_is_named_by_file_and_qualified_name():
    """A worker finds the function in the file that defines it."""
    reference = code_of(user_code.numpy_step)
    assert (reference.path, reference.qualname) == (user_code.__file__, "numpy_step")
    assert reference.package == "tests.jobs"


def test_a_partial_travels_with_its_arguments():
    """Plain arguments only: they are data, not code."""
    reference = code_of(functools.partial(user_code.scaled, factor=2.0))
    assert (reference.qualname, dict(reference.keywords)) == ("scaled", {"factor": 2.0})


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (lambda model, site: model, "a lambda"),
        (max, "builtin_function_or_method cannot run in another process"),
        (functools.partial(user_code.scaled, factor=np.ones(2)), "train.factor"),
        (functools.partial(user_code.scaled, (1, 2)), "use a list"),
        (functools.wraps(user_code.scaled)(lambda model, site: model), "decorated or redefined"),
    ],
)
def test_code_that_another_process_cannot_find_is_refused(train, words):
    """The error stands before the first worker is started, and says what to do."""
    with pytest.raises(ConfigError, match="train") as caught:
        code_of(train)
    assert words in str(caught.value)


def test_a_function_of_an_interactive_session_is_refused():
    """It has no file; the hint says to write one."""
    space = {"__name__": "__console__"}
    exec("def train(model, site): return model", space)
    with pytest.raises(ConfigError, match=r"interactive session.*top of a \.py file"):
        code_of(space["train"])


def test_work_wants_a_function_and_a_known_framework():
    """Both mistakes are told when the recipe is written, not when it runs."""
    with pytest.raises(ConfigError, match=r"train='client\.py'"):
        Work("client.py")
    with pytest.raises(ConfigError, match="framework='jax'"):
        Work(user_code.numpy_step, "jax")


def test_async_functions_are_told_from_synchronous_ones():
    """Also through a partial and a callable object."""

    class Trainer:
        async def __call__(self, model, site):
            return model

    assert is_async(functools.partial(user_code.async_step))
    assert is_async(Trainer())
    assert not is_async(user_code.numpy_step)
    assert not inside_worker()
