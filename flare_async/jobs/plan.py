"""The memory equation: what a run will hold at most, computed before it starts.

    base + models + accumulator + staging + links x window + sites

``base`` is what the process holds already. Copies are counted as SUMS.md 3 and 5 have them: the
server holds the global model and the accumulator that becomes the next one, a training slot holds
its private copy, and a result lives until it is in the sum. What is in files is no memory; it is
told beside the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from flare_async.errors import ResourceLimit
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.limits import KIB, MIB, Limits

__all__ = ["Layout", "MemoryPlan", "Part", "lookahead", "plan_memory"]

LOOKAHEAD: Final = 16  # sites that may hold a result and wait for their turn in the sum
SITE_BYTES: Final = 40 * KIB  # two sessions, their tasks and what the history keeps of a site
SPOOL_BUFFERS: Final = 16 * MIB  # on the way between links and the spool, or through a checked sink

Workers = Literal["inline", "thread", "process", "ray"]


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the equation; ``how`` tells the factors."""

    name: str
    nbytes: int
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a federation inside this process is put together.

    ``by_reference`` says that models and results are shared, not copied, between its ends;
    ``relay_bytes`` is the budget of one relay, and ``adding`` says that relays add updates.
    ``trainers`` of the slots are those of scripts in processes of their own.
    """

    sites: int
    slots: int = 1
    workers: Workers = "thread"
    by_reference: bool = True
    relays: int = 0
    relay_bytes: int = 24 * MIB
    adding: bool = False
    trainers: int = 0


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a run needs at most: its parts in bytes, the files beside them, and what it may use."""

    parts: tuple[Part, ...]
    files: tuple[Part, ...] = ()
    allowed: int | None = None

    @property
    def nbytes(self) -> int:
        """The sum of all parts."""
        return sum(part.nbytes for part in self.parts)

    def check(self) -> None:
        """Do nothing when the plan fits ``Limits.memory_bytes``.

        Raises:
            ResourceLimit: it does not; the message has all parts.
        """
        if self.allowed is None or self.nbytes <= self.allowed:
            return
        error = ResourceLimit("memory_bytes", self.nbytes, self.allowed)
        error.hint = self.equation()
        error.args = (f"{error}; {error.hint}",)
        raise error

    def equation(self) -> str:
        """Return the sum in one line."""
        shown = [part for part in self.parts if part.nbytes]
        terms = " + ".join(f"{part.name} {megabytes(part.nbytes)}" for part in shown)
        beside = "".join(f"; {part.name} {megabytes(part.nbytes)}" for part in self.files)
        return f"{megabytes(self.nbytes)} MB = {terms}{beside}"

    def document(self) -> dict[str, object]:
        """Return the plan as plain values, in bytes."""
        return {
            "bytes": self.nbytes,
            "allowed_bytes": self.allowed,
            "parts": {part.name: part.nbytes for part in self.parts},
            "files": {part.name: part.nbytes for part in self.files},
        }


