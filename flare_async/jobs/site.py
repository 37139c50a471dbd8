"""What a training function sees of the place where it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np

from flare_async.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    import torch

    from flare_async.roles.log_record import LogRecord

__all__ = ["FILES", "Plain", "Scalar", "Site", "SiteInfo", "SiteStates", "plain"]

Scalar: TypeAlias = str | int | float | bool | None
Plain: TypeAlias = Scalar | Sequence["Plain"] | Mapping[str, "Plain"]

MAX_DEPTH: Final = 32
FILES: Final = "flare_async.files"  # among a site's options: paths of files by their names
WORD: Final = 2**63  # integers travel in 64 bits


def plain(field_name: str, value: object, depth: int = MAX_DEPTH) -> Plain:
    """Return a copy of ``value`` made of dicts, lists and scalars only, so that it can travel.

    Raises:
        ConfigError: a part of it is of another type, too large, or nested too deeply.
    """
    if depth == 0:
        raise ConfigError(field_name, "...", f"nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        if not -WORD <= value < WORD:
            raise ConfigError(field_name, value, "does not fit into 64 bits")
        return value
    if isinstance(value, Mapping):
        return {
            _key(field_name, key): plain(f"{field_name}.{key}", item, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain(f"{field_name}[{at}]", item, depth - 1) for at, item in enumerate(value)]
    raise ConfigError(
        field_name,
        value,
        f"{type(value).__name__} cannot travel",
        "use None, bool, int, float, str, and lists and dicts of them",
    )


def _key(field_name: str, key: object) -> str:
    if not isinstance(key, str):
        raise ConfigError(field_name, key, "a key must be text")
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteInfo:
    """The facts of one site in one round; they can travel to another process.

    ``index`` and ``round_number`` count from 0; ``seed`` is the run's.

    Raises:
        ConfigError: a number is out of range, or ``config`` holds what cannot travel.
    """

    name: str
    index: int = 0
    num_sites: int = 1
    job_id: str = ""
    seed: int = 0
    round_number: int = 0
    total_rounds: int = 1
    config: Mapping[str, Plain] = field(default_factory=dict)

    def at(self, job_id: str, round_number: int, total_rounds: int) -> Self:
        """Return the same site in a round of a job."""
        return type(self)(
            name=self.name,
            index=self.index,
            num_sites=self.num_sites,
            job_id=job_id,
            seed=self.seed,
            round_number=round_number,
            total_rounds=total_rounds,
            config=self.config,
        )

    def __post_init__(self) -> None:
        numbers = (self.index, self.num_sites, self.seed, self.round_number, self.total_rounds)
        for number in numbers:
            if type(number) is not int or not 0 <= number < WORD:
                self._check_numbers()
        if self.config != {}:
            plain("config", self.config)

    def _check_numbers(self) -> None:
        for name in ("index", "num_sites", "seed", "round_number", "total_rounds"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < WORD:
                raise ConfigError(f"site.{name}", value, "an integer from 0 to 2**63 - 1 is needed")


class Site:
    """Where and when a training function runs; a new object a round, ``state`` stays.

    ``rng`` and ``torch_rng()`` depend on the run's seed, the round and the site only: they give the
    same numbers inline, in a thread and in a process, whatever else runs.
    """

    __slots__ = ("_config", "_record", "_rng", "_torch_rng", "info", "state")

    def __init__(
        self,
        info: SiteInfo,
        state: dict[str, object],
        record: Callable[[LogRecord], None] | None = None,
    ) -> None:
        self.info = info
        self.state = state
        self._record = record
        self._config: Mapping[str, Plain] | None = None
        self._rng: np.random.Generator | None = None
        self._torch_rng: torch.Generator | None = None

    def __repr__(self) -> str:
        return f"Site({self.name!r}, round {self.round_number} of {self.total_rounds})"

    @property
    def name(self) -> str:
        """The site's name."""
        return self.info.name

    @property
    def index(self) -> int:
        """The site's place in the job's list of sites, from 0."""
        return self.info.index

    @property
    def num_sites(self) -> int:
        """How many sites the job has."""
        return self.info.num_sites

    @property
    def job_id(self) -> str:
        """The job's identifier."""
        return self.info.job_id

    @property
    def seed(self) -> int:
        """The run's seed, the same at every site; ``rng`` is what differs."""
        return self.info.seed

    @property
    def round_number(self) -> int:
        """The current round, from 0."""
        return self.info.round_number

    @property
    def total_rounds(self) -> int:
        """How many rounds the job has."""
        return self.info.total_rounds

    @property
    def config(self) -> Mapping[str, Plain]:
        """This site's options: a private copy, tuples become lists."""
        if self._config is None:
            self._config = {
                key: plain(f"config.{key}", value)
                for key, value in self.info.config.items()
                if key != FILES
            }
        return self._config

    def file(self, name: str) -> Path:
        """Return where this site has a file that ``recipe.add_client_file`` was given.

        Raises:
            ConfigError: it has none of that name; the hint says which there are.
        """
        from flare_async.jobs.added_files import path_of  # few functions have files

        return path_of(self.info.config, name)

    @property
    def rng(self) -> np.random.Generator:
        """This round's generator; the same object at every use."""
        if self._rng is None:
            self._rng = np.random.Generator(np.random.PCG64(self.seed_sequence(0)))
        return self._rng

    def torch_rng(self) -> torch.Generator:
        """Return this round's torch generator; the same object at every call.

        Raises:
            MissingExtra: torch is not installed.
        """
        if self._torch_rng is None:
            try:
                import torch
            except ImportError as exc:
                raise MissingExtra("torch", "torch") from exc
            words = self.seed_sequence(1).generate_state(1, np.uint64)
            self._torch_rng = torch.Generator().manual_seed(int(words[0]))
        return self._torch_rng

    def seed_sequence(self, stream: int) -> np.random.SeedSequence:
        """Return the entropy of one stream: 0 is ``rng``, 1 torch, 2 the global generators."""
        info = self.info
        # The words of SeedSequence(seed, spawn_key=(round, index, stream)), which takes three times
        # as long: four of the seed, then those of the key.
        words = [*_words(info.seed, 4), *_words(info.round_number), *_words(info.index), stream]
        return np.random.SeedSequence(np.array(words, np.uint32))

    def log(self, **fields: Scalar) -> None:
        """Write one log event with these fields, marked with site, job and round.

        It stays where it is written; numbers for the server's trackers are for ``track``.
        """
        import structlog  # a quarter of a worker's start, and few train functions log

        logger = structlog.get_logger("flare_async.site")
        logger.info(
            "site_log",
            **{**fields, "site": self.name, "job": self.job_id, "round": self.round_number},
        )

    def track(self, key: str, value: object, step: int | None = None) -> None:
        """Send a number to the run's metrics and trackers; returns at once.

        ``value`` is whatever ``float()`` takes. Outside of a run it is only checked.

        Raises:
            ConfigError: key, value or step cannot be used; the error names the key.
        """
        from flare_async.jobs.records.values import make_record  # few functions track

        record = make_record(key, value, "METRIC", step=step)
        if self._record is not None:
            self._record(record)


def _words(number: int, least: int = 1) -> list[int]:
    """Return a number below 2**63 as words of 32 bits, the lowest first."""
    words = [number] if number <= 0xFFFFFFFF else [number & 0xFFFFFFFF, number >> 32]
    return words + [0] * (least - len(words))


class SiteStates:
    """The ``Site.state`` of each site of each job, kept from round to round."""

    __slots__ = ("_states",)

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], dict[str, object]] = {}

    def of(self, info: SiteInfo) -> dict[str, object]:
        """Return the site's state; empty in its first round."""
        return self._states.setdefault((info.job_id, info.name), {})

    def forget(self, info: SiteInfo) -> None:
        """Let the site start anew, for instance while abandoned code still holds the old state."""
        self._states.pop((info.job_id, info.name), None)
