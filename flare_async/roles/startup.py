"""A job's start at its sites: deployed, then begun, each acknowledged before a deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import anyio
import structlog

from flare_async.errors import FlareError, StartFailed, TrainingFailed
from flare_async.net.endpoint import FIRST_WINDOW
from flare_async.net.messages import Messages
from flare_async.roles.acceptor import Acceptor
from flare_async.roles.start_messages import (
    NOTICE_SCHEMA,
    START_SCHEMA,
    START_TOPIC,
    Acknowledged,
    Begin,
    Declined,
    JobNotice,
    StartMessage,
)
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["StartReport", "start_sites"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StartReport:
    """Who has begun, in the order that was asked for, and why the others have not."""

    present: tuple[str, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)


async def start_sites(
    server: Acceptor,
    notice: JobNotice,
    sites: Sequence[str],
    minimum: int,
    required: Sequence[str] = (),
) -> StartReport:
    """Deploy a job at connected ``sites`` and begin it; leave out who is late or cannot.

    Each of the two phases is bounded by ``start_timeout``; no answer in time is a failure like any
    other. After each phase ``minimum`` sites must be left, and all that are ``required``.
    Cancelling, or failing, tells all sites that the job is off.

    Raises:
        StartFailed: too few are left; the log has each site's reason.
    """
    startup = _Startup(server, notice)
    try:
        left = await startup.phase("deployment", tuple(dict.fromkeys(sites)), startup.deploy)
        startup.check(left, minimum, required)
        left = await startup.phase("start", left, startup.begin)
        startup.check(left, minimum, required)
    except BaseException:
        startup.call_off()
        raise
    startup.confirm()
    return StartReport(left, startup.excluded)


class _Startup:
    """The channels of one start, and what has become of them."""

    def __init__(self, server: Acceptor, notice: JobNotice) -> None:
        self._server = server
        self._header = NOTICE_SCHEMA.encode(notice)
        self._channels: dict[str, Messages[StartMessage]] = {}
        self.excluded: dict[str, str] = {}

    async def phase(
        self, name: str, sites: tuple[str, ...], ask: Callable[[str], Awaitable[None]]
    ) -> tuple[str, ...]:
        """Ask all sites at once; return those that have acknowledged in time."""
        done: set[str] = set()
        seconds = self._server.context.limits.start_timeout

        async def one(site: str) -> None:
            try:
                await ask(site)
            except (FlareError, anyio.EndOfStream) as exc:
                self.excluded[site] = f"{name}: {str(exc) or 'ended without an answer'}"
            else:
                done.add(site)

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as group:
                for site in sites:
                    group.start_soon(one, site)
        for site in sites:
            if site not in done:
                self.excluded.setdefault(site, f"{name}: no answer within {seconds:g} s")
                self._give_up(site, f"excluded at {name}")
        late = [site for site in sites if site not in done]
        if late:
            reasons = {site: self.excluded[site] for site in late}
            log.warning("sites_excluded", phase=name, sites=reasons)
        return tuple(site for site in sites if site in done)

    async def deploy(self, site: str) -> None:
        """Open the channel with the job's notice and wait for the site to have it."""
        session = self._server.sites.get(site)
        if session is None:
            was = site in self._server.directory.seen
            raise TrainingFailed(site, "was lost" if was else "never came")
        options = OpenOptions(urgent=True, window=FIRST_WINDOW)
        channel = session.open(START_TOPIC, self._header, options)
        self._channels[site] = Messages(channel, START_SCHEMA)
        await self._acknowledged(site)

    async def begin(self, site: str) -> None:
        """Tell a site to begin and wait until it has; its channel stays until all have."""
        self._channels[site].post(Begin())
        await self._acknowledged(site)

    def check(self, left: Sequence[str], minimum: int, required: Sequence[str]) -> None:
        """Check that those who are left are enough. Raises StartFailed."""
        absent = [site for site in required if site not in left]
        if len(left) < minimum or absent:
            missing = absent or list(self.excluded)
            raise StartFailed(max(minimum, len(required)), left, missing)

    def confirm(self) -> None:
        """End the channels of those who have begun: the job is on."""
        for messages in self._channels.values():
            if messages.channel.is_open:
                messages.channel.end()

    def call_off(self) -> None:
        """Tell everybody that the job is off."""
        for site in list(self._channels):
            self._give_up(site, "the job is off")

    def _give_up(self, site: str, reason: str) -> None:
        messages = self._channels.pop(site, None)
        if messages is not None:
            messages.channel.reset(ResetCode.LATE, reason)

    async def _acknowledged(self, site: str) -> None:
        match await self._channels[site].receive():
            case Acknowledged():
                return
            case Declined(problem):
                raise TrainingFailed(site, problem)
            case Begin():
                raise TrainingFailed(site, "answered with an order")
