"""Every checker fires on evidence in which its invariant is broken, and on no other."""

from __future__ import annotations

import dataclasses

import pytest

from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.testing.federation.evidence import (
    Arrival,
    Buffered,
    Evidence,
    Got,
    Kept,
    Receipt,
    Told,
)
from flare_async.testing.federation.setting import Setting
from flare_async.testing.invariants import INVARIANTS, violations_of

A, B = "site-0", "site-1"
SETTING = Setting(mode="liveness", sites=2, steady=frozenset({A, B}), heal=10.0)


def record(site, status=SiteStatus.OK, reason="", code=""):
    """Return how a site's part ended."""
    return SiteRecord(site, status, 0.0, 1.0, reason=reason, code=code)


def good():
    """Return the evidence of a run of one round in which nothing is wrong."""
    evidence = Evidence(SETTING)
    evidence.asked = [(0, 0, A), (0, 0, B)]
    evidence.told = [Told(0, 0, record(site), over=False) for site in (A, B)]
    evidence.receipts = [Receipt(0, 0, s, state) for s in (A, B) for state in RECEIPTS]
    evidence.given = {(0, 0): "m0"}
    evidence.got = [Got(0, 0, A, "m0"), Got(0, 0, B, "m0")]
    evidence.arrivals = [Arrival(0, 0, A, A), Arrival(0, 0, B, B)]
    evidence.kept = [Kept(0, 0, ((A, 1.0), (B, 2.0)), "m0", "m1", "m1")]
    evidence.ended = {(0, 0): "kept"}
    evidence.connects.update({A: 1, B: 1})
    evidence.control = [(A, 0.1, 0.5)]
    evidence.healed, evidence.finished = 10.0, 20.0
    return evidence


RECEIPTS = ("received", "committed")


def twice_in_a_round(evidence):
    """One site's update is in the sum twice."""
    kept = evidence.kept[0]
    evidence.kept[0] = dataclasses.replace(kept, sites=(*kept.sites, (A, 1.0)))


def kept_twice(evidence):
    """A round was made durable, and then again."""
    evidence.kept.append(dataclasses.replace(evidence.kept[0], trial=1))
    evidence.receipts.clear()


def counted_twice(evidence):
    """A journal has counted one contribution twice."""
    evidence.counted[0, A] = 2


def committed_and_lost(evidence):
    """A site was told that it is in a round that was given up."""
    evidence.kept.clear()


def received_and_lost(evidence):
    """A site was told that its update came, and the sum is without it."""
    kept = evidence.kept[0]
    evidence.kept[0] = dataclasses.replace(kept, sites=kept.sites[:1])
    evidence.receipts = [Receipt(0, 0, B, "received")]
    evidence.told[1] = Told(0, 0, record(B, SiteStatus.LATE, "late"), over=False)


def unrecorded(evidence):
    """A site was asked, and nobody says what became of it."""
    evidence.asked.append((0, 0, "site-9"))


def too_much(evidence):
    """Somebody holds more than he may."""
    evidence.buffered.append(Buffered("unread on task", 70_000, 65_536))


def slow_control(evidence):
    """An answer took longer than what was ahead of it."""
    evidence.control.append((B, 2.0, 0.5))


def lost_link(evidence):
    """A site to which nothing has happened needed another link."""
    evidence.connects[A] = 2


def lost_site(evidence):
    """A site to which nothing has happened has failed."""
    evidence.told[0] = Told(0, 0, record(A, SiteStatus.FAILED, "silent", "x"), over=False)
    evidence.kept[0] = dataclasses.replace(evidence.kept[0], sites=((B, 2.0),))
    evidence.receipts.clear()


def hang(evidence):
    """Something was waited for in vain."""
    evidence.stuck.append("nothing can happen after 5 s")


def no_code(evidence):
    """An error has no type."""
    evidence.told.append(Told(0, 1, record("x", SiteStatus.FAILED, "KeyError"), over=False))


def two_ends(evidence):
    """A site has ended twice."""
    evidence.told.append(evidence.told[0])


def end_after_the_end(evidence):
    """A site ended after its round had."""
    evidence.told[0] = dataclasses.replace(evidence.told[0], over=True)


def disagreement(evidence):
    """The records name somebody whom the sum does not."""
    kept = evidence.kept[0]
    evidence.kept[0] = dataclasses.replace(kept, sites=kept.sites[:1])
    evidence.receipts = [one for one in evidence.receipts if one.site == A]


def leak(evidence):
    """Something is left."""
    evidence.leaks.append("1 offers are left")


def torn_model(evidence):
    """A site has trained on something else than what was sent."""
    evidence.got.append(Got(0, 0, B, "m7"))


def impostor(evidence):
    """An update was taken for another site's."""
    evidence.arrivals[0] = Arrival(0, 0, A, B)


def double_session(evidence):
    """A site has two sessions."""
    evidence.doubles.append("2 live sessions of site-0")


def pried(evidence):
    """Somebody has read what was not for him."""
    evidence.impostures.append("thief pulled")


def other_bits(evidence):
    """The model is not that of its participants."""
    evidence.kept[0] = dataclasses.replace(evidence.kept[0], after="m9")


def poison(evidence):
    """An update of no numbers is in the sum."""
    evidence.setting = dataclasses.replace(SETTING, poisoned=frozenset({A}))


def late_end(evidence):
    """The last round took longer than the bound."""
    evidence.finished = 10.0 + 5 * SETTING.limits.session_grace + 0.1


def dial_storm(evidence):
    """A host dials without pauses."""
    evidence.dials = [(7 + at / 10, A) for at in range(40)]


def herd(evidence):
    """All hosts dial together, three times."""
    evidence.dials = [(at + 1.01, f"site-{n}") for at in (1, 3, 7) for n in range(5)]


PLANTED = {
    "S1": (twice_in_a_round, kept_twice, counted_twice),
    "S2": (committed_and_lost, received_and_lost, unrecorded),
    "S3": (too_much,),
    "S4": (slow_control,),
    "S5": (lost_link, lost_site),
    "S6": (hang, no_code),
    "S7": (two_ends, end_after_the_end, disagreement),
    "S8": (leak,),
    "S9": (torn_model,),
    "S10": (impostor, double_session, pried),
    "S11": (other_bits, poison),
    "L1": (late_end,),
    "F10": (dial_storm,),
    "F12": (herd,),
}
CASES = [
    pytest.param(name, plant, id=f"{name} {plant.__name__}")
    for name, plants in PLANTED.items()
    for plant in plants
]


def test_a_run_in_which_nothing_is_wrong_breaks_nothing():
    """No checker fires, and each of them has a planted violation below."""
    assert violations_of(good()) == []
    assert set(PLANTED) == set(INVARIANTS)


@pytest.mark.parametrize(("name", "plant"), CASES)
def test_a_planted_violation_is_named(name, plant):
    """The checker of the invariant fires, and nobody else's does."""
    evidence = good()
    plant(evidence)
    assert {violation.invariant for violation in violations_of(evidence)} == {name}


def test_an_end_is_no_matter_of_liveness_where_faults_never_heal():
    """In safety mode a run may take as long as it likes."""
    evidence = good()
    evidence.setting = dataclasses.replace(SETTING, mode="safety")
    evidence.finished = 1e6
    assert violations_of(evidence) == []
