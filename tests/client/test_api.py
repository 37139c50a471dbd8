"""The calls of a script, at a desk that is a list: what they return, release and refuse."""

from __future__ import annotations

import decimal

import numpy as np
import pytest

from flare_async.client import AnalyticsDataType, FLModel
from flare_async.client.api import APIContext
from flare_async.errors import (
    ClientCallError,
    ClientTypeError,
    ConfigError,
    FlareError,
    TrainingFailed,
)
from tests.client.desks import ListDesk


def context_of(*names, rank=0, **options):
    """Return a context at a desk with these tasks."""
    return APIContext(ListDesk(*names, rank=rank, **options), rank)


def test_a_loop_sees_every_task_once_and_ends_with_the_job():
    """The order of calls that every script has."""
    context, seen = context_of("train", "train", "validate"), []
    while context.is_running():
        seen.append((context.get_task_name(), context.receive().current_round))
        context.send(FLModel(metrics={"a": 1}))
    assert seen == [("train", 0), ("train", 1), ("validate", 2)]
    assert (context.is_running(), context.receive(), context.has_ended) == (False, None, True)


def test_the_same_model_is_returned_until_it_is_sent():
    """The copy is made once a task."""
    context = context_of("train", "train")
    first = context.receive()
    assert context.is_running()
    assert context.is_running()
    assert context.receive() is first
    context.send(FLModel(params={"w": np.zeros(2)}))
    assert context.receive() is not first
    assert context.desk.taken == 2


def test_after_a_send_both_models_let_go_of_their_params():
    """A script that keeps the records does not keep the memory."""
    context = context_of("train")
    received, sent = context.receive(), FLModel(params={"w": np.ones(2)}, optimizer_params={"m": 1})
    context.send(sent)
    assert (received.params, sent.params, sent.optimizer_params) == (None, None, None)
    assert context.desk.results[0].params["w"].tolist() == [1, 1]


def test_without_clear_cache_both_models_stay_until_the_next_task():
    """The loop still goes on: the next task has a model of its own."""
    context = context_of("train", "train")
    received, sent = context.receive(), FLModel(params={"w": np.ones(2)})
    context.send(sent, clear_cache=False)
    assert context.receive() is received
    assert sent.params["w"].tolist() == [1, 1]
    assert context.is_running()
    assert received.params is None
    assert context.receive().current_round == 1


def test_a_refused_result_keeps_its_params_and_the_task():
    """Another one may be sent."""
    context = context_of("train")
    received, wrong = context.receive(), FLModel(params={"v": np.ones(2)})
    with pytest.raises(TrainingFailed, match="no w"):
        context.send(wrong)
    assert list(wrong.params) == ["v"]
    assert context.receive() is received
    context.send(received)
    assert len(context.desk.results) == 1


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [
        ({"w": 1}, TypeError, "an FLModel is needed, got dict"),
        (None, TypeError, "got NoneType"),
        (FLModel(), RuntimeError, "neither params nor metrics"),
        (FLModel(params={}), RuntimeError, "neither params nor metrics"),
    ],
)
def test_what_is_no_result_is_refused_as_nvflare_does(model, kind, message):
    """Both kinds are FlareErrors as well."""
    context = context_of("train")
    context.receive()
    with pytest.raises(kind, match=message) as caught:
        context.send(model)
    assert isinstance(caught.value, FlareError)


def test_sending_without_receiving_or_twice_says_what_to_do():
    """Nothing is handed in."""
    context = context_of("train")
    with pytest.raises(RuntimeError, match=r"call receive\(\) before send\(\)"):
        context.send(FLModel(metrics={"a": 1}))
    context.receive()
    context.send(FLModel(metrics={"a": 1}))
    with pytest.raises(ClientCallError, match="result of train in round 0 was sent already"):
        context.send(FLModel(metrics={"a": 1}))
    assert len(context.desk.results) == 1


def test_a_receive_that_times_out_returns_none_and_loses_nothing():
    """As NVFlare documents it; there the timeout is ignored."""
    context = context_of("train", late=[1])
    assert context.receive(timeout=0.1) is None
    assert not context.has_ended
    assert context.receive(timeout=0.1).current_round == 0


