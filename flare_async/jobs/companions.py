"""Companions: tensors that travel with a model and are no part of it, such as control variates.

User code sees them as dicts of arrays in ``FLModel.meta``: a companion is sent under one key and
answered under another, with the same names, shapes and types. On the wire they are tensors of the
model's set whose names begin with a reserved prefix, so that everything that moves, checks, sums
and relays a model does the same with them. An answer is averaged as whole weights are, whatever the
kind of the update: the difference that a DIFF update needs is made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from flare_async.errors import ConfigError, TrainingFailed
from flare_async.jobs.site import Scalar
from flare_async.model import FLModel, ParamsType
from flare_async.transfer.difference import difference
from flare_async.transfer.layers import flattened, grouped
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = [
    "RESERVED",
    "Companion",
    "answered",
    "companion_names",
    "completed",
    "handed",
    "joined",
    "parted",
    "plain_params",
    "refuse_reserved",
    "sparing",
]

RESERVED: Final = "@meta/"
PLAIN: Final = "@params/"
NO_META: Final[Mapping[str, Scalar]] = MappingProxyType({})
KEY: Final = re.compile(r"[A-Za-z0-9_.-]*")
NAME: Final = re.compile(r"@meta/([A-Za-z0-9_.-]*)>([A-Za-z0-9_.-]*)/(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, order=True)
class Companion:
    """The keys of ``FLModel.meta`` under which sites find it and under which they answer.

    Without ``sent`` sites do not see what was sent, without ``answer`` they answer nothing.

    Raises:
        ConfigError: there is neither, or a key is not made of letters, digits, ".", "_" and "-".
    """

    sent: str = ""
    answer: str = ""

    def __post_init__(self) -> None:
        for name in ("sent", "answer"):
            key = getattr(self, name)
            if not isinstance(key, str) or not KEY.fullmatch(key):
                raise ConfigError(name, key, "use letters, digits, '.', '_' and '-'")
        if not self.sent and not self.answer:
            raise ConfigError("sent", "", "a companion is sent, answered or both")

    def name_of(self, tensor: str) -> str:
        """Return the name under which one of its tensors travels."""
        return f"{RESERVED}{self.sent}>{self.answer}/{tensor}"


def refuse_reserved(field: str, names: Iterable[str]) -> None:
    """Refuse names that companions travel under. Raises ConfigError."""
    for name in names:
        if name.startswith(RESERVED):
            raise ConfigError(field, name, f"tensors may not be named {RESERVED}...")


def joined(model: TensorSet, companions: Mapping[Companion, TensorSet]) -> TensorSet:
    """Return a model with its companions, which share their memory with it.

    Raises:
        ConfigError: the model has a reserved name.
    """
    if not companions:
        return model
    refuse_reserved("model", model)
    specs, views, aliases = list(model.specs), dict(model), dict(model.aliases)
    for companion, tensors in companions.items():
        for spec in tensors.specs:
            name = companion.name_of(spec.name)
            specs.append(TensorSpec(name, spec.dtype, spec.shape))
            views[name] = tensors[spec.name]
        aliases |= {
            companion.name_of(name): companion.name_of(first)
            for name, first in tensors.aliases.items()
        }
    return TensorSet.from_views(specs, views, aliases)


def parted(tensors: TensorSet) -> tuple[TensorSet, dict[Companion, TensorSet]]:
    """Return what ``joined`` was given."""
    names = companion_names(tensors)
    if not names:
        return tensors, {}
    inside = {name for of in names.values() for name in of.values()}
    model = _part(tensors, {name: name for name in tensors if name not in inside})
    return model, {
        companion: _part(tensors, {given: name for name, given in of.items()})
        for companion, of in names.items()
    }


def companion_names(names: Iterable[str]) -> dict[Companion, dict[str, str]]:
    """Return, for each companion among ``names``, its tensors' own names and those on the wire."""
    found: dict[Companion, dict[str, str]] = {}
    for name in names:
        match = NAME.fullmatch(name) if name.startswith(RESERVED) else None
        if match is not None and (match[1] or match[2]):
            found.setdefault(Companion(match[1], match[2]), {})[match[3]] = name
    return found


