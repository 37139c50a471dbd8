"""The invariants S1-S11 and L1 as checkers: each takes a run's evidence and names what it finds.

A checker knows nothing of how a run came about. So it can be tested with evidence that was made by
hand, and a run that nobody foresaw is judged by the same words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from flare_async.roles.messages import COMMITTED, RECEIVED
from flare_async.roles.outcome import SiteStatus
from flare_async.testing.federation.evidence import Evidence

__all__ = ["INVARIANTS", "Checker", "Violation", "violations_of"]

Checker: TypeAlias = Callable[[Evidence], Iterator[str]]
LIVENESS_GRACES: Final = 5  # how long a round may take once all is healed, in session graces
DIAL_SECONDS: Final = 10.0
HERD_AFTER: Final = 0.5  # everybody begins at once
HERD_SECONDS: Final = 0.05
HERD: Final = 5
HERD_SHARE: Final = 0.15  # of the sites: of many, some come within the same moment by chance
HERDS: Final = 3
DIALS: Final = 30  # of one host in so many seconds: a tenth of it is usual


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold, and what shows it."""

    invariant: str
    problem: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.problem}"


def counted_once(evidence: Evidence) -> Iterator[str]:
    """S1: at most one contribution per (job, round, task, site)."""
    found: Counter[tuple[int, str]] = Counter()
    for kept in evidence.kept:
        found.update((kept.number, site) for site, _ in kept.sites)
    found.update({key: count - 1 for key, count in evidence.counted.items() if count > 1})
    for (number, site), count in found.items():
        if count > 1:
            yield f"{count} contributions of {site} to round {number}"


def acknowledged_kept(evidence: Evidence) -> Iterator[str]:
    """S2: every durably acknowledged result is in the aggregate, or recorded late."""
    rounds = evidence.rounds
    for heard in evidence.receipts:
        kept = rounds.get(heard.number)
        here = kept is not None and kept.trial == heard.trial
        inside = kept is not None and here and heard.site in dict(kept.sites)
        if heard.state == COMMITTED and not inside:
            yield f"{heard.site} was told that round {heard.number} has its update, and it has not"
        elif heard.state == RECEIVED and here and not inside:
            yield f"{heard.site} was told that its update came, and round {heard.number} is without"
    yield from _unrecorded(evidence)


def _unrecorded(evidence: Evidence) -> Iterator[str]:
    told = {(one.number, one.trial, one.record.site) for one in evidence.told}
    for number, trial, site in evidence.asked:
        if (number, trial) in evidence.ended and (number, trial, site) not in told:
            yield f"{site} was asked in round {number} and there is no record of how that ended"


def within_budget(evidence: Evidence) -> Iterator[str]:
    """S3: bytes buffered stay within the budgets of channel, link and process."""
    for held in evidence.buffered:
        yield f"{held.nbytes} bytes, at most {held.most}: {held.where}"


def control_in_time(evidence: Evidence) -> Iterator[str]:
    """S4: how long control takes is bounded, whatever bulk does."""
    for site, seconds, bound in evidence.control:
        if seconds > bound:
            yield f"an answer of {site} took {seconds:.2f} s, at most {bound:.2f} s is due"


def progress_lives(evidence: Evidence) -> Iterator[str]:
    """S5: a peer that makes progress is never declared dead."""
    for host in sorted(evidence.setting.steady):
        links = evidence.connects[host]
        if links > 1:
            yield f"{host} needed {links} links, and nothing was wrong with the first"
    for told in evidence.told:
        record = told.record
        if record.site in evidence.setting.steady and record.status is SiteStatus.FAILED:
            yield f"{record.site} failed in round {told.number}: {record.reason}"


def no_silent_hang(evidence: Evidence) -> Iterator[str]:
    """S6: every wait ends in progress or in a typed error that says who and why."""
    yield from evidence.stuck
    yield from evidence.troubles
    for told in evidence.told:
        record = told.record
        bad = record.status in {SiteStatus.FAILED, SiteStatus.REFUSED}
        if bad and not (record.code and record.reason):
            yield f"{record.site} failed in round {told.number} without a code: {record.reason!r}"


