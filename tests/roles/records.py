"""Sites that log, and a server that keeps what they logged."""

from __future__ import annotations

import anyio

from flare_async.roles.log_record import LogRecord
from tests.roles.federation import Trains


class Kept:
    """Keeps what it is given; waits ``seconds`` each time."""

    def __init__(self, seconds=0.0):
        self.records, self.lost, self.seconds, self.calls = [], {}, seconds, 0

    async def take(self, site, records, dropped):
        """Keep records and the count of the lost."""
        self.records += records
        self.calls += 1
        self.lost[site] = self.lost.get(site, 0) + dropped
        await anyio.sleep(self.seconds)

    def of(self, site):
        """Return the values of one site in their order of arrival."""
        return [one.record.value for one in self.records if one.site == site]


class Logs(Trains):
    """Logs ``values`` under the key "loss" while it trains."""

    def __init__(self, values, **options):
        super().__init__(**options)
        self.values, self.client = values, None

    async def run(self, task):
        """Log, then work."""
        for value in self.values:
            self.client.log(LogRecord("loss", value, "SCALAR"))
        return await super().run(task)


def connected(made, *names):
    """Let the workers of these sites log over their clients."""
    for name in names:
        made.clients[name]._worker.client = made.clients[name]
