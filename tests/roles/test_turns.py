"""Equal shares of credit: a site that stalls keeps its own and no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flare_async.limits import KIB
from flare_async.roles.turns import LEAST_WINDOW, Turn, Turns

TOTAL = 1024 * KIB


class Book:
    """Starts turns and keeps what is under way."""

    def __init__(self, count, channels=64):
        self.turns = Turns(TOTAL, channels, lambda: count)
        self.going = []

    def ask(self, site, nbytes, weight=1):
        """Ask for one turn."""

        def start(window):
            self.going.append(turn)
            return True

        turn = Turn(site, nbytes, start, weight)
        self.turns.ask(turn)
        return turn

    def end(self, turn):
        """End one."""
        self.going.remove(turn)
        self.turns.over(turn)

    def taken(self, site):
        """Return the credit that a site has."""
        return sum(turn.window for turn in self.going if turn.site == site)


def test_a_site_gets_its_share_and_then_waits():
    """Half of a share a pull, so two are under way; the third begins when one is over."""
    book = Book(4)
    turns = [book.ask("a", TOTAL) for _ in range(3)]
    assert book.going == turns[:2]
    assert book.taken("a") == TOTAL // 4
    book.end(turns[0])
    assert book.going == turns[1:]


def test_what_others_hold_takes_nothing_from_a_share():
    """A stalled site's neighbours begin at once."""
    book = Book(2)
    for _ in range(9):
        book.ask("stalls", TOTAL)
    mine = [book.ask("b", 1000) for _ in range(5)]
    assert all(turn in book.going for turn in mine)
    assert book.taken("b") == 5000


def test_a_peer_that_stands_for_several_sites_has_their_shares():
    """A relay below a relay is not one site among many."""
    book = Book(8)
    for _ in range(99):
        book.ask("relay", TOTAL, weight=6)
    assert book.taken("relay") == TOTAL * 6 // 8


def test_one_that_is_over_while_it_waits_never_begins():
    """Its place goes to the next."""
    book = Book(4)
    first, second, third, fourth = (book.ask("a", TOTAL) for _ in range(4))
    book.turns.over(third)
    book.end(first)
    assert book.going == [second, fourth]


def test_one_that_cannot_begin_gives_its_credit_back():
    """The next one begins in its place, and telling of it twice changes nothing."""
    book, failed = Book(4), []

    def refuse(window):
        failed.append(window)
        return False

    turn = Turn("a", TOTAL, refuse)
    book.turns.ask(turn)
    book.turns.over(turn)
    later = [book.ask("a", TOTAL) for _ in range(2)]
    assert (len(failed), book.going) == (1, later)


SITES = st.sampled_from("abcdef")


@given(st.lists(st.tuples(SITES, st.integers(0, 2 * TOTAL), st.integers(0, 9)), max_size=60))
def test_no_site_exceeds_its_share_and_all_turns_come(steps):
    """Whatever is asked for and ended in whatever order."""
    book, asked = Book(6, channels=30), []
    for site, nbytes, ended in steps:
        asked.append(book.ask(site, nbytes))
        if ended < len(book.going):
            book.end(book.going[ended])
        for one in "abcdef":
            going = [turn for turn in book.going if turn.site == one]
            assert len(going) <= 5
            assert book.taken(one) <= max(TOTAL // 6, LEAST_WINDOW)
    while book.going:
        book.end(book.going[0])
    assert all(turn.is_over for turn in asked)


def test_hundreds_of_pulls_that_cannot_begin_are_no_recursion():
    """Their channels are gone when it is their turn: they are over one after the other."""
    turns = Turns(TOTAL, 64, lambda: 1)
    refused = []

    def refuse(turn):
        refused.append(turn)
        turns.over(turn)
        return False

    def ask(start):
        turn = Turn("a", TOTAL, lambda window: start(turn), 1)
        turns.ask(turn)
        return turn

    first = [ask(lambda turn: True) for _ in range(2)]
    waiting = [ask(refuse) for _ in range(5000)]
    turns.over(first[0])
    assert refused == waiting
