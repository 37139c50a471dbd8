"""The scenarios of the simulation: what goes wrong in a federation, drawn from a seed.

In safety mode things go wrong all the time and S1-S11 hold; in liveness mode they go wrong until
``heal``, and then the last round needs every site and has to end (L1).
"""

from __future__ import annotations

import dataclasses
import random

from flare_async.limits import KIB
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
from flare_async.testing.federation import (
    SERVER,
    SMALL,
    Apart,
    Crash,
    CutLinks,
    GiveUp,
    Incident,
    Leave,
    Mode,
    Pry,
    Replay,
    Setting,
    StandStill,
)
from flare_async.testing.scenario import Scenario
from flare_async.testing.strikes import BitFlip, Cut, ResetInFrame

__all__ = ["BY_NAME", "SCENARIOS"]

WAYS = ("up", "down")
MODES = ("splice", "cache", "reduce")
FRAMES = ("data", "ack", "open", "reset")
END = 40.0  # seconds after which nothing goes wrong any more in a safety run that lasts so long


def people(dice: random.Random, sites: int = 8, relays: tuple[int, ...] = (0, 2)) -> dict:
    """Return who is there: a few sites, some of them below relays."""
    return {
        "sites": dice.randint(max(2, sites - 3), sites),
        "relays": dice.choice(relays),
        "relay_mode": dice.choice(MODES),
    }


def until(dice: random.Random, mode: Mode) -> float:
    """Return when all is healed, or when a safety run stops to have faults."""
    return round(dice.uniform(6, 20), 2) if mode == "liveness" else END


def hosts(who: dict) -> list[str]:
    """Return the names of the hosts that connect to somebody."""
    sites = [f"site-{number}" for number in range(who["sites"])]
    return sites + [f"relay-{number}" for number in range(who["relays"])]


