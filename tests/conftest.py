"""What every test gets: no leaked task, no blocking call inside a coroutine, virtual time."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import pytest_asyncio
import structlog
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from flare_async.testing.loop import run_sim
from flare_async.testing.story import describe_tasks

T = TypeVar("T")

# Neither may depend on what else the machine does: an example and its making may take any time.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def guarded_loop(request: pytest.FixtureRequest) -> None:
    """Guard the loop of tests that have one; the others pay nothing."""
    if request.node.get_closest_marker("asyncio") is not None:
        request.getfixturevalue("clean_asyncio")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> Iterator[None]:
    """Let child processes hear SIGINT also where a shell has started the tests in the background.

    Such a shell lets them ignore it, and what is ignored stays so in every program that they start.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def same_logging() -> Iterator[None]:
    """Let no test change what others log: command lines configure it for their whole process."""
    before = structlog.get_config()
    yield
    if structlog.get_config() != before:
        structlog.configure(**before)


@pytest_asyncio.fixture
async def clean_asyncio() -> AsyncIterator[None]:
    """Fail a test that blocks the loop from our code or that leaves a task behind."""
    before = asyncio.all_tasks()
    with blockbuster_ctx("flare_async"):
        yield
    await asyncio.sleep(0)  # a transport that was closed may still have its last callback queued
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"{len(left)} tasks are left:\n{describe_tasks(left)}"


@pytest.fixture
def sim() -> Callable[..., Any]:
    """Return ``run_sim``, under which our code must not block either."""

    def run(main: Callable[[], Awaitable[T]], **options: Any) -> T:
        with blockbuster_ctx("flare_async"):
            return run_sim(main, **options)

    return run
