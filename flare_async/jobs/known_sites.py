"""A cohort that asks only its own sites: a name that is none of theirs is an error at once."""

from __future__ import annotations

from flare_async.errors import ConfigError
from flare_async.roles.cohort import Cohort
from flare_async.roles.machine import RoundPlan

__all__ = ["KnownSites"]


class KnownSites(Cohort):
    """Refuses a round with sites that do not take part, before anything is sent."""

    def _plan(
        self, sites: tuple[str, ...], quorum: int | None, size: int | None, deadline: float | None
    ) -> RoundPlan:
        own = set(self.sites)
        unknown = [site for site in sites if site not in own]
        if unknown:
            known = ", ".join(self.sites[:5])
            problem = f"not among the {len(self.sites)} of this run"
            raise ConfigError("sites", unknown[:5], problem, f"known: {known}")
        return super()._plan(sites, quorum, size, deadline)
