"""One site's update on its way into a relay's sum, and who is told how that goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from flare_async.errors import ChannelReset, FlareError, UpdateRefused
from flare_async.model import ParamsType
from flare_async.roles.outcome import SiteRecord
from flare_async.roles.partial_messages import PARTIAL_TOPIC, Take, Trouble, Untaken
from flare_async.roles.setting import Update
from flare_async.transfer.sums import Share
from flare_async.wire.frames import ResetCode

__all__ = ["Claim", "Holder", "Ledger", "error_of"]


class Holder(Protocol):
    """Who has a site's task, and is told what becomes of the site's update at a relay."""

    @property
    def revoked(self) -> bool:
        """Whether the task was taken back."""

    def keep(self) -> None:
        """Take note that the update will be in the sum."""

    def arrive(self, update: Update) -> SiteRecord:
        """Take note that the sum is admitted; return how the site's part ended."""


class Ledger(Protocol):
    """The round, as far as sums concern it."""

    @property
    def remaining(self) -> float | None:
        """How many seconds the round may still take; None without a deadline."""

    def kept(self, site: str) -> None:
        """Take note that a relay keeps a site's update."""

    def gathered(self, arrived: Mapping[str, tuple[SiteRecord, Update]]) -> None:
        """Take note that these updates are admitted, all at once."""

    def dropped(self, sites: tuple[str, ...]) -> None:
        """Take note that what a relay kept of these sites is lost."""


@dataclass(slots=True, eq=False)
class Claim:
    """One site's update on its way into a sum."""

    take: Take
    update: Update
    holder: Holder
    over: anyio.Event = field(default_factory=anyio.Event)
    kept: bool = False
    arrived: bool = False
    error: FlareError | None = None

    @property
    def share(self) -> Share:
        """What the update is in the sum."""
        return Share(self.take.site, self.take.weight, ParamsType(self.take.params_type))


def error_of(message: Untaken, relay: str) -> FlareError:
    """Return the error that a relay's trouble with an update stands for."""
    if message.trouble == Trouble.REFUSED:
        return UpdateRefused(message.site, message.problem)
    gone = message.trouble == Trouble.GONE
    code = ResetCode.UNREACHABLE if gone else ResetCode.INTERNAL
    return ChannelReset(relay, PARTIAL_TOPIC, code, message.problem)