def test_receive_without_a_copy_gives_read_only_arrays():
    """The desk is asked for views."""
    assert not context_of("train").receive(copy=False).params["w"].flags.writeable


def test_the_names_and_options_of_the_site():
    """Options are a copy of their own."""
    context = context_of("train")
    assert context.system_info() == {"job_id": "job-7", "site_name": "site-1"}
    assert (context.get_site_name(), context.get_job_id()) == ("site-1", "job-7")
    config = context.get_config()
    config["sizes"].append(3)
    assert context.get_config() == {"rate": 0.5, "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("train", (True, False, False)),
        ("validate", (False, True, False)),
        ("submit_model", (False, False, True)),
    ],
)
def test_a_task_tells_what_it_is_for_until_the_next_one_begins(name, flags):
    """Asking waits for the first task; after the send the answer stays."""
    context = context_of(name)
    asked = [context.is_train, context.is_evaluate, context.is_submit_model]
    assert tuple(ask() for ask in asked) == flags
    context.receive()
    context.send(FLModel(metrics={"a": 1}))
    assert context.get_task_name() == name


def test_asking_for_a_task_after_the_end_is_an_error():
    """No call waits for what cannot come."""
    with pytest.raises(ClientCallError, match="the job has ended"):
        context_of().get_task_name()


def test_other_ranks_are_told_of_each_task_and_of_the_end():
    """``receive`` gives nothing and ``send`` does nothing there."""
    context, rounds = context_of("train", "train", "validate", rank=1), 0
    while context.is_running():
        assert context.receive() is None
        context.send(FLModel(params={"w": np.ones(2)}))
        rounds += 1
    assert (rounds, context.desk.results, context.desk.taken) == (3, [], 0)


@pytest.mark.parametrize("name", ["get_task_name", "is_train", "is_evaluate", "is_submit_model"])
def test_on_other_ranks_what_only_rank_0_knows_is_an_error(name):
    """A ``RuntimeError``, as in NVFlare, that says what to do."""
    with pytest.raises(RuntimeError, match=f"{name}: works on rank 0 only, this is rank 2"):
        getattr(context_of("train", rank=2), name)()
    with pytest.raises(RuntimeError, match="broadcast"):
        context_of("train", rank=2).log("loss", 1, AnalyticsDataType.SCALAR)


@pytest.mark.parametrize("value", [np.float32(0.5), decimal.Decimal("0.5"), np.array(0.5), 0.5])
def test_a_metric_may_be_whatever_float_takes(value):
    """np.float32 is what scripts compute."""
    context = context_of("train")
    assert context.log("loss", value, AnalyticsDataType.SCALAR, global_step=3)
    (record,) = context.desk.records
    assert (record.key, record.value, record.step) == ("loss", 0.5, 3)


def test_a_metric_that_is_no_number_is_refused_with_its_key():
    """Nothing is dropped in silence."""
    context = context_of("train")
    with pytest.raises(ConfigError, match="loss"):
        context.log("loss", object(), AnalyticsDataType.METRIC)
    assert context.desk.records == []


def test_a_context_is_shut_down_at_the_end_of_its_block():
    """Afterwards nothing waits; a send is refused."""
    with context_of("train", "train") as context:
        received = context.receive()
    assert received.params is None
    assert context.desk.closed == 1
    assert (context.is_running(), context.receive()) == (False, None)
    with pytest.raises(ClientCallError, match="shut down"):
        context.send(FLModel(metrics={"a": 1}))


def test_clear_lets_go_of_the_received_model():
    """The task goes on; its model cannot be had again from a desk, which gives it once."""
    context = context_of("train")
    received = context.receive()
    context.clear()
    assert received.params is None


def test_a_type_error_is_a_client_call_error():
    """One except clause is enough."""
    assert issubclass(ClientTypeError, ClientCallError)
    assert issubclass(ClientCallError, RuntimeError)
