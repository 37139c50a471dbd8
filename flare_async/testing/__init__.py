"""Deterministic simulation: the same roles, on simulated ports, in virtual time.

Theory of operation. A program on asyncio makes few choices that its code does not determine: when
a timer fires relative to real work, which of several ready tasks runs first, how long a message or
a disk takes. On a ``SimLoop`` all of them come from one seed. The clock is virtual: an hour of
waiting costs nothing, and a bound of 60 seconds is tested as exactly 60 seconds. Ready task steps
run in a seeded order. Links and stores take seeded times, because a race is found only where an
await has a width. Each use has a random stream of its own, so one more draw in one place leaves the
others as they were.

A run is then a function of the seed. A failure is replayed by its seed; two runs of one seed have
the same ``trace_hash``. What waits for nothing is told by ``SimDeadlock``, with the await site of
every task. What reaches for the real world (sockets, threads, processes) is refused, not simulated
by halves::

    def test_two_roles_agree():
        async def main():
            clock, random = LoopClock(), SeededRandom(7)
            network = SimNetwork(clock, random)
            ...

        run_sim(main, seed=7)

Faults of links are values (``Delay``, ``Cut``, ``HalfOpen`` and so on) for ``SimNetwork`` and
``SimEnv``; ``FaultyLink`` does the same to the frames of any link and ``ToxicProxy`` to the bytes
of real sockets. ``cancel_everywhere`` cancels a piece of code at each of its awaits.

Transports are checked by the conformance kit: ``CHECKS``, each run by ``run_check`` with a maker of
connected links (``link_pair``). ``connected`` gives two sessions over such links, with a
``TappedLink`` on either side that counts what passes and can be held shut.

``flare_async.testing.federation`` plays rounds of a whole federation from one ``Setting``: the real
server, relays and clients on simulated ports, with faults, crashes, partitions and rogues. What it
leaves as evidence is judged by ``flare_async.testing.invariants``; ``testing.scenario`` draws
settings from seeds, ``testing.buggify`` makes unlikely things happen inside the product's code, and
``testing.divergence`` says where a failing run leaves one that passes.

What this cannot find: faults of TLS, of kernel buffers, of real processes, of real threads.
"""

from __future__ import annotations

from flare_async.testing.cancel import Cancellations, cancel_everywhere
from flare_async.testing.conformance import CHECKS, check_name, run_check
from flare_async.testing.disk import SimDisk
from flare_async.testing.faults import (
    Bandwidth,
    Delay,
    Duplicate,
    Fault,
    Freeze,
    HalfOpen,
    OneWayCut,
    Slice,
    SlowReader,
)
from flare_async.testing.faulty import FaultyLink
from flare_async.testing.link import SimLink
from flare_async.testing.loop import SimLoop, run_sim
from flare_async.testing.network import SimListener, SimNetwork, SiteNetwork
from flare_async.testing.pair import Pair, connected, link_pair
from flare_async.testing.plan import FaultPlan
from flare_async.testing.ports import SeededRandom, SimStore
from flare_async.testing.profile import Line, Profile
from flare_async.testing.profile_network import ProfileNetwork
from flare_async.testing.proxy import ToxicProxy
from flare_async.testing.recorder import Recorder
from flare_async.testing.spread import Spread
from flare_async.testing.strikes import BitFlip, Cut, ResetInFrame
from flare_async.testing.tap import TappedLink
from flare_async.testing.task import SimTask
from flare_async.testing.toxics import Toxics
from flare_async.testing.trainer import SimTrainer, TrainerModel

__all__ = [
    "CHECKS",
    "Bandwidth",
    "BitFlip",
    "Cancellations",
    "Cut",
    "Delay",
    "Duplicate",
    "Fault",
    "FaultPlan",
    "FaultyLink",
    "Freeze",
    "HalfOpen",
    "Line",
    "OneWayCut",
    "Pair",
    "Profile",
    "ProfileNetwork",
    "Recorder",
    "ResetInFrame",
    "SeededRandom",
    "SimDisk",
    "SimLink",
    "SimListener",
    "SimLoop",
    "SimNetwork",
    "SimStore",
    "SimTask",
    "SimTrainer",
    "SiteNetwork",
    "Slice",
    "SlowReader",
    "Spread",
    "TappedLink",
    "ToxicProxy",
    "Toxics",
    "TrainerModel",
    "cancel_everywhere",
    "check_name",
    "connected",
    "link_pair",
    "run_check",
    "run_sim",
]
