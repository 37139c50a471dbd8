"""A federation in virtual time: what a job would cost on a network that one does not have.

``play_virtual(recipe, setting)`` runs the real server, relays, clients and the recipe on a
``SimLoop``, over a network with a profile, a simulated disk and simulated training. A round of an
hour takes a second, and the seed decides everything. ``what_if`` plays a job of which only sizes
count and computes what one asks before a deployment: how long rounds take, what passes through the
server, what it holds, who is late, which quorum and how many relays are best.
"""

from __future__ import annotations

from flare_async.sim.virtual.play import play_virtual
from flare_async.sim.virtual.run import Held, VirtualRun
from flare_async.sim.virtual.setting import VirtualSetting

__all__ = ["Held", "VirtualRun", "VirtualSetting", "play_virtual"]
