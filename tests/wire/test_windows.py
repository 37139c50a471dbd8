"""Credit: nothing negative, nothing beyond a promise, and all of it comes back."""

from __future__ import annotations

import pytest

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.wire.windows import CreditBudget, ReceiveWindow, SendWindow


def test_a_budget_grants_no_more_than_it_has() -> None:
    """And takes back no more than it gave."""
    budget = CreditBudget(100)
    assert [budget.take(70), budget.take(70), budget.available] == [70, 30, 0]
    budget.give(100)
    assert budget.available == 100
    for wrong in (-1, 1):
        with pytest.raises(LocalProtocolError, match="given back"):
            budget.give(wrong)
    with pytest.raises(LocalProtocolError, match="-1 bytes"):
        budget.take(-1)


def test_a_child_budget_is_bounded_by_its_parent() -> None:
    """Links share the credit of the process."""
    parent = CreditBudget(100)
    first, second = CreditBudget(80, parent), CreditBudget(80, parent)
    assert [first.take(80), second.available, second.take(80)] == [80, 20, 20]
    first.give(50)
    assert [parent.available, second.available] == [50, 50]


def test_a_fair_share_is_half_of_what_is_left_but_no_crumb() -> None:
    """Small wishes are small, not crumbs."""
    budget = CreditBudget(100_000)
    assert [budget.fair(80_000), budget.fair(10), budget.fair(0)] == [50_000, 10, 0]
    budget.take(93_000)
    assert [budget.fair(80_000), budget.fair(10)] == [0, 10]


def test_a_send_window_refuses_what_exceeds_the_credit() -> None:
    """Spending beyond the limit is our mistake."""
    window = SendWindow(100)
    window.spend(100)
    assert window.available == 0
    for wrong in (1, -1):
        with pytest.raises(LocalProtocolError, match="credit for 0"):
            window.spend(wrong)


def test_a_send_window_takes_absolute_positions() -> None:
    """A repeated acknowledgement advances nothing."""
    window = SendWindow(100)
    window.spend(60)
    assert window.acknowledge(40, 140)
    assert not window.acknowledge(40, 140)
    assert window.acknowledge(40, 150)
    assert [window.acknowledged, window.available] == [40, 90]


@pytest.mark.parametrize(("consumed", "limit"), [(39, 140), (61, 140), (40, 139), (40, 2**63 + 1)])
def test_an_acknowledgement_that_goes_back_or_beyond_is_refused(consumed: int, limit: int) -> None:
    """Consumed or limit shrinking, consumed beyond sent, limit beyond 2**63."""
    window = SendWindow(100)
    window.spend(60)
    window.acknowledge(40, 140)
    with pytest.raises(RemoteProtocolError, match="bad_ack"):
        window.acknowledge(consumed, limit)


def test_a_receive_window_takes_bytes_in_order_and_within_the_limit() -> None:
    """A hole, a repetition and one byte too many are refused."""
    window = ReceiveWindow(100, 100, None)
    window.arrive(0, 60)
    for wrong in (0, 61):
        with pytest.raises(RemoteProtocolError, match="60 bytes received"):
            window.arrive(wrong, 1)
    with pytest.raises(RemoteProtocolError, match="data up to 101, the limit is 100"):
        window.arrive(60, 41)
    window.arrive(60, 40)
    assert window.received == 100


def test_an_ack_is_due_after_a_quarter_or_a_second() -> None:
    """A quarter of the window, or any byte a second after the last acknowledgement."""
    window = ReceiveWindow(100, 100, None)
    window.arrive(0, 100)
    assert [window.consume(24, 0.0), window.consume(1, 0.0)] == [False, True]
    assert window.ack() == (25, 125)
    assert [window.consume(1, 0.9), window.consume(1, 1.0)] == [False, True]
    assert window.ack() == (27, 127)
    assert not window.consume(0, 9.0)
    for wrong in (74, -1):
        with pytest.raises(LocalProtocolError, match="73 are there"):
            window.consume(wrong, 9.0)


def test_a_window_grows_to_its_full_size_and_keeps_its_promises() -> None:
    """From a small initial credit, and never below a limit granted once."""
    window = ReceiveWindow(10, 100, None)
    assert window.ack() == (0, 100)
    assert window.ack() == (0, 100)


def test_a_window_draws_on_its_budget_and_returns_everything() -> None:
    """What it begins with is its own; it grows by at most half of what is left."""
    budget = CreditBudget(100_000)
    window = ReceiveWindow(20_000, 1_000_000, budget)
    assert window.ack() == (0, 70_000)
    assert budget.available == 50_000
    window.finish()
    window.finish()
    assert budget.available == 100_000


def test_leasing_returns_the_credit_that_holds_no_unread_bytes() -> None:
    """What is unread stays counted until the end."""
    budget = CreditBudget(100_000)
    window = ReceiveWindow(100, 20_000, budget)
    assert window.ack() == (0, 20_000)
    window.arrive(0, 30)
    assert budget.available == 80_100
    window.lease()
    assert budget.available == 99_970
    assert window.ack() == (0, 20_000)
    window.lease()
    window.finish()
    assert budget.available == 100_000


def test_a_leased_window_grants_one_byte_more_than_its_total() -> None:
    """So that too much shows, and the limit that closes the credit stays for the end."""
    window = ReceiveWindow(10, 100, None)
    window.lease(50)
    assert window.ack() == (0, 51)
    window.lease()
    assert (window.ack(), window.total) == ((0, 51), 50)
