"""What user code receives and returns: parameters, metrics, round numbers and free metadata."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, SupportsIndex

__all__ = ["FLModel", "MetaKey", "ModelName", "NPConstants", "ParamsType"]


class ParamsType(StrEnum):
    """What ``FLModel.params`` holds: whole weights, or their change since they were received."""

    FULL = "FULL"
    DIFF = "DIFF"


class MetaKey(StrEnum):
    """Keys of ``FLModel.meta`` that the runtime itself reads or writes."""

    NUM_STEPS_CURRENT_ROUND = "NUM_STEPS_CURRENT_ROUND"
    INITIAL_METRICS = "initial_metrics"
    VALIDATE_TYPE = "validate_type"
    SUBMIT_MODEL_NAME = "submit_model_name"
    SITE_NAME = "site_name"
    JOB_ID = "job_id"


class ModelName(StrEnum):
    """Which of its models a site is asked for, in ``meta[MetaKey.SUBMIT_MODEL_NAME]``."""

    BEST_MODEL = "best_model"
    FINAL_MODEL = "final_model"


class NPConstants:
    """Names that NumPy examples agree on."""

    NUMPY_KEY: Final = "numpy_key"


@dataclass(slots=True, eq=False)
class FLModel:
    """A model on its way between user code and the runtime; a plain mutable record.

    Params without a type are FULL. The runtime hands ``params`` over as a private writable copy
    that lives as long as the training slot; keep a copy of what must outlive it.

    Raises:
        TypeError: params, metrics or meta is no dict, or a round is no integer.
        ValueError: a type is given without params or is unknown, or a round is negative.
    """

    params_type: ParamsType | None = None
    params: dict[str, object] | None = field(default=None, repr=False)
    optimizer_params: dict[str, object] | None = field(default=None, repr=False)
    metrics: dict[str, object] | None = None
    start_round: int | None = 0
    current_round: int | None = None
    total_rounds: int | None = None
    meta: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.params_type is None and self.params is not None:
            self.params_type = ParamsType.FULL
        if _absent(self.meta):
            self.meta = {}
        self.validate()

    def validate(self) -> None:
        """Check every field again, for instance after attributes were assigned.

        Raises:
            TypeError: params, metrics or meta is no dict, or a round is no integer.
            ValueError: a type is given without params or is unknown, or a round is negative.
        """
        if self.params_type is not None:
            if type(self.params_type) is not ParamsType:
                self.params_type = ParamsType(self.params_type)
            if self.params is None:
                raise ValueError(f"params_type={self.params_type}: params are missing")
        # Called for each model on its way: others' values take further calls.
        for value in (self.params, self.metrics, self.meta):
            if value is not None and type(value) is not dict:
                self._check_dicts()
        for number in (self.start_round, self.current_round, self.total_rounds):
            if number is not None and (type(number) is not int or number < 0):
                self._check_rounds()

    def _check_dicts(self) -> None:
        for name in ("params", "metrics", "meta"):
            _check_dict(name, getattr(self, name))

    def _check_rounds(self) -> None:
        for name in ("start_round", "current_round", "total_rounds"):
            _check_round(name, getattr(self, name))


def _absent(value: object) -> bool:
    return value is None  # callers without types may pass meta=None


def _check_dict(name: str, value: object) -> None:
    if value is not None and not isinstance(value, dict):
        raise TypeError(f"{name}: a dict is needed, got {type(value).__name__}")


def _check_round(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name}: an integer is needed, got {value!r}")
    if operator.index(value) < 0:
        raise ValueError(f"{name}={value}: may not be negative")