def megabytes(nbytes: int) -> str:
    """Return a size in megabytes, with a digit after the point below ten."""
    value = nbytes / 1e6
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def lookahead(demand: ModelDemand | None, limits: Limits) -> int:
    """Return how many sites may hold a result and wait: few where a result is large.

    As many as fit ``staging_bytes``, at least one and at most ``LOOKAHEAD``.
    """
    if demand is None or not demand.model:
        return LOOKAHEAD
    return max(1, min(LOOKAHEAD, limits.staging_bytes // demand.model))


def plan_memory(base: int, demand: ModelDemand, layout: Layout, limits: Limits) -> MemoryPlan:
    """Return what a run in this process holds at most.

    ``base`` is its resident size before, with the first model where that is resident.
    """
    waiting = min(layout.sites, layout.slots + lookahead(demand, limits))
    waiting = max(waiting, demand.waiting(layout.sites))
    server = _server(demand, layout, limits, waiting)
    # Whoever may be asked again keeps its result until the round is committed.
    kept = layout.sites if layout.adding or demand.staging == "repull" else waiting
    sites = [*_relays(demand, layout, limits), *_sites(demand, layout, kept)]
    spooled = 0
    if demand.staging == "spool" and not layout.by_reference:
        spooled = max(0, waiting * demand.model - limits.staging_bytes)
    return MemoryPlan(
        parts=(Part("base", base), *(part for part in (*server, *sites) if part.nbytes)),
        files=(Part("spool file", spooled),) if spooled else (),
        allowed=limits.memory_bytes,
    )


def _server(demand: ModelDemand, layout: Layout, limits: Limits, waiting: int) -> Sequence[Part]:
    peers = layout.sites + layout.relays
    windows = 0
    if not layout.by_reference:
        windows = min(2 * peers * limits.link_bytes, limits.process_bytes)
    return [
        Part("models", demand.versions * demand.model, f"{demand.versions} x model"),
        *_sums(demand, limits),
        *_combining(demand, layout),
        Part("staging", _staging(demand, layout, limits, waiting)),
        Part("answers", layout.sites * demand.answers, f"{layout.sites} sites x answer"),
        Part("filters", demand.filters),
        Part("windows", windows, f"{2 * peers} ends x {limits.link_bytes}"),
    ]


def _relays(demand: ModelDemand, layout: Layout, limits: Limits) -> Sequence[Part]:
    count = layout.relays
    parts = [Part("relays", count * layout.relay_bytes, f"{count} x budget")]
    if not layout.adding or demand.staging == "repull":  # then relays are never asked to add
        return parts
    each = demand.accumulator + demand.narrowed
    if not layout.by_reference:
        each += demand.model + limits.staging_bytes + SPOOL_BUFFERS
    return [*parts, Part("sums of relays", count * each, f"{count} x what one adds with")]


def _sums(demand: ModelDemand, limits: Limits) -> Sequence[Part]:
    if demand.staging == "spool":
        return [Part("accumulator", demand.accumulator), Part("narrowing", demand.narrowed)]
    group = min(demand.model, max(limits.staging_bytes, demand.largest))
    share = demand.accumulator * group // demand.model if demand.model else 0
    return [
        Part("new model", demand.model),
        Part("accumulator", share, "of one group of tensors"),
        Part("pulled again", group, "one group of tensors"),
    ]


def _combining(demand: ModelDemand, layout: Layout) -> Sequence[Part]:
    count = demand.waiting(layout.sites)
    nbytes = count * demand.per_update
    return [Part("combining", nbytes, f"{count} updates x {demand.per_update}")] if nbytes else []


def _staging(demand: ModelDemand, layout: Layout, limits: Limits, waiting: int) -> int:
    if demand.staging == "repull":
        return SPOOL_BUFFERS
    whole = waiting * demand.model
    if layout.by_reference:
        return 0  # results are counted where they are
    if whole <= limits.staging_bytes:
        return whole
    return limits.staging_bytes + SPOOL_BUFFERS


def _sites(demand: ModelDemand, layout: Layout, kept: int) -> Sequence[Part]:
    slots = min(layout.slots, layout.sites)
    own = min(layout.trainers, slots)
    times = f"{slots} slots x model"
    received = 0 if layout.by_reference else slots * demand.model
    parts = [
        Part("sites", layout.sites * SITE_BYTES, f"{layout.sites} x {SITE_BYTES}"),
        Part("received", received, times),
        Part("slot copies", (slots - own) * demand.model, f"{slots - own} slots x model"),
        Part("results", kept * demand.model, f"{kept} sites x model"),
        Part("filters at slots", slots * demand.slot_filters, f"{slots} slots x what they hold"),
    ]
    if own:
        # What was pulled is in the file that a trainer maps; over memory it is copied there.
        files = own * demand.model if layout.by_reference else 0
        parts.append(Part("trainers' files", files, f"{own} slots x model"))
        parts.append(Part("results in trainers", own * demand.model, f"{own} slots x model"))
    if layout.workers in {"process", "ray"}:
        # The model in a shared file, an update's file and a result in each worker.
        parts.append(Part("shared files", (1 + slots) * demand.model, f"{1 + slots} x model"))
        parts.append(Part("results in workers", slots * demand.model, times))
    return parts
