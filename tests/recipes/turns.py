"""Sites that return in an order of the test's choosing, whatever the loop would do."""

from __future__ import annotations

import asyncio


class Turns:
    """A train function around another one: each site waits for the one before it in ``order``."""

    def __init__(self, train, order):
        self.train, self.order, self.arrived = train, order, []
        self._done = {}

    def _event(self, number, index):
        return self._done.setdefault((number, index), asyncio.Event())

    async def __call__(self, model, site):
        """Train when it is the site's turn."""
        number, place = site.round_number, self.order.index(site.index)
        if place:
            await self._event(number, self.order[place - 1]).wait()
        self.arrived.append((number, site.index))
        self._event(number, site.index).set()
        return self.train(model, site)
