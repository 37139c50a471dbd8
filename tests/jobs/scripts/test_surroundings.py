"""What scripts see in place of sys.argv and the streams, and how it is all put back."""

from __future__ import annotations

import argparse
import contextvars
import copy
import io
import operator
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from flare_async.jobs.scripts.argv import ARGV, SiteArgv, install_argv
from flare_async.jobs.scripts.output import MAX_LINE, OUTPUT, PrefixStream, SiteOutput
from flare_async.jobs.scripts.surroundings import Surroundings


def as_site(call, words=(), site="site-1"):
    """Call as a script's thread does."""

    def inside():
        ARGV.set(list(words))
        OUTPUT.set(SiteOutput(site))
        return call()

    return contextvars.Context().run(inside)


def test_words_are_those_of_whoever_looks():
    """Slices, sums, comparisons and copies are plain lists."""
    argv = SiteArgv(["host.py"])

    def look():
        assert argv == ["client.py", "--x", "1"]
        assert argv != ["client.py"]
        assert (argv[0], argv[-1], len(argv), "--x" in argv) == ("client.py", "1", 3, True)
        assert type(argv[1:]) is list
        assert [*argv] == argv.copy() == ["client.py", "--x", "1"]
        assert operator.add(argv, ["y"]) == ["client.py", "--x", "1", "y"]
        assert operator.add(["python"], argv) == ["python", "client.py", "--x", "1"]
        assert repr(argv) == "['client.py', '--x', '1']"
        return argv

    assert as_site(look, ["client.py", "--x", "1"]) == ["host.py"]
    assert type(copy.copy(argv)) is list


def test_words_can_be_changed_by_their_owner_only():
    """As scripts do that take options out."""
    argv = SiteArgv(["host.py"])

    def change():
        argv.append("more")
        argv[0] = "other.py"
        argv.insert(1, "--first")
        del argv[2]
        argv[1:] = ["a", "b"]
        argv.extend(["c"])
        return [argv.pop(), *argv]

    assert as_site(change, ["client.py", "x"]) == ["c", "other.py", "a", "b"]
    assert argv == ["host.py"]


def test_overlapping_runs_put_the_words_back_with_the_last():
    """In whatever order they end; two runs in one program."""
    before = sys.argv
    first, second = install_argv(), install_argv()
    first()
    assert isinstance(sys.argv, SiteArgv)
    assert as_site(argparse.ArgumentParser().parse_args, ["client.py"]) == argparse.Namespace()
    second()
    assert sys.argv is before


@pytest.mark.parametrize(
    ("texts", "written", "rest"),
    [
        (["one\n"], "[site-1] one\n", ""),
        (["on", "e", "\n"], "[site-1] one\n", ""),
        (["one\ntwo\nthr"], "[site-1] one\n[site-1] two\n", "[site-1] thr\n"),
        (["\n"], "[site-1] \n", ""),
        (["\r 1%", "\r 2%", "\r 3%\n"], "[site-1]  3%\n", ""),
        (["a line of Windows\r\n"], "[site-1] a line of Windows\n", ""),
        (["x" * MAX_LINE, "x"], f"[site-1] {'x' * (MAX_LINE + 1)}\n", ""),
        (["\r 1%" * MAX_LINE], "", "[site-1]  1%\n"),
    ],
)
def test_lines_leave_whole_and_with_the_name_of_the_site(texts, written, rest):
    """What is unfinished at the end is finished."""
    output = SiteOutput("site-1")
    assert "".join(output.take("stdout", text) for text in texts) == written
    assert output.finish().get("stdout", "") == rest


def test_who_has_no_site_writes_as_before():
    """And sees a terminal where there is one; scripts do not."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = PrefixStream(Terminal(), "stdout")
    stream.writelines(["plain", "\n"])
    as_site(lambda: print("from a script", file=stream, flush=True))
    assert stream.getvalue() == "plain\n[site-1] from a script\n"
    assert stream.isatty()
    assert not as_site(stream.isatty)
    assert stream.encoding is None


def test_a_stream_that_was_redirected_before_gets_the_lines():
    """As the command line does, whose standard output is for results."""
    text, around = io.StringIO(), Surroundings()
    with redirect_stdout(text):
        around.prepare(Path(__file__))
        as_site(lambda: print("a line"))
        around.restore()
        assert sys.stdout is text
    assert text.getvalue() == "[site-1] a line\n"


def test_everything_is_put_back_once():
    """Harmless twice, and when the script has changed what there was."""

    before = (sys.argv, sys.stdout, sys.stderr, list(sys.path))
    around = Surroundings()
    around.prepare(Path(__file__))
    around.prepare(Path(__file__).with_name("other.py"))
    folder = str(Path(__file__).parent)
    assert sys.path.count(folder) == before[3].count(folder) + 1
    sys.path.remove(folder)
    around.restore()
    around.restore()
    assert (sys.argv, sys.stdout, sys.stderr, sys.path) == before
