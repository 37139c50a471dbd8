"""Every exception of flare_async, each with the numbers that explain it.

The tree (``code`` is stable and appears in ``--json`` documents)::

    FlareError
    +-- ConfigError                 a value the caller gave cannot be used (exit 2)
    |   +-- ConfigErrors            several arguments of one call cannot be used
    |   +-- LimitsError             several limits contradict each other
    |   +-- MissingExtra            an optional dependency is not installed
    |   +-- UnknownArgument         a name that no argument has
    |   +-- WorkspaceError          a folder or file cannot be used
    +-- LinkError                   no connection, or a broken one (exit 3)
    |   +-- ConnectFailed
    |   +-- HandshakeFailed
    |   |   +-- HandshakeRefused    ... and trying again is of no use
    |   +-- LinkLost
    |   |   +-- Dismissed           the peer ended the session and said why
    |   |   +-- SessionGone         the peer does not know the session (any more)
    |   +-- SendStalled             a link accepted no byte for ``send_timeout`` (exit 4)
    +-- ProtocolError               a frame or message breaks the protocol (exit 8)
    |   +-- LocalProtocolError      ... and it was ours: a bug of the caller
    |   +-- RemoteProtocolError     ... and it was the peer's
    +-- ChannelError
    |   +-- ChannelReset            one side gave the channel up, with a code
    |   +-- BelowMinRate            the peer moves, but slower than ``min_rate``
    |   +-- AckStalled              acknowledgements did not advance (exit 4)
    +-- TransferError
    |   +-- TensorFormatError       a manifest or a tensor that is not what it says (exit 8)
    |   +-- DigestMismatch          bytes that arrived are not those that were sent (exit 8)
    |   +-- OfferGone               the offer's block has ended
    |   +-- OfferNotFound           no such offer, or not for this peer
    |   +-- SourceLost              a result was accepted and its source went before it was here
    +-- UpdateRefused               a site's update failed admission
    +-- TrainingFailed              user code at a site raised, or returned no model
    |   +-- TrainerExited           a trainer process ended with a status
    |   +-- TrainerSignalled        ... by a signal
    |   +-- TrainerOutOfMemory      ... because memory ran out
    |   +-- TrainerNoResult         ... well, but without a result
    |   +-- TrainerIdle             a trainer process did nothing for ``trainer_idle_timeout``
    +-- ScriptStopped               a training script's job was aborted, or its client is gone
    +-- ClientCallError             a function of flare_async.client was called out of place
    |   +-- ClientTypeError         ... or with a value of the wrong type
    +-- StartFailed                 too few sites came in time (exit 4)
    +-- QuorumNotReached            a round ended without enough updates (exit 6)
    +-- ResourceLimit               a budget in bytes or counts would be exceeded (exit 7)
    +-- RunFailed                   a run ended without its result (exit 1)
    +-- RunAborted                  somebody ended the run (exit 5)
    +-- SimDeadlock                 a simulated program waits for nothing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

__all__ = [
    "AckStalled",
    "BelowMinRate",
    "ChannelError",
    "ChannelReset",
    "ClientCallError",
    "ClientTypeError",
    "ConfigError",
    "ConfigErrors",
    "ConnectFailed",
    "DigestMismatch",
    "Dismissed",
    "FlareError",
    "HandshakeFailed",
    "HandshakeRefused",
    "LimitsError",
    "LinkError",
    "LinkLost",
    "LocalProtocolError",
    "MissingExtra",
    "OfferGone",
    "OfferNotFound",
    "ProtocolError",
    "QuorumNotReached",
    "RemoteProtocolError",
    "ResourceLimit",
    "RunAborted",
    "RunFailed",
    "ScriptStopped",
    "SendStalled",
    "SessionGone",
    "SimDeadlock",
    "SourceLost",
    "StartFailed",
    "TensorFormatError",
    "TrainerExited",
    "TrainerIdle",
    "TrainerNoResult",
    "TrainerOutOfMemory",
    "TrainerSignalled",
    "TrainingFailed",
    "TransferError",
    "UnknownArgument",
    "UpdateRefused",
    "WorkspaceError",
]


class FlareError(Exception):
    """Root of all errors raised on purpose; anything else is a bug or user code."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    hint: str = ""


