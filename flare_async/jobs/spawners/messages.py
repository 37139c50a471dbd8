"""What a process spawner and its worker say to each other, beside the tensors.

A message is four bytes of length and a msgpack array: a tag and the fields in order. A worker runs
user code, so the parent believes nothing: every field is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgpack

from flare_async.errors import ConfigError, FlareError, RemoteProtocolError
from flare_async.jobs.records.travel import packed_records, read_records
from flare_async.jobs.site import Plain, Scalar, SiteInfo, plain
from flare_async.jobs.spawners.checked import is_of, scalars, texts
from flare_async.jobs.training import TaskKind
from flare_async.jobs.work import FRAMEWORKS, CodeReference, Framework
from flare_async.model import ParamsType
from flare_async.roles.log_record import LogRecord
from flare_async.transfer.spec import TensorSpec, check_layout

__all__ = [
    "MAX_MESSAGE",
    "PREFIX",
    "Assignment",
    "Done",
    "Failed",
    "Message",
    "Setup",
    "decode",
    "encode",
]

PREFIX: Final = 4
MAX_MESSAGE: Final = 64 * 1024 * 1024  # names and shapes of 100,000 tensors fit ten times

SITE_FIELDS: Final = (
    "name",
    "index",
    "num_sites",
    "job_id",
    "seed",
    "round_number",
    "total_rounds",
)


@dataclass(frozen=True, slots=True)
class Setup:
    """The parent's import path, so that the worker finds what the user's file imports."""

    path: tuple[str, ...]
    pythonpath: str | None  # the variable as the parent has it


@dataclass(frozen=True, slots=True)
class Assignment:
    """One training; descriptors of the model's and the update's file travel with it.

    ``model`` numbers the model's file: the same number is the same content.
    """

    code: CodeReference
    framework: Framework
    site: SiteInfo
    meta: Mapping[str, Scalar]
    model: int
    specs: tuple[TensorSpec, ...]
    aliases: Mapping[str, str]
    kind: TaskKind = "train"
    trims: bool = False  # gives memory back when it has answered


@dataclass(frozen=True, slots=True)
class Done:
    """The update is in its file, laid out for the model's specs and these aliases.

    ``records`` are what the site has tracked meanwhile.
    """

    params_type: ParamsType
    metrics: Mapping[str, float]
    meta: Mapping[str, Scalar]
    seconds: float
    aliases: Mapping[str, str]
    records: tuple[LogRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """User code raised or returned no usable model; the fields are TrainingFailed's."""

    problem: str
    details: str
    records: tuple[LogRecord, ...] = ()


Message = Setup | Assignment | Done | Failed


def encode(message: Message) -> bytes:
    """Return the length and the message.

    Raises:
        ConfigError: it holds what cannot travel.
    """
    tag, fields = _fields_of(message)
    try:
        body = bytes(msgpack.packb([tag, *fields], unicode_errors="surrogatepass") or b"")
    except (ValueError, TypeError, OverflowError) as exc:
        raise ConfigError("message", type(message).__name__, f"cannot travel: {exc}") from exc
    if len(body) > MAX_MESSAGE:
        raise ConfigError("message", type(message).__name__, f"has {len(body)} bytes")
    return len(body).to_bytes(PREFIX, "big") + body


def _fields_of(message: Message) -> tuple[str, list[object]]:
    match message:
        case Setup():
            return "setup", [list(message.path), message.pythonpath]
        case Assignment():
            return "train", _assignment_fields(message)
        case Done():
            kind = message.params_type.value
            parts = (dict(message.metrics), dict(message.meta), message.seconds)
            return "done", [kind, *parts, dict(message.aliases), packed_records(message.records)]
        case Failed():
            records = packed_records(message.records)
            return "failed", [message.problem, message.details, records]


def _assignment_fields(message: Assignment) -> list[object]:
    code, site = message.code, message.site
    return [
        [code.path, code.qualname, code.package, list(code.args), dict(code.keywords)],
        message.framework,
        [getattr(site, name) for name in SITE_FIELDS] + [plain("config", site.config)],
        dict(message.meta),
        message.model,
        [[spec.name, spec.dtype, list(spec.shape)] for spec in message.specs],
        dict(message.aliases),
        message.kind,
        message.trims,
    ]


def decode(body: bytes | bytearray) -> Message:
    """Return the message without its length.

    Raises:
        RemoteProtocolError: it is none of ours; nothing else is raised, whatever the bytes.
    """
    try:
        parts = msgpack.unpackb(body, strict_map_key=True, unicode_errors="surrogatepass")
        tag, *fields = is_of(list, parts)
        read = READERS[is_of(str, tag)]
        return read(fields)
    except (FlareError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as exc:
        problem = f"{len(body)} bytes, {type(exc).__name__}: {exc}"
        raise RemoteProtocolError("worker_message", problem[:500]) from exc


def _plains(value: object) -> dict[str, Plain]:
    return {is_of(str, key): plain("config", item) for key, item in is_of(dict, value).items()}


def _read_setup(fields: Sequence[object]) -> Setup:
    path, pythonpath = fields
    return Setup(
        path=tuple(is_of(str, entry) for entry in is_of(list, path)),
        pythonpath=None if pythonpath is None else is_of(str, pythonpath),
    )


def _read_assignment(fields: Sequence[object]) -> Assignment:
    code, framework, site, meta, model, specs, aliases, kind, trims = fields
    named = [TensorSpec.checked(*is_of(list, spec)) for spec in is_of(list, specs)]
    tied = texts(aliases)
    check_layout(named, tied)
    if framework not in FRAMEWORKS:
        raise ValueError("unknown framework")
    if kind not in {"train", "validate"}:
        raise ValueError("unknown kind of task")
    return Assignment(
        _read_code(*is_of(list, code)),
        framework,
        _read_site(*is_of(list, site)),
        scalars(meta),
        is_of(int, model),
        tuple(named),
        tied,
        "validate" if kind == "validate" else "train",
        is_of(bool, trims),
    )


def _read_code(
    path: object, qualname: object, package: object, args: object, keywords: object
) -> CodeReference:
    return CodeReference(
        path=is_of(str, path),
        qualname=is_of(str, qualname),
        package=is_of(str, package),
        args=tuple(plain("args", value) for value in is_of(list, args)),
        keywords=_plains(keywords),
    )


def _read_site(*fields: object) -> SiteInfo:
    name, index, num_sites, job_id, seed, round_number, total_rounds, config = fields
    return SiteInfo(
        name=is_of(str, name),
        index=is_of(int, index),
        num_sites=is_of(int, num_sites),
        job_id=is_of(str, job_id),
        seed=is_of(int, seed),
        round_number=is_of(int, round_number),
        total_rounds=is_of(int, total_rounds),
        config=_plains(config),
    )


def _read_done(fields: Sequence[object]) -> Done:
    kind, metrics, meta, seconds, aliases, records = fields
    numbers = is_of(dict, metrics)
    return Done(
        params_type=ParamsType(is_of(str, kind)),
        metrics={is_of(str, key): is_of(float, value) for key, value in numbers.items()},
        meta=scalars(meta),
        seconds=is_of(float, seconds),
        aliases=texts(aliases),
        records=read_records(records),
    )


def _read_failed(fields: Sequence[object]) -> Failed:
    problem, details, records = fields
    return Failed(is_of(str, problem), is_of(str, details), read_records(records))


READERS: Final[Mapping[str, Callable[[Sequence[object]], Message]]] = {
    "setup": _read_setup,
    "train": _read_assignment,
    "done": _read_done,
    "failed": _read_failed,
}
