"""``optimizer_args`` and ``lr_scheduler_args``: which optimizer and which schedule a recipe means.

Both are ``{"class_path" or "path": ..., "args": {...}}``. A path without dots, or one of ours, is
an optimizer or schedule in NumPy; any other is PyTorch's. Text ``"{num_rounds}"`` among the
arguments stands for the number of rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar, cast

from flare_async.errors import ConfigError
from flare_async.recipes.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    Schedule,
    StepDecay,
)
from flare_async.recipes.server_optimizers import SGD, Adagrad, Adam, OptimizerRule, Yogi
from flare_async.recipes.server_step import RuleStep, ServerStep
from flare_async.transfer.tensors import TensorSet

__all__ = ["OptimizerChoice"]

Config: TypeAlias = Mapping[str, object]
Made = TypeVar("Made")
RULES: Final[Mapping[str, Callable[..., OptimizerRule]]] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "adam": Adam,
    "yogi": Yogi,
}
SCHEDULES: Final[Mapping[str, Callable[..., Schedule]]] = {
    "constant": Constant,
    "cosinedecay": CosineDecay,
    "exponentialdecay": ExponentialDecay,
    "stepdecay": StepDecay,
}
OURS: Final = ("flare_async.recipes.server_optimizers.", "flare_async.recipes.schedules.")
KEYS: Final = frozenset({"class_path", "path", "args", "config_type"})


@dataclass(frozen=True, slots=True)
class OptimizerChoice:
    """What ``optimizer_args`` and ``lr_scheduler_args`` say, checked.

    ``rule`` is None where the optimizer is PyTorch's.

    Raises:
        ConfigError: they describe nothing that can be made.
    """

    optimizer: Config | OptimizerRule | None
    scheduler: Config | Schedule | None
    num_rounds: int
    device: str | None = None

    @property
    def rule(self) -> OptimizerRule | None:
        """The NumPy rule, or None."""
        given = self.optimizer
        if given is None:
            return SGD()
        if not isinstance(given, Mapping):
            return _own("optimizer_args", given, ("lr", "slots", "step"))
        make = RULES.get(_short(_path("optimizer_args", given)))
        return None if make is None else _make("optimizer_args", make, self._args(given))

    def started(self, model: TensorSet, names: Sequence[str]) -> ServerStep:
        """Return an optimizer without any state yet, for the tensors ``names``.

        Raises:
            ConfigError: PyTorch has no such optimizer or scheduler, or refuses its arguments.
            MissingExtra: torch is needed and not installed.
        """
        rule = self.rule
        if rule is not None:
            return RuleStep(rule, self._schedule(rule.lr), names)
        from flare_async.recipes.torch_step import TorchStep  # only who asks for it loads torch

        given = cast("Config", self.optimizer)
        config = {**given, "args": self._args(given)}
        return TorchStep(config, self._schedule, model, names, self.device)

    def _schedule(self, rate: float) -> Schedule:
        given = self.scheduler
        if given is None:
            return Constant()
        if not isinstance(given, Mapping):
            return _own("lr_scheduler_args", given, ("factor",))
        make = SCHEDULES.get(_short(_path("lr_scheduler_args", given)))
        if make is not None:
            return _make("lr_scheduler_args", make, self._args(given))
        from flare_async.recipes.torch_step import TorchSchedule

        return TorchSchedule({**given, "args": self._args(given)}, rate)

    def _args(self, config: Config) -> Mapping[str, object]:
        args = config.get("args") or {}
        if not isinstance(args, Mapping):
            raise ConfigError("args", args, "a dict is needed")
        return {key: _filled(value, self.num_rounds) for key, value in args.items()}


def _own(field: str, given: Made, names: Sequence[str]) -> Made:
    """Return an object of the user's that has what is needed. Raises ConfigError."""
    lacking = [name for name in names if not hasattr(given, name)]
    if lacking or isinstance(given, type):
        problem = f"has no {', '.join(lacking)}" if lacking else "is a class"
        shown = getattr(given, "__name__", type(given).__name__)
        raise ConfigError(field, shown, problem, 'give {"class_path": ..., "args": {...}}')
    return given


def _path(field: str, config: Config) -> str:
    unknown = sorted(set(config) - KEYS)
    if unknown:
        raise ConfigError(field, unknown[0], f"is no key: use {', '.join(sorted(KEYS))}")
    path = config.get("class_path") or config.get("path")
    if not isinstance(path, str):
        raise ConfigError(f"{field}.class_path", path, "is not 'package.Class' and no known name")
    return path


def _short(path: str) -> str:
    """Return the name by which our tables have it; a path of somebody else's stays as it is."""
    for prefix in OURS:
        path = path.removeprefix(prefix)
    return path.lower() if "." not in path else path


def _make(field: str, make: Callable[..., Made], args: Mapping[str, object]) -> Made:
    try:
        return make(**args)
    except TypeError as exc:
        raise ConfigError(f"{field}.args", dict(args), str(exc)) from exc


def _filled(value: object, num_rounds: int) -> object:
    """Return ``value`` with the number of rounds in place of its name."""
    if value == "{num_rounds}":
        return num_rounds
    if isinstance(value, list | tuple):
        return [_filled(item, num_rounds) for item in value]
    return value