def plain_params(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return a task's meta that gives sites these values among their params, beside the tensors."""
    return {f"{PLAIN}{name}": value for name, value in values.items()}


def handed(
    params: dict[str, object], meta: Mapping[str, Scalar], *, layered: bool = False
) -> dict[str, object]:
    """Return the meta that user code receives, with companions, which ``params`` is rid of.

    Values that ``plain_params`` has named become params. ``layered`` puts the arrays of a layer
    into one list.
    """
    found: dict[str, object] = {}
    for name, value in meta.items():
        if name.startswith(PLAIN):
            params[name.removeprefix(PLAIN)] = value
        else:
            found[name] = value
    for companion, names in companion_names(params).items():
        arrays = {name: params.pop(given) for name, given in names.items()}
        if companion.sent:
            found[companion.sent] = dict(grouped(arrays)) if layered else arrays
    return found


def answered(
    site: str, model: FLModel, sent: TensorSet, meta: Mapping[str, Scalar] = NO_META
) -> tuple[FLModel, TensorSet]:
    """Return what user code returned with its answers among the params, and what they must be like.

    ``sent`` and ``meta`` are what it got. The second result has names, types and shapes only.

    Raises:
        TrainingFailed: an answer is missing or is no dict of arrays.
    """
    model = _without_plain(model, meta)
    slots = companion_names(spec.name for spec in sent.specs)
    if not slots:
        return model, sent
    params, said = dict(model.params or {}), dict(model.meta)
    for companion, names in slots.items():
        if companion.answer:
            given = _answer(site, companion, said.pop(companion.answer, None))
            params |= {names.get(name, name): array for name, array in given.items()}
        if companion.sent and isinstance(said.get(companion.sent), Mapping):
            del said[companion.sent]  # scripts return the meta that they were given
    unanswered = _unanswered(slots)
    wanted = TensorSet([spec for spec in sent.specs if spec.name not in unanswered], {}, {})
    return replace(model, params=params, meta=said), wanted


def completed(tensors: TensorSet, sent: TensorSet, kind: ParamsType) -> TensorSet:
    """Return a checked update with all that travels: what was not asked for goes back as it came.

    In a difference an answer is the difference to what was sent, so that its mean is the same.
    Of ``sent``, only companions are looked at: the model's bytes may be missing.
    """
    slots = companion_names(spec.name for spec in sent.specs)
    if not slots:
        return tensors
    names = {given: given for of in slots.values() for given in of.values()}
    old, unanswered = _part(sent, names), _unanswered(slots)
    new = {**tensors, **{name: old[name] for name in unanswered}}
    aliases = {**tensors.aliases, **{n: f for n, f in old.aliases.items() if n in unanswered}}
    if kind is ParamsType.DIFF:
        whole = TensorSet.from_views(old.specs, {name: new[name] for name in old})
        new |= difference(whole, old)
        aliases = {name: first for name, first in aliases.items() if name not in names}
    return TensorSet.from_views(sent.specs, new, aliases)


def sparing(pattern: str | None, names: Iterable[str]) -> str | None:
    """Return a pattern that finds what ``pattern`` finds among ``names``, but no companion.

    Raises:
        ConfigError: it is no regular expression.
    """
    among = list(names)
    if pattern is None or not any(name.startswith(RESERVED) for name in among):
        return pattern
    try:
        expression = re.compile(pattern)
    except re.error as exc:
        raise ConfigError("exclude", pattern, f"no regular expression: {exc}") from exc
    found = [name for name in among if not name.startswith(RESERVED) and expression.search(name)]
    return rf"\A(?:{'|'.join(re.escape(name) for name in found)})\Z" if found else None


def _without_plain(model: FLModel, meta: Mapping[str, Scalar]) -> FLModel:
    plain = {name.removeprefix(PLAIN) for name in meta if name.startswith(PLAIN)}
    if not plain or not model.params:
        return model
    kept = {name: value for name, value in model.params.items() if name not in plain}
    return replace(model, params=kept)


def _unanswered(slots: Mapping[Companion, Mapping[str, str]]) -> frozenset[str]:
    return frozenset(
        given for companion, of in slots.items() if not companion.answer for given in of.values()
    )


def _answer(site: str, companion: Companion, given: object) -> Mapping[str, object]:
    if isinstance(given, Mapping):
        return flattened(given)
    problem = "is missing" if given is None else f"is {type(given).__name__}"
    hint = f", like meta[{companion.sent!r}]" if companion.sent else ""
    where = f"meta[{companion.answer!r}]"
    raise TrainingFailed(site, f"{where} {problem}: return a dict of arrays in it{hint}")


def _part(tensors: TensorSet, names: Mapping[str, str]) -> TensorSet:
    """Return some tensors, by the names on the wire, under names of their own."""
    specs = [
        TensorSpec(own, tensors.spec(given).dtype, tensors.spec(given).shape)
        for given, own in names.items()
    ]
    tied = {
        own: names[tensors.aliases[given]]
        for given, own in names.items()
        if tensors.aliases.get(given) in names
    }
    views = {own: tensors[given] for given, own in names.items()}
    return TensorSet.from_views(specs, views, tied)
