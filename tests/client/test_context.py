"""Which context a call belongs to, and what ``init`` refuses."""

from __future__ import annotations

import contextvars
import subprocess
import sys

import pytest

import flare_async.client as flare
from flare_async.client.api import APIContext
from flare_async.client.context import find, init, rank_of
from flare_async.errors import ClientCallError, ClientTypeError
from flare_async.jobs.scripts.seat import SEAT, Seat
from tests.client.desks import ListDesk


def seated(call, *names, rank=0):
    """Call as a script does that has a desk; return what it returns."""

    def inside():
        SEAT.set(Seat(ListDesk(*names, rank=rank)))
        return call()

    return contextvars.Context().run(inside)


def test_a_script_in_a_thread_needs_no_init():
    """The context is made by the first call, and it is the one that init returns."""

    def script():
        assert flare.is_running()
        context = flare.init()
        assert context is find()
        assert flare.receive() is flare.receive(ctx=context)
        return context.rank

    assert seated(script, "train") == 0


def test_a_given_context_comes_before_that_of_the_thread():
    """Two contexts may live in one script."""
    other = APIContext(ListDesk("validate"), 0)
    assert seated(lambda: flare.get_task_name(ctx=other), "train") == "validate"


def test_a_second_init_is_warned_of_once():
    """It changes nothing."""

    def script():
        first = flare.init("0")
        with pytest.warns(UserWarning, match="called before"):
            assert flare.init(rank=0) is first
        assert flare.init() is first
        with pytest.raises(ClientCallError, match="rank 1 after rank 0"):
            flare.init(rank=1)

    seated(script, "train")


def test_a_rank_that_was_given_counts():
    """As text, as launchers have it."""
    assert seated(lambda: flare.init(rank="3", config_file="x.json").rank) == 3


@pytest.mark.parametrize("rank", ["first", -1, "", 1j])
def test_a_rank_that_is_no_number_is_refused(rank):
    """With what was given."""
    with pytest.raises(ClientTypeError, match="rank="):
        seated(lambda: flare.init(rank=rank))


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, 0),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"LOCAL_RANK": "2"}, 2),
        ({"LOCAL_RANK": "2", "NODE_RANK": "0"}, 2),
        ({"RANK": "", "LOCAL_RANK": ""}, 0),
    ],
)
def test_the_rank_comes_from_the_launcher(environ, rank):
    """RANK first; LOCAL_RANK is enough on the first node."""
    assert rank_of(environ) == rank


def test_a_process_of_another_node_is_never_rank_0():
    """There every node has a LOCAL_RANK of 0."""
    assert rank_of({"LOCAL_RANK": "0", "NODE_RANK": "1"}) != 0


def test_outside_of_a_job_the_error_says_how_to_run_a_script():
    """For a call and for init, in a process without trainer and in one with."""
    with pytest.raises(ClientCallError, match=r"train_script=.*ctx="):
        find(environ={})
    with pytest.raises(ClientCallError, match=r"init: .*train_script="):
        init(environ={})
    with pytest.raises(RuntimeError, match=r"call flare\.init\(\) first"):
        find(environ={"FLARE_ASYNC_TRAINER": "socket"})


def test_importing_the_client_loads_no_framework_and_no_network():
    """Every training process pays for it."""
    code = (
        "import sys, flare_async.client; heavy = {'torch', 'aiohttp', 'anyio', 'asyncio', "
        "'structlog', 'rich', 'lightning'} & sys.modules.keys(); print(*heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_the_names_of_nvflare_are_there():
    """Those of section 2.1 of its API, and the two submodules that are imported when used."""
    missing = [name for name in flare.__all__ if name != "lightning" and not hasattr(flare, name)]
    assert missing == []
    with pytest.raises(AttributeError, match="no attribute 'receiv'"):
        _ = flare.receiv
