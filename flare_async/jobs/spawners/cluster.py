"""Runs train functions on a Ray cluster: one async actor a CPU, each the host of some sites.

Theory of operation. The coordinator stays one asyncio process, which is Ray's driver; only training
goes elsewhere. A site belongs to a seat, by its number, and a seat to an actor that was placed on a
CPU of its own. A model is put into the object store once, whoever trains on it; the assignment is
the same message that worker processes get, and an update comes back as one array of bytes that the
store keeps until it is committed.

An actor that is gone (its process, or its node) costs the tasks that it had: each is tried again
with the same seeds, on a new actor where a CPU is free and on another seat's actor where none is.
``Site.state`` of its sites starts anew. Ray pickles what its processes say to each other, on
machines that the user has joined to one cluster; that is their trust, and no peer's bytes get there
other than inside arrays and messages that are checked as they are from a worker process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import anyio
import anyio.to_thread
import structlog

from flare_async.errors import (
    ConfigError,
    LocalProtocolError,
    MissingExtra,
    RemoteProtocolError,
    TensorFormatError,
    TrainingFailed,
)
from flare_async.jobs.spawners.answers import assignment_of, done_of, outcome_of
from flare_async.jobs.spawners.messages import PREFIX, Setup, decode, encode
from flare_async.jobs.spawners.shared import from_array, to_array
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.jobs.work import code_of
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from flare_async.jobs.spawners.shared import Bytes

    Reply = tuple[bytes, Bytes | None]

__all__ = ["RaySpawner"]

ATTEMPTS: Final = 3
LAUNCH_TIMEOUT: Final = 60.0  # of an actor; starting one means importing what the user imports
log = structlog.get_logger()


class Lost(Exception):
    """The actor is gone, or its answer is."""


@dataclass(eq=False, slots=True)
class Host:
    """An actor that has answered; ``gone`` once a call has found it dead."""

    actor: ActorHandle[Any]
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A model in the object store; ``number`` tells actors that it is the same as before."""

    tensors: TensorSet
    number: int
    reference: object