class ConfigError(FlareError):
    """A value that the caller gave cannot be used.

    Attributes: ``field`` (dotted name), ``value`` (as given), ``hint`` (what to do).
    """

    code = "config"
    exit_status = 2

    def __init__(self, field: str, value: object, problem: str, hint: str = "") -> None:
        text = f"{field}={value!r}: {problem}"
        super().__init__(f"{text}; {hint}" if hint else text)
        self.field = field
        self.value = value
        self.hint = hint


class ConfigErrors(ConfigError):
    """Several arguments of one call cannot be used; ``problems`` are their errors.

    ``field`` and ``value`` are those of the first, ``where`` is the call's file and line.
    """

    def __init__(self, owner: str, problems: Sequence[ConfigError], where: str = "") -> None:
        listed = "".join(f"\n  {problem}" for problem in problems)
        place = f", {where}" if where else ""
        super().__init__(problems[0].field, problems[0].value, "")
        self.args = (f"{len(problems)} arguments of {owner} cannot be used{place}:{listed}",)
        self.problems = tuple(problems)
        self.where = where


class UnknownArgument(ConfigError, TypeError):
    """A class has no argument of that name; ``near`` is the one that was probably meant."""

    def __init__(
        self, owner: str, name: str, value: object, near: str = "", hint: str = ""
    ) -> None:
        super().__init__(name, value, "", f"did you mean {near}?" if near else hint)
        # Without the value: it may be a secret, or a model.
        self.args = (f"{owner} has no argument {name!r}" + (self.hint and f"; {self.hint}"),)
        self.near = near


class LimitsError(ConfigError):
    """Limits that contradict themselves; ``problems`` lists every contradiction."""

    code = "limits"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("limits", len(problems), "contradictory: " + "; ".join(problems))
        self.problems = tuple(problems)


class MissingExtra(ConfigError):
    """An optional dependency is absent; the hint is the command that installs it."""

    code = "missing_extra"

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            "extra", extra, f"{package} is not installed", f"pip install 'flare-async[{extra}]'"
        )
        self.package = package
        self.extra = extra


class WorkspaceError(ConfigError):
    """A folder or file cannot be read or written."""

    code = "workspace"


