"""The spawners of a run: one for functions, one for scripts in threads, one for trainers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from flare_async.jobs.spawners import InlineSpawner, ProcessSpawner, ThreadSpawner
from flare_async.jobs.spawners.gate import Gate
from flare_async.jobs.work import Work
from flare_async.limits import Limits

if TYPE_CHECKING:
    from flare_async.jobs.scripts.threads import ScriptThreads
    from flare_async.jobs.spawners.cluster import RaySpawner
    from flare_async.jobs.trainers.spawner import TrainerProcesses

__all__ = ["AnySpawner", "Crew", "Member", "kind_of"]

Workers: TypeAlias = Literal["inline", "thread", "process", "ray"]
Kind: TypeAlias = Literal["function", "script", "trainer"]
BREATH_SECONDS: Final = 0.01  # nobody waits for this process's loop so impatiently
SEATED: Final = ("process", "ray")  # a site's number says which worker it has
KINDS: Final[tuple[Kind, ...]] = ("function", "script", "trainer")
AnySpawner: TypeAlias = (
    "InlineSpawner | ThreadSpawner | ProcessSpawner | RaySpawner | ScriptThreads | TrainerProcesses"
)


@dataclass(frozen=True, slots=True)
class Member:
    """A spawner, and what bounds how many of its tasks hold a model at once."""

    spawner: AnySpawner
    gate: Gate


def kind_of(work: Work) -> Kind:
    """Return which spawner a site's work needs."""
    if work.script is None:
        return "function"
    return "trainer" if work.script.external else "script"


class Crew:
    """Opens the spawners that the sites' works need, and closes them with its block."""

    def __init__(
        self,
        works: Mapping[str, Work],
        workers: Workers,
        num_threads: int | None,
        limits: Limits,
    ) -> None:
        self._works = works
        self._workers = workers
        self._slots = num_threads
        self._limits = limits
        self._stack = AsyncExitStack()
        self._members: dict[Kind, Member] = {}
        self._seats: list[Member] = []  # of functions in other processes: one worker each
        self._index = {site: index for index, site in enumerate(works)}

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        kinds = {kind_of(work) for work in self._works.values()}
        kind: Kind
        for kind in KINDS:
            if kind in kinds:
                spawner = self._spawner(kind)
                await self._stack.enter_async_context(spawner)
                self._members[kind] = Member(spawner, Gate(spawner.slots))
                if kind == "function" and self._workers in SEATED:
                    gates = (Gate(1) for _ in range(spawner.slots))
                    self._seats = [Member(spawner, gate) for gate in gates]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def slots(self) -> int:
        """How many tasks may run at once, in all spawners together."""
        return sum(member.spawner.slots for member in self._members.values())

    @property
    def trainers(self) -> int:
        """How many of them are those of scripts in processes of their own."""
        member = self._members.get("trainer")
        return 0 if member is None else member.spawner.slots

    def of(self, site: str) -> Member:
        """Return the spawner of a site.

        Where a site's worker is always the same one, it waits for that one alone: in one line for
        all workers, who waits for a busy one would keep others from an idle one.
        """
        kind = kind_of(self._works[site])
        if kind == "function" and self._seats:
            return self._seats[self._index[site] % len(self._seats)]
        return self._members[kind]

    async def end_scripts(self) -> None:
        """Let scripts find that the job has ended, while what they log last can still be taken.

        Bounded as the spawners' ``aclose`` is.
        """
        for kind, member in self._members.items():
            if kind != "function" and not isinstance(member.spawner, InlineSpawner):
                await member.spawner.aclose()

    def _spawner(self, kind: Kind) -> AnySpawner:
        if kind == "function":
            return self._for_functions()
        if kind == "script":
            from flare_async.jobs.scripts.threads import ScriptThreads

            return ScriptThreads(self._slots or 1, self._limits)
        from flare_async.jobs.trainers.spawner import TrainerProcesses

        return TrainerProcesses(self._slots, limits=self._limits)

    def _for_functions(self) -> AnySpawner:
        match self._workers:
            case "inline":
                return InlineSpawner(self._slots or 1, breath=BREATH_SECONDS)
            case "thread":
                return ThreadSpawner(self._slots or 1)
            case "ray":
                from flare_async.jobs.spawners.cluster import RaySpawner

                return RaySpawner(self._slots)
            case _:
                return ProcessSpawner(self._slots, shutdown_timeout=0.5)