def rounds(dice: random.Random, mode: Mode, sites: int) -> dict:
    """Return when a round closes: whenever everybody is settled, or at a deadline with a quorum."""
    quorum = dice.choice((None, max(1, sites // 2)))
    deadline = dice.choice((None, round(dice.uniform(8, 30), 1)))
    if mode == "safety":
        quorum = max(1, sites // 2)
    return {"quorum": quorum, "deadline": deadline}


def jitter(dice: random.Random, mode: Mode) -> Setting:
    """Nothing is wrong, but nothing takes the same time twice."""
    who = people(dice)
    names = [f"site-{number}" for number in range(who["sites"])]
    slow = dice.uniform(0.02, 0.4)
    size = dice.choice((None, max(1, who["sites"] // 2)))
    return Setting(
        **who,
        faults=(Delay(0.0, dice.uniform(0, 0.3)), Slice(dice.randint(20, 9000), varied=True)),
        latency=(0.001, slow),
        size=size,
        over_select=dice.choice((1.0, 1.3)),
        window=dice.choice((None, 2)),
        steady=frozenset(names) if size is None else frozenset(),
        probes=True,
    )


def cuts(dice: random.Random, mode: Mode) -> Setting:
    """Links break anywhere in a frame and whenever they like; sessions get others."""
    who, end = people(dice), until(dice, mode)
    found: list[Fault] = []
    for host in dice.sample(hosts(who), dice.randint(2, 5)):
        here = {"site": host, "direction": dice.choice(WAYS), "stop": end}
        step = dice.randrange(3000, 60_000)
        places = dice.choice(("head", "payload", "last_byte"))
        choices = (
            Cut(after_bytes=dice.randrange(300, 30_000), every=step, **here),
            Cut(at=dice.uniform(0, 8), every=dice.uniform(2, 9), site=host, stop=end),
            ResetInFrame(places, dice.randrange(1, 9), **here),
        )
        found.append(dice.choice(choices))
    return Setting(
        **who,
        **rounds(dice, mode, who["sites"]),
        faults=tuple(found),
        heal=end,
        buggify=0.3,
    )


def partitions(dice: random.Random, mode: Mode) -> Setting:
    """Hosts cannot reach each other for a while, in one direction or both, and now and then."""
    who, end = people(dice), until(dice, mode)
    shape = Setting(**who)
    found: list[Incident] = []
    for host in dice.sample(hosts(who), dice.randint(1, 4)):
        other = SERVER if host.startswith("relay") else shape.parent(host)
        one_way, at = dice.random() < 0.3, dice.uniform(0, 5)
        for _ in range(dice.choice((1, 1, 4))):
            seconds = dice.choice((1.5, 3.0, 9.0, 20.0))
            if at + seconds > end:
                break
            pair = (host, other) if dice.random() < 0.5 else (other, host)
            found.append(Apart(at=at, one=pair[0], other=pair[1], seconds=seconds, one_way=one_way))
            at += seconds + dice.uniform(0.5, 4)
    return Setting(
        **who,
        **rounds(dice, mode, who["sites"]),
        incidents=tuple(found),
        seconds=(0.1, 4.0),
        heal=end,
        buggify=0.2,
    )


def crashes(dice: random.Random, mode: Mode) -> Setting:
    """Sites, relays and the server die, loudly or without a word, and most come back."""
    who, end = people(dice), until(dice, mode)
    found: list[Incident] = []
    for host in dice.sample([SERVER, SERVER, *hosts(who)], dice.randint(1, 4)):
        at, back = dice.uniform(0.2, 8), dice.choice((0.1, 1.0, 5.0, 15.0))
        silent = dice.random() < 0.3
        gone = mode == "safety" and host != SERVER and dice.random() < 0.2
        if at + back < end:
            found.append(Crash(at=at, host=host, back=None if gone else back, silent=silent))
    if dice.random() < 0.3:
        found.append(GiveUp(at=dice.uniform(0.1, 4)))
    return Setting(
        **who,
        **rounds(dice, mode, who["sites"]),
        incidents=tuple(found),
        seconds=(0.1, 3.0),
        heal=end,
        buggify=0.2,
    )


def sums(dice: random.Random, mode: Mode) -> Setting:
    """Relays add, and are cut off, partitioned or killed while they hold what others brought."""
    who, end = people(dice, relays=(1, 2)) | {"relay_mode": "reduce"}, until(dice, mode)
    found: list[Incident] = []
    for host in [*dice.choices(hosts(who), k=dice.randint(1, 3)), "relay-0"]:
        at = dice.uniform(0.2, 6)
        choices = (
            CutLinks(at=at, host=host),
            Crash(at=at, host=host, back=dice.choice((0.1, 2.0, 6.0)), silent=dice.random() < 0.3),
            Apart(at=at, one=host, other=SERVER, seconds=dice.choice((1.5, 5.0, 12.0))),
        )
        found.append(dice.choice(choices))
    return Setting(
        **who,
        **rounds(dice, mode, who["sites"]),
        incidents=tuple(found),
        seconds=(0.1, 3.0),
        heal=max(end, 20.0),
        buggify=0.2,
    )


def slow(dice: random.Random, mode: Mode) -> Setting:
    """Transfers take far longer than any patience, and move; the process stands still at times."""
    who = {
        "sites": 3,
        "relays": dice.choice((0, 1)),
        "relay_mode": dice.choice(("splice", "cache")),
    }
    rate = dice.uniform(8, 16) * KIB
    found = dice.choice(
        ((Bandwidth(rate),), (SlowReader(rate),), (Bandwidth(rate, direction="up"),))
    )
    names = [f"site-{number}" for number in range(3)]
    pauses = (StandStill(at=dice.uniform(3, 12), seconds=dice.uniform(7, 25)),)
    stands = dice.random() < 0.5
    return Setting(
        **who,
        values=dice.randint(20_000, 30_000),
        rounds=1,
        faults=found,
        bandwidth=rate,
        incidents=pauses if stands else (),
        steady=frozenset(names),
        probes=not stands and not isinstance(found[0], SlowReader),
    )


def damage(dice: random.Random, mode: Mode) -> Setting:
    """Bits flip below the digests, frames come twice, peers vanish, links and readers stop."""
    who, end = people(dice), until(dice, mode)
    found: list[Fault] = []
    for host in dice.sample(hosts(who), dice.randint(2, 4)):
        at, way = dice.uniform(0, 5), dice.choice(WAYS)
        heals = min(end, at + dice.choice((3.0, 12.0, 30.0)))
        flip = BitFlip(dice.randrange(20_000), payload=True, site=host, direction=way)
        choices = (
            flip,
            flip,
            HalfOpen(at, site=host),
            Freeze(at, heals=heals, site=host),
            OneWayCut(way, at, heals=heals, site=host),
            SlowReader(dice.uniform(200, 3000), site=host, direction=way, stop=heals),
            Duplicate(dice.randint(5, 60), dice.choice(FRAMES), site=host, stop=end),
        )
        found.append(dice.choice(choices))
    return Setting(
        **who,
        **rounds(dice, mode, who["sites"]),
        faults=tuple(found),
        heal=end,
        buggify=0.2,
    )


def late(dice: random.Random, mode: Mode) -> Setting:
    """Tasks fail, hang, come at the deadline or with values that are no numbers."""
    who, end = people(dice), until(dice, mode)
    sites = who["sites"]
    poisoned = {"site-1"} if mode == "safety" and dice.random() < 0.4 else set()
    found = [GiveUp(at=dice.uniform(0.1, 9))] if dice.random() < 0.4 else []
    return Setting(
        **who,
        quorum=max(1, sites // 3),
        deadline=round(dice.uniform(2, 4), 2),
        size=dice.choice((None, max(1, sites // 2))),
        over_select=1.3,
        seconds=(0.1, 4.0),
        unwell=0.1 if mode == "safety" else 0.0,
        poisoned=frozenset(poisoned),
        incidents=tuple(found),
        heal=end,
        buggify=0.3,
    )


def elastic(dice: random.Random, mode: Mode) -> Setting:
    """F41: nobody is there at first, a third joins in a round, a third leaves, all leave."""
    who, end = people(dice), until(dice, mode)
    names = hosts(who)
    joins = tuple((host, dice.uniform(0.1, 8)) for host in names if dice.random() < 0.5)
    found: list[Incident] = [
        Leave(at=dice.uniform(1, 9), host=host, back=dice.choice((0.2, 3.0, 8.0)))
        for host in names
        if dice.random() < 0.33
    ]
    if dice.random() < 0.3:
        at = dice.uniform(2, 6)
        found += [Leave(at=at + dice.uniform(0, 1), host=host, back=3.0) for host in names]
    return Setting(
        **who,
        **rounds(dice, mode, who["sites"]),
        late=joins,
        incidents=tuple(found),
        seconds=(0.1, 3.0),
        heal=max(end, 20.0),
    )


def hostile(dice: random.Random, mode: Mode) -> Setting:
    """Some sites do not keep to the protocol, and somebody repeats what he has heard."""
    who = people(dice)
    names = [f"site-{number}" for number in range(who["sites"])]
    rogues = dice.sample(names, dice.randint(1, max(1, who["sites"] // 3)))
    honest = [name for name in names if name not in rogues]
    return Setting(
        **who,
        rounds=2,
        quorum=len(honest),
        deadline=dice.choice((None, None, 60.0)),
        seconds=(0.1, 3.0),
        limits=dataclasses.replace(SMALL, max_resends=1),
        rogues=tuple((name, dice.choice(("mute", "floods"))) for name in rogues),
        incidents=(
            Replay(at=dice.uniform(0.5, 6), victim=dice.choice(honest)),
            Pry(at=dice.uniform(0.2, 3)),
        ),
        steady=frozenset(honest),
    )


SCENARIOS = tuple(
    Scenario(draw.__name__, (draw.__doc__ or "").strip(), draw)
    for draw in (jitter, cuts, partitions, crashes, sums, slow, damage, late, elastic, hostile)
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