class LinkError(FlareError):
    """A connection could not be made or is broken; ``peer`` says to whom."""

    code = "link"
    exit_status = 3

    def __init__(self, peer: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{peer}: {problem}" + (f"; {hint}" if hint else ""))
        self.peer = peer
        self.hint = hint


class ConnectFailed(LinkError):
    """No connection to an address."""

    code = "connect"


class HandshakeFailed(LinkError):
    """The peer answered, but not with a valid hello in time."""

    code = "handshake"


class HandshakeRefused(HandshakeFailed):
    """One side does not want this session; trying again is of no use."""

    code = "handshake_refused"


class LinkLost(LinkError):
    """An established connection ended without a goodbye."""

    code = "link_lost"


class Dismissed(LinkLost):
    """The peer ended the session on purpose; its reason is in the message."""

    code = "dismissed"


class SessionGone(LinkLost):
    """The peer does not know the session that lost its link: it restarted, or waited too long."""

    code = "session_gone"


class SendStalled(LinkError):
    """A link accepted no byte for ``idle`` seconds while ``pending`` bytes waited."""

    code = "send_stalled"
    exit_status = 4

    def __init__(self, peer: str, idle: float, pending: int) -> None:
        super().__init__(peer, f"accepted no byte for {idle:.1f} s, {pending} bytes wait")
        self.idle = idle
        self.pending = pending


class ProtocolError(FlareError):
    """A frame or message that breaks the protocol."""

    code = "protocol"
    exit_status = 8


class LocalProtocolError(ProtocolError):
    """This side was asked to do what the protocol forbids."""

    code = "local_protocol"


class RemoteProtocolError(ProtocolError):
    """The peer did what the protocol forbids; the link is closed.

    ``reason`` is a short stable word that is sent to the peer; the message is for our log only.
    """

    code = "remote_protocol"

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class ChannelError(FlareError):
    """A channel cannot go on; ``peer`` and ``topic`` say which."""

    code = "channel"

    def __init__(self, peer: str, topic: str, problem: str) -> None:
        super().__init__(f"{peer} {topic}: {problem}")
        self.peer = peer
        self.topic = topic


class ChannelReset(ChannelError):
    """One side gave the channel up; ``reset_code`` is the numeric reason."""

    code = "channel_reset"

    def __init__(self, peer: str, topic: str, reset_code: int, message: str) -> None:
        super().__init__(peer, topic, f"reset with code {reset_code} ({message})")
        self.reset_code = reset_code
        self.message = message


class BelowMinRate(ChannelError):
    """The peer moves, but slower than ``min_rate``; ``rate`` is in bytes a second."""

    code = "below_min_rate"
    exit_status = 4

    def __init__(self, peer: str, topic: str, rate: float, least: int, seconds: float) -> None:
        super().__init__(
            peer,
            topic,
            f"below min_rate: {rate:.0f} bytes a second over {seconds:.0f} s, "
            f"at least {least} are asked for",
        )
        self.rate = rate
        self.least = least


class AckStalled(ChannelError):
    """No progress on a channel for ``idle`` seconds; ``sent`` and ``acknowledged`` are bytes."""

    code = "ack_stalled"
    exit_status = 4

    def __init__(self, peer: str, topic: str, sent: int, acknowledged: int, idle: float) -> None:
        super().__init__(
            peer,
            topic,
            f"no progress for {idle:.1f} s, {acknowledged} of {sent} bytes acknowledged",
        )
        self.sent = sent
        self.acknowledged = acknowledged
        self.idle = idle


class TransferError(FlareError):
    """Tensors could not be transferred."""

    code = "transfer"


class TensorFormatError(TransferError):
    """A manifest or tensor whose bytes are not what they claim to be."""

    code = "tensor_format"
    exit_status = 8


class DigestMismatch(TransferError):
    """What arrived is not what was sent, after every re-pull."""

    code = "digest"
    exit_status = 8

    def __init__(self, peer: str, tensor: str, nbytes: int) -> None:
        super().__init__(f"{peer}: tensor {tensor!r} ({nbytes} bytes) has another digest than sent")
        self.peer = peer
        self.tensor = tensor
        self.nbytes = nbytes


class OfferGone(TransferError):
    """The offer's block has ended."""

    code = "offer_gone"


class OfferNotFound(TransferError):
    """No such offer for this peer; says nothing about other peers' offers."""

    code = "offer_not_found"


class SourceLost(TransferError):
    """A site's result was accepted, and its source went with ``got`` of ``total`` bytes here.

    ``task`` says which; the cause, if known, is ``__cause__``.
    """

    code = "result_source_lost"

    def __init__(self, site: str, task: str, got: int, total: int, problem: str) -> None:
        super().__init__(
            f"{site}: the result of {task} lost its source, {got} of {total} bytes came: {problem}"
        )
        self.site = site
        self.task = task
        self.got = got
        self.total = total


class UpdateRefused(FlareError):
    """A site's update failed admission and has touched nothing."""

    code = "update_refused"

    def __init__(self, site: str, problem: str, tensor: str | None = None) -> None:
        where = f", tensor {tensor!r}" if tensor is not None else ""
        super().__init__(f"{site}{where}: {problem}")
        self.site = site
        self.problem = problem
        self.tensor = tensor


class TrainingFailed(FlareError):
    """User code at a site raised or returned no usable model; ``details`` is its traceback."""

    code = "training_failed"

    def __init__(self, site: str, problem: str, details: str = "") -> None:
        super().__init__(f"{site}: {problem}")
        self.site = site
        self.problem = problem
        self.details = details


class TrainerExited(TrainingFailed):
    """A trainer process ended with a status during a task; ``details`` ends its output."""

    code = "trainer_exit"


class TrainerSignalled(TrainingFailed):
    """A trainer process was ended by a signal that was not ours."""

    code = "trainer_signal"


class TrainerOutOfMemory(TrainingFailed):
    """A trainer process was ended because memory ran out."""

    code = "trainer_out_of_memory"


class TrainerNoResult(TrainingFailed):
    """A trainer process ended well, but without a result for its task."""

    code = "trainer_no_result"


class TrainerIdle(TrainingFailed):
    """A trainer process did nothing for ``trainer_idle_timeout`` and was ended."""

    code = "trainer_idle"


class ScriptStopped(FlareError, RuntimeError):
    """The job of a training script was aborted, or its client is gone: the script should end."""

    code = "script_stopped"
    exit_status = 5


class ClientCallError(FlareError, RuntimeError):
    """A function of ``flare_async.client`` was called where it cannot work; says what to do."""

    code = "client_call"
    exit_status = 2


class ClientTypeError(ClientCallError, TypeError):
    """A function of ``flare_async.client`` was given a value of the wrong type."""

    code = "client_type"


class StartFailed(FlareError):
    """Too few sites came within ``start_timeout``; ``missing`` names the absent ones."""

    code = "start"
    exit_status = 4

    def __init__(self, needed: int, present: Sequence[str], missing: Sequence[str]) -> None:
        absent = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        super().__init__(f"{len(present)} of {needed} sites came; missing: {absent or 'unknown'}")
        self.needed = needed
        self.present = tuple(present)
        self.missing = tuple(missing)


class QuorumNotReached(FlareError):
    """A round ended with ``arrived`` updates where ``quorum`` were needed.

    ``problem`` says it in other words, where there are no rounds.
    """

    code = "quorum"
    exit_status = 6

    def __init__(
        self,
        round_number: int,
        arrived: int,
        quorum: int,
        failures: Mapping[str, str],
        *,
        problem: str | None = None,
    ) -> None:
        shown = [f"{site}: {why}" for site, why in list(failures.items())[:5]]
        more = f" (and {len(failures) - 5} more)" if len(failures) > 5 else ""
        reasons = ("; failed: " + "; ".join(shown) + more) if shown else ""
        said = f"round {round_number}: {arrived} updates arrived, quorum is {quorum}"
        super().__init__((problem or said) + reasons)
        self.round_number = round_number
        self.arrived = arrived
        self.quorum = quorum
        self.failures = dict(failures)


class ResourceLimit(FlareError):
    """A budget would be exceeded; ``limit`` names the field of ``Limits``."""

    code = "resource_limit"
    exit_status = 7

    def __init__(self, limit: str, needed: int, allowed: int) -> None:
        super().__init__(f"{limit}: {needed} needed, {allowed} allowed")
        self.limit = limit
        self.needed = needed
        self.allowed = allowed


class RunFailed(FlareError):
    """A run ended without its result; ``folder`` holds what was reached, ``__cause__`` why."""

    code = "run_failed"

    def __init__(self, run_id: str, problem: str, folder: str) -> None:
        super().__init__(f"run {run_id} failed: {problem}; what was reached is in {folder}")
        self.run_id = run_id
        self.folder = folder


class RunAborted(FlareError):
    """Somebody ended the run; ``folder`` holds what was reached."""

    code = "run_aborted"
    exit_status = 5

    def __init__(self, run_id: str, folder: str) -> None:
        super().__init__(f"run {run_id} was aborted; what was reached is in {folder}")
        self.run_id = run_id
        self.folder = folder


class SimDeadlock(FlareError):
    """Every simulated task waits and nothing is scheduled; the message lists where each waits."""

    code = "sim_deadlock"
    exit_status = 70