class RaySpawner:
    """One actor a CPU of the cluster that this process is, or can be, connected to.

    ``slots`` bounds the actors; None is one for each CPU that the cluster has now.
    """

    def __init__(self, slots: int | None = None) -> None:
        if slots is not None and slots < 1:
            raise ConfigError("slots", slots, "at least one is needed")
        self._wanted = slots
        self._ray: ModuleType = _imported()
        self._connected = False
        self._seats: list[Host | None] = []
        self._hiring = anyio.Lock()
        self._placing = anyio.Lock()
        self._stored: Stored | None = None
        self._turns: list[anyio.Semaphore] = []
        self._closed = False
        self.puts = 0  # models that were put into the object store
        self.hired = 0  # actors that were started
        self.retried = 0  # tasks that were tried again because their actor was gone

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""
        return len(self._seats)

    async def __aenter__(self) -> Self:
        """Connect to the cluster unless this process is connected.

        Waits for Ray, which bounds the wait itself.

        Raises:
            ConfigError: there is no cluster, or it has fewer CPUs than were asked for.
        """
        cpus = await anyio.to_thread.run_sync(self._connect)
        count = cpus if self._wanted is None else self._wanted
        if not 1 <= count <= cpus:
            hint = "join more nodes to it, or lower the number"
            raise ConfigError("num_threads", count, f"the Ray cluster has {cpus} CPUs", hint)
        self._seats = [None] * count
        self._turns = [anyio.Semaphore(1) for _ in range(count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all actors; runs under way fail with LocalProtocolError. Bounded by Ray."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            for host in {host for host in self._seats if host is not None}:
                self._dismiss(host)
            self._stored = None
            if self._connected:
                self._connected = False
                await anyio.to_thread.run_sync(self._ray.shutdown)

    async def run(self, task: TrainTask) -> TrainOutcome:
        """Train once on the site's actor.

        Waits for ever for the seat's turn, then for user code. Cancelling ends the actor.

        Raises:
            TrainingFailed: user code raised, returned no usable model, or three actors were lost.
            ConfigError: another process cannot find the train function, or its arguments or the
                site's options cannot travel.
            LocalProtocolError: the spawner is closed.
        """
        if self._closed or not self._seats:
            raise LocalProtocolError("the spawner is closed: it runs only inside its async with")
        seat = task.site.index % len(self._seats)
        async with self._turns[seat]:
            return await self._train(task, seat)

    async def _train(self, task: TrainTask, seat: int) -> TrainOutcome:
        problem = ""
        for left in reversed(range(ATTEMPTS)):
            try:
                return await self._exchange(task, seat)
            except Lost as lost:
                problem = f"its actor on the Ray cluster is gone: {lost}"
            if self._closed:
                raise LocalProtocolError("the spawner was closed while the site trained")
            self.retried += left > 0
            log.warning("actor_lost", site=task.site.name, problem=problem, tries_left=left)
        raise TrainingFailed(task.site.name, problem)

    async def _exchange(self, task: TrainTask, seat: int) -> TrainOutcome:
        stored = await self._store(task.tensors)
        message = encode(assignment_of(task, code_of(task.function), stored.number))
        host = await self._host(seat)
        try:
            reply = host.actor.train.remote(message, stored.reference)
            body, array = cast("Reply", await self._answer(reply, host))
        except BaseException:
            if not host.gone:
                self._dismiss(host)  # user code is under way, and nothing else ends it
            raise
        return _outcome(task, body, array)

    async def _answer(self, reply: Awaitable[object], host: Host) -> object:
        from ray import exceptions

        try:
            return await reply
        except exceptions.RayTaskError as exc:
            raise LocalProtocolError(f"the actor failed: {exc}") from exc
        except exceptions.RayError as exc:
            host.gone = True
            first = str(exc).strip().splitlines()
            raise Lost(first[0] if first else type(exc).__name__) from exc

    async def _host(self, seat: int) -> Host:
        """Return the seat's actor; where it is gone, a new one or that of another seat.

        Waits for an actor to start, at most ``LAUNCH_TIMEOUT``; one seat at a time.
        """
        host = self._seats[seat]
        if host is not None and not host.gone:
            return host
        async with self._hiring:
            if self._closed:
                raise LocalProtocolError("the spawner was closed while the site trained")
            others = [one for one in self._seats if one is not None and not one.gone]
            host = await self._hire(patient=not others)
            if host is None:
                host = others[seat % len(others)]
            self._seats[seat] = host
            return host

    async def _hire(self, *, patient: bool) -> Host | None:
        """Start an actor; None where no CPU is free, unless there is nobody else to go to."""
        if not patient and await anyio.to_thread.run_sync(self._free_cpus) < 1:
            return None
        setup = encode(Setup(tuple(sys.path), os.environ.get("PYTHONPATH")))
        from flare_async.jobs.spawners.host import SiteHost

        remote = self._ray.remote(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")
        host = Host(remote(SiteHost).remote(setup))
        try:
            with anyio.fail_after(LAUNCH_TIMEOUT):
                await self._answer(host.actor.where.remote(), host)
        except TimeoutError:
            self._dismiss(host)
            if not patient:
                return None
            raise Lost(f"no actor started within {LAUNCH_TIMEOUT:g} s") from None
        except BaseException:
            self._dismiss(host)
            raise
        self.hired += 1
        return host

    async def _store(self, tensors: TensorSet) -> Stored:
        """Return the model's place in the object store; all sites of a round share one model.

        Waits for one copy of the model.
        """
        async with self._placing:
            stored = self._stored
            if stored is None or stored.tensors is not tensors:
                put = partial(_put, self._ray, tensors)
                reference = await anyio.to_thread.run_sync(put)
                self.puts += 1
                stored = self._stored = Stored(tensors, self.puts, reference)
            return stored

    def _connect(self) -> int:
        """Connect, and return how many CPUs the cluster has. Raises ConfigError."""
        if not self._ray.is_initialized():
            try:
                self._ray.init(address="auto", log_to_driver=False, configure_logging=False)
            except ConnectionError as exc:
                hint = "ray start --head, or call ray.init(address=...) before the run"
                raise ConfigError("workers", "ray", f"no Ray cluster: {exc}", hint) from exc
            self._connected = True
        return int(self._ray.cluster_resources().get("CPU", 0))

    def _free_cpus(self) -> float:
        return float(self._ray.available_resources().get("CPU", 0))

    def _dismiss(self, host: Host) -> None:
        host.gone = True
        self._ray.kill(host.actor, no_restart=True)


def _imported() -> ModuleType:
    try:
        import ray
    except ImportError as exc:
        raise MissingExtra("ray", "ray") from exc
    found: ModuleType = ray
    return found


def _put(ray: ModuleType, tensors: TensorSet) -> object:
    put: Callable[[object], object] = ray.put
    return put(to_array(tensors))


def _outcome(task: TrainTask, body: bytes, array: Bytes | None) -> TrainOutcome:
    site = task.site.name
    try:
        done = done_of(task, decode(body[PREFIX:]))
        if (array is None) is (task.kind == "train"):
            raise TrainingFailed(site, "its actor's answer does not fit what it was asked")
        tensors = None
        if array is not None:
            tensors = from_array(array, task.tensors.specs, done.aliases)
    except (RemoteProtocolError, TensorFormatError) as exc:
        raise TrainingFailed(site, f"its actor: {exc}") from exc
    return outcome_of(done, tensors)