def terminal_is_final(evidence: Evidence) -> Iterator[str]:
    """S7: terminal states are final."""
    ends = Counter((one.number, one.trial, one.record.site) for one in evidence.told)
    for (number, _, site), count in ends.items():
        if count > 1:
            yield f"{site} ended {count} times in round {number}"
    for one in evidence.told:
        if one.over:
            yield f"{one.record.site} ended after round {one.number} had"
    for kept in evidence.kept:
        ok = {
            one.record.site
            for one in evidence.told
            if (one.number, one.trial) == (kept.number, kept.trial)
            and one.record.status is SiteStatus.OK
        }
        inside = {site for site, _ in kept.sites}
        if ok and ok != inside:
            wrong = ", ".join(sorted(ok ^ inside))
            yield f"round {kept.number} and its records disagree on {wrong}"


def nothing_left(evidence: Evidence) -> Iterator[str]:
    """S8: nothing is leaked."""
    yield from evidence.leaks


def same_bytes(evidence: Evidence) -> Iterator[str]:
    """S9: what was received has the digest of what was sent."""
    for got in evidence.got:
        given = evidence.given.get((got.number, got.trial))
        if given != got.digest:
            yield f"{got.site} got model {got.digest} in round {got.number}, {given} was sent"


def known_by_link(evidence: Evidence) -> Iterator[str]:
    """S10: identity comes from the link, and a site has one live session."""
    for one in evidence.arrivals:
        if one.origin != one.site:
            yield f"round {one.number} took an update of {one.origin} as one of {one.site}"
    yield from evidence.impostures
    yield from evidence.doubles


def same_model(evidence: Evidence) -> Iterator[str]:
    """S11: the same participants give the same model bits with faults as without."""
    for kept in evidence.kept:
        poisoned = sorted(evidence.setting.poisoned & {site for site, _ in kept.sites})
        if poisoned:
            yield f"round {kept.number} took the update of {poisoned[0]}, which is not finite"
        elif kept.after != kept.expected:
            sites = len(kept.sites)
            yield f"round {kept.number} of {sites} sites is {kept.after}, not {kept.expected}"


def ends_when_healed(evidence: Evidence) -> Iterator[str]:
    """L1: once faults heal and a quorum is there, the round ends within a bound."""
    healed, setting = evidence.healed, evidence.setting
    if setting.mode != "liveness" or healed is None or evidence.finished is None:
        return
    bound = LIVENESS_GRACES * setting.limits.session_grace
    if evidence.finished - healed > bound:
        took = evidence.finished - healed
        yield f"the last round ended {took:.1f} s after everything was healed, {bound:g} s are due"


def dials_come_apart(evidence: Evidence) -> Iterator[str]:
    """F12: those who lost the same peer do not come back together, again and again."""
    windows: dict[int, set[str]] = {}
    for when, host in evidence.dials:
        if when > HERD_AFTER:
            windows.setdefault(int(when / HERD_SECONDS), set()).add(host)
    least = max(HERD, math.ceil(HERD_SHARE * evidence.setting.sites))
    herds = [hosts for hosts in windows.values() if len(hosts) >= least]
    if len(herds) >= HERDS:
        yield f"{len(herds[0])} hosts dial within {HERD_SECONDS:g} s, {len(herds)} times"


def dials_are_spread(evidence: Evidence) -> Iterator[str]:
    """F10: whoever cannot connect tries again with pauses, which grow."""
    by_host: dict[str, list[float]] = {}
    for when, host in evidence.dials:
        by_host.setdefault(host, []).append(when)
    for host, times in by_host.items():
        for first, last in zip(times, times[DIALS:], strict=False):
            if last - first < DIAL_SECONDS:
                yield f"{host} dialled more than {DIALS} times in {last - first:.2f} s"
                break


INVARIANTS: Final[Mapping[str, Checker]] = {
    "S1": counted_once,
    "S2": acknowledged_kept,
    "S3": within_budget,
    "S4": control_in_time,
    "S5": progress_lives,
    "S6": no_silent_hang,
    "S7": terminal_is_final,
    "S8": nothing_left,
    "S9": same_bytes,
    "S10": known_by_link,
    "S11": same_model,
    "L1": ends_when_healed,
    "F10": dials_are_spread,
    "F12": dials_come_apart,
}


def violations_of(evidence: Evidence) -> list[Violation]:
    """Return every violation, in the order of the invariants."""
    return [
        Violation(name, problem)
        for name, check in INVARIANTS.items()
        for problem in check(evidence)
    ]
