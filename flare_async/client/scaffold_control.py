"""A site's own control of SCAFFOLD, renewed when the server says that it has counted the update.

The server's control c is the mean of the sites' controls, moved by the changes of the updates that
it counts. An update may be late, refused or lost, and its site not hear of it. So a new control
stays pending, beside the one that the server knows, until the next task that the site gets: its
meta names, for each site that was asked in vain since it was last counted, the round in which that
was. A site that is not named was counted whenever it was asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from flare_async.client.context import find
from flare_async.errors import ClientCallError
from flare_async.model import FLModel

__all__ = ["AlgorithmConstants", "Renewal", "SiteControl", "current_task", "was_counted"]

PENDING: Final = "@pending/"
UNTOLD: Final = (
    "whether the last update was counted is not known: call receive(model, site.name) in the "
    "place of load_global_controls, or call flare.receive() first in a script"
)

V = TypeVar("V")


class AlgorithmConstants:
    """Keys of ``FLModel.meta`` under which controls travel, and what is said of former updates."""

    SCAFFOLD_CTRL_GLOBAL: Final = "scaffold_c_global"
    SCAFFOLD_CTRL_DIFF: Final = "scaffold_c_diff"
    SCAFFOLD_LAST_COUNTED: Final = "scaffold_last_counted"


@dataclass(frozen=True, slots=True)
class Renewal(Generic[V]):
    """A control that counts if the update of that round does."""

    number: int
    value: Mapping[str, V]


class SiteControl(Generic[V]):
    """A site's control by the names of its parts; keep one as long as the job lives.

    Each round: ``begin`` with the task, then ``renew`` with what was computed from it. Made with
    zeros, or by ``from_state`` with what ``state`` gave, where a process ends with its task.
    """

    def __init__(self, value: Mapping[str, V]) -> None:
        self.value: Mapping[str, V] = dict(value)  # what the server's control has of this site
        self.pending: Renewal[V] | None = None
        self._number = -1

    def begin(self, model: FLModel, site: str) -> Mapping[str, V]:
        """Return the site's control as the server knows it, for the round of a received model.

        A task that comes once more has the update of that round not counted.

        Raises:
            ValueError: the model is of no round, or what it says of updates is no JSON.
        """
        number = model.current_round
        if number is None:
            raise ValueError("current_round is None: give the model as it was received")
        pending, self.pending, self._number = self.pending, None, number
        if pending and pending.number != number and was_counted(model, site, pending.number):
            self.value = pending.value
        return self.value

    def renew(self, value: Mapping[str, V]) -> None:
        """Take the control that is the site's if this round's update is counted."""
        self.pending = Renewal(self._number, dict(value))

    def begin_script(self) -> None:
        """Do what ``begin`` does with the current task of the script that calls.

        Raises:
            ValueError: there is none, and an update may have been counted or not.
        """
        task = current_task()
        if task is not None:
            self.begin(*task)
        elif self.pending is not None:
            raise ValueError(UNTOLD)

    def state(self) -> dict[str, V]:
        """Return both controls by names that ``from_state`` knows; the values are not copied."""
        found = dict(self.value)
        if self.pending is not None:
            start = f"{PENDING}{self.pending.number}/"
            found |= {start + name: value for name, value in self.pending.value.items()}
        return found

    @classmethod
    def from_state(cls, state: Mapping[str, V]) -> SiteControl[V]:
        """Return the control that ``state`` is of. Raises ValueError if it is of none."""
        made = cls({name: v for name, v in state.items() if not name.startswith(PENDING)})
        pending: dict[str, V] = {}
        for name in state.keys() - made.value.keys():
            number, _, inner = name.removeprefix(PENDING).partition("/")
            made._number, pending[inner] = int(number), state[name]
        if pending:
            made.renew({name: pending[name] for name in made.value if name in pending})
        return made

    def taking(self, state: Mapping[str, V], like: Callable[[V, V], V]) -> SiteControl[V]:
        """Return the control that a state is of; ``like`` makes a value as one of ours is.

        Raises:
            ValueError: it is that of another model.
        """
        given = self.from_state(state)
        found, known = shapes_of(given.value), shapes_of(self.value)
        if found != known:
            raise ValueError(f"{len(found)} controls of another model, {len(known)} here")
        kept = {n: like(v, self.value[n.rpartition("/")[2]]) for n, v in given.state().items()}
        return self.from_state(kept)


def shapes_of(values: Mapping[str, object]) -> dict[str, object]:
    """Return the shapes of arrays or tensors; other values have none."""
    return {name: getattr(value, "shape", None) for name, value in values.items()}


def was_counted(model: FLModel, site: str, number: int) -> bool:
    """Return whether the server's control has a site's update of a round, as a later task says.

    Raises:
        TypeError: what the task says is no JSON object.
        ValueError: it is no JSON.
    """
    told = model.meta.get(AlgorithmConstants.SCAFFOLD_LAST_COUNTED)
    rounds = json.loads(told) if isinstance(told, str) else {}
    if not isinstance(rounds, dict):
        raise TypeError(f"meta[{AlgorithmConstants.SCAFFOLD_LAST_COUNTED!r}] is no object")
    return bool(rounds.get(site, number) == number)


def current_task() -> tuple[FLModel, str] | None:
    """Return the model that the calling script has received, and its site; None if no script calls.

    Does not wait.
    """
    try:
        context = find()
    except ClientCallError:
        return None
    model = context.receive(timeout=0)
    return None if model is None else (model, context.get_site_name())
