"""What a trainer prints: forwarded by line, up to a rate, with its end remembered."""

from flare_async.jobs.trainers.output import BURST, LINE, RATE, Forwarder


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self):
        return self.now


def forwarder():
    """Return a forwarder, its clock and what it shows."""
    clock, shown = Clock(), []
    return (
        Forwarder("site-1", clock, lambda stream, line: shown.append((stream, line))),
        clock,
        shown,
    )


def test_each_line_is_shown_with_its_site():
    """Both streams by themselves; what has no end yet waits for it."""
    output, _, shown = forwarder()
    output.add(1, b"one\ntw")
    output.add(2, b"oops\r\n")
    output.add(1, b"o\rthree")
    output.close()
    lines = [(1, "one"), (2, "oops"), (1, "two"), (1, "three")]
    assert shown == [(stream, f"[site-1] {text}") for stream, text in lines]


def test_characters_that_are_cut_are_put_together():
    """A read may end anywhere; what is no text is replaced."""
    output, _, shown = forwarder()
    data = "größe\n".encode() + b"\xff\n"
    for at in range(len(data)):
        output.add(1, data[at : at + 1])
    assert shown == [(1, "[site-1] größe"), (1, "[site-1] \ufffd")]


def test_a_line_without_an_end_is_shown_in_pieces():
    """Nothing is kept without bound."""
    output, _, shown = forwarder()
    for _ in range(5):
        output.add(1, b"x" * LINE)
    output.close()
    assert sum(len(line) - len("[site-1] ") for _, line in shown) == 5 * LINE
    assert len(shown) == 3


def test_too_much_is_dropped_and_told():
    """At the first line that finds room again, or at the end."""
    output, clock, shown = forwarder()
    output.add(1, b"x" * (BURST + 1))
    output.add(1, b"a\n" * (BURST // 2))
    shown.clear()
    for _ in range(4):
        output.add(1, b"y" * 3_000_000)
    assert (shown, output.dropped) == ([], 12_000_000)
    clock.now += 2 / RATE
    output.add(1, b"z\n")
    assert shown == [(1, "[site-1] ... dropped 12.0 MB of output"), (1, "[site-1] z")]
    output.add(2, b"y" * 500_000)
    output.close()
    assert shown[-1] == (2, "[site-1] ... dropped 0.5 MB of output")


def test_the_end_of_standard_error_is_remembered_through_a_flood():
    """50 lines, each cut; standard output where there is none."""
    output, _, _ = forwarder()
    output.add(1, b"out\n")
    assert output.last_lines() == ["out"]
    for number in range(3000):
        output.add(2, f"{number} {'x' * 900}\n".encode())
    lines = output.last_lines()
    assert (len(lines), lines[-1][:8], len(lines[0])) == (50, "2999 xxx", 500)
    assert output.received == 4 + sum(len(f"{n} ") + 901 for n in range(3000))
