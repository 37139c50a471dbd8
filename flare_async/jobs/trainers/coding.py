"""How messages between a client and a trainer travel.

A message is four bytes of length and a msgpack array: a tag, then the fields. Whatever comes is
checked; it is a message of ours or a ``RemoteProtocolError``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgpack

from flare_async.errors import ConfigError, FlareError, RemoteProtocolError
from flare_async.jobs.scripts.desk import TaskFacts
from flare_async.jobs.site import WORD, Plain, plain
from flare_async.jobs.spawners.checked import is_of, scalars, texts
from flare_async.jobs.trainers.messages import (
    Closing,
    Ended,
    FromTrainer,
    Hello,
    Logged,
    Message,
    Offered,
    Refused,
    Result,
    Seen,
    Taken,
    ToTrainer,
    Welcome,
)
from flare_async.jobs.work import FRAMEWORKS
from flare_async.model import ParamsType
from flare_async.roles.log_record import LogRecord
from flare_async.transfer.spec import TensorSpec, check_layout

__all__ = ["DOWN_BYTES", "LOG_BYTES", "PREFIX", "UP_BYTES", "decode", "encode"]

PREFIX: Final = 4
DOWN_BYTES: Final = 64 * 1024 * 1024  # to a trainer: names and shapes of 100,000 tensors fit
UP_BYTES: Final = 16 * 1024 * 1024  # from a trainer: what aliases and metrics need
LOG_BYTES: Final = 64 * 1024


def encode(message: Message) -> bytes:
    """Return the length and the message.

    Raises:
        ConfigError: it holds what cannot travel.
    """
    if isinstance(message, FromTrainer):
        (tag, fields), most = _up_fields(message), UP_BYTES
    else:
        (tag, fields), most = _down_fields(message), DOWN_BYTES
    try:
        body = bytes(msgpack.packb([tag, *fields], unicode_errors="surrogatepass") or b"")
    except (ValueError, TypeError, OverflowError) as exc:
        raise ConfigError("message", type(message).__name__, f"cannot travel: {exc}") from exc
    if len(body) > most:
        raise ConfigError("message", type(message).__name__, f"has {len(body)} bytes of {most}")
    return len(body).to_bytes(PREFIX, "big") + body


def _up_fields(message: FromTrainer) -> tuple[str, list[object]]:
    match message:
        case Hello(token, rank):
            return "hello", [token, rank]
        case Seen(number):
            return "seen", [number]
        case Result():
            return "result", _result_fields(message)
        case Logged(record, dropped):
            said = [record.key, plain("value", record.value), record.kind, record.step]
            return "logged", [*said, plain("extra", record.extra), dropped]
        case Closing():
            return "closing", []


def _down_fields(message: ToTrainer) -> tuple[str, list[object]]:
    match message:
        case Welcome():
            config = plain("config", message.config)
            kinds = [message.framework, message.transfer.value, message.empties_cache]
            return "welcome", [message.site, message.job, config, *kinds]
        case Offered():
            return "offered", _offered_fields(message)
        case Taken(number):
            return "taken", [number]
        case Refused(number, problem):
            return "refused", [number, problem]
        case Ended():
            return "ended", []


def _offered_fields(message: Offered) -> list[object]:
    facts = message.facts
    return [
        [facts.number, facts.name, facts.round_number, facts.total_rounds, dict(facts.meta)],
        [[spec.name, spec.dtype, list(spec.shape)] for spec in message.specs],
        dict(message.aliases),
        message.trims,
    ]


def _result_fields(message: Result) -> list[object]:
    said = [dict(message.metrics), dict(message.meta), message.seconds, dict(message.aliases)]
    return [message.number, message.params_type.value, *said]


def decode(body: bytes | bytearray) -> Message:
    """Return the message without its length.

    Raises:
        RemoteProtocolError: it is none of ours; nothing else is raised, whatever the bytes.
    """
    try:
        parts = msgpack.unpackb(body, strict_map_key=True, unicode_errors="surrogatepass")
        tag, *fields = is_of(list, parts)
        return READERS[is_of(str, tag)](*fields)
    except (FlareError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as exc:
        problem = f"{len(body)} bytes, {type(exc).__name__}: {exc}"
        raise RemoteProtocolError("trainer_message", problem[:500]) from exc


def _count(value: object) -> int:
    if not 0 <= is_of(int, value) < WORD:
        raise ValueError(f"{value} is no count")
    return is_of(int, value)


def _plains(name: str, value: object) -> dict[str, Plain]:
    return {is_of(str, key): plain(name, item) for key, item in is_of(dict, value).items()}


def _read_welcome(*fields: object) -> Welcome:
    site, job, config, framework, transfer, empties = fields
    if framework not in FRAMEWORKS:
        raise ValueError("unknown framework")
    return Welcome(
        is_of(str, site),
        is_of(str, job),
        _plains("config", config),
        framework,
        ParamsType(is_of(str, transfer)),
        is_of(bool, empties),
    )


def _read_facts(*fields: object) -> TaskFacts:
    number, name, round_number, total, meta = fields
    return TaskFacts(
        _count(number), is_of(str, name), _count(round_number), _count(total), scalars(meta)
    )


def _read_offered(facts: object, specs: object, aliases: object, trims: object) -> Offered:
    named = tuple(TensorSpec.checked(*is_of(list, spec)) for spec in is_of(list, specs))
    tied = texts(aliases)
    check_layout(named, tied)
    return Offered(_read_facts(*is_of(list, facts)), named, tied, is_of(bool, trims))


def _read_result(*fields: object) -> Result:
    number, kind, metrics, meta, seconds, aliases = fields
    numbers = is_of(dict, metrics)
    return Result(
        _count(number),
        ParamsType(is_of(str, kind)),
        {is_of(str, key): is_of(float, value) for key, value in numbers.items()},
        scalars(meta),
        is_of(float, seconds),
        texts(aliases),
    )


def _read_logged(*fields: object) -> Logged:
    key, value, kind, step, extra, dropped = fields
    count = None if step is None else is_of(int, step)
    said = (is_of(str, key), plain("value", value), is_of(str, kind), count)
    return Logged(LogRecord(*said, _plains("extra", extra)), _count(dropped))


READERS: Final[Mapping[str, Callable[..., Message]]] = {
    "hello": lambda token, rank: Hello(is_of(str, token), _count(rank)),
    "welcome": _read_welcome,
    "offered": _read_offered,
    "seen": lambda number: Seen(_count(number)),
    "result": _read_result,
    "taken": lambda number: Taken(_count(number)),
    "refused": lambda number, problem: Refused(_count(number), is_of(str, problem)),
    "ended": Ended,
    "logged": _read_logged,
    "closing": Closing,
}
