"""Calls of a user's generator: types are checked, and errors name the line."""

from __future__ import annotations

import functools
import sys
import types

import numpy as np
import pytest

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.recipes.statistics import (
    Bin,
    BinRange,
    DataType,
    Digest,
    Feature,
    Histogram,
    HistogramType,
    Statistics,
)
from flare_async.recipes.statistics.calls import Calls
from flare_async.recipes.statistics.configs import Bins
from flare_async.recipes.statistics.plan import Cell
from flare_async.recipes.statistics.source import kind_of, made
from tests.recipes.statistics.generators import Arrays

CELL = Cell("train", "a")
ENDS = BinRange(0.0, 1.0)
GOOD = [Bin(0.0, 0.5, 3), Bin(0.5, 1.0, np.int64(4))]


class Given(Statistics):
    """Returns what it was made with."""

    def __init__(self, found):
        self.found = found

    def features(self):
        """Return it."""
        return self.found

    def count(self, *args):
        """Return it."""
        return self.found

    sum = histogram = quantiles = count


def standard(bins):
    """Return a histogram."""
    return Histogram(HistogramType.STANDARD, bins)


@pytest.mark.parametrize("found", [3, np.int32(3), True.__class__(3) + 2])
def test_whole_numbers_of_any_kind_are_counts(found):
    """NumPy's too."""
    assert Calls(Given(found)).count("count", CELL) == 3


@pytest.mark.parametrize("found", [None, 2.0, "2", True, -1, np.float64(2), [2]])
def test_what_is_no_whole_number_is_no_count(found):
    """With the line of the method's definition."""
    with pytest.raises(TypeError, match=r"test_calls\.py:\d+: Given\.count returned"):
        Calls(Given(found)).count("count", CELL)


@pytest.mark.parametrize(
    ("found", "number"),
    [(2, 2.0), (np.float32(0.5), 0.5), (np.array(3), 3.0), (None, None), (float("nan"), None)],
)
def test_numbers_of_any_kind_and_none(found, number):
    """NaN says that there is no number, as None does."""
    assert Calls(Given(found)).number("sum", CELL) == number


@pytest.mark.parametrize("found", ["2", b"2", [1.0], {}, float("inf"), -np.inf, 2j])
def test_what_is_no_number_is_refused(found):
    """Infinity too: it could not travel."""
    with pytest.raises(TypeError, match=r"a (finite )?number or None is needed"):
        Calls(Given(found)).number("sum", CELL)


def test_an_array_that_is_no_single_number_is_named():
    """What ``float()`` says of it is passed on."""
    with pytest.raises(RuntimeError, match=r"in Given\.sum: TypeError"):
        Calls(Given(np.zeros(3))).number("sum", CELL)


def test_a_histogram_gives_its_counts():
    """Its edges are where they were asked for."""
    assert Calls(Given(standard(GOOD))).histogram(CELL, Bins(2), ENDS) == (3, 4)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (None, "a Histogram with a list of bins"),
        (GOOD, "a Histogram with a list of bins"),
        (standard(GOOD[:1]), "2 bins is needed"),
        (standard([GOOD[0], Bin(0.5, 2.0, 1)]), "bin 1 from 0.5 to 1 with its count"),
        (standard([GOOD[0], Bin(0.5, 1.0, 1.5)]), "bin 1"),
        (standard([GOOD[0], Bin(0.5, 1.0, -1)]), "bin 1"),
        (standard([GOOD[0], Bin("low", 1.0, 1)]), "bin 1"),
        (standard([GOOD[0], None]), "bin 1"),
    ],
)
def test_bins_that_were_not_asked_for_are_refused(found, problem):
    """They could not be added to those of other sites."""
    with pytest.raises(TypeError, match=problem):
        Calls(Given(found)).histogram(CELL, Bins(2), ENDS)


def test_quantiles_need_a_digest():
    """Numbers alone cannot be put together with those of other sites."""
    digest = Digest((1.0,), (2.0,))
    assert Calls(Given(digest)).digest(CELL, (0.5,)) == digest
    with pytest.raises(TypeError, match="a Digest is needed"):
        Calls(Given({0.5: 1.0})).digest(CELL, (0.5,))


@pytest.mark.parametrize(
    "found",
    [
        None,
        {1: []},
        {"\ud800": []},
        {"train": "a"},
        {"train": ["a"]},
        {"train": [Feature(3, DataType.INT)]},
        {"train": [Feature("a", 1)]},
        {"train": [Feature("a", DataType.INT)] * 2},
    ],
)
def test_features_of_the_wrong_kind_are_refused(found):
    """Before their names travel."""
    with pytest.raises(TypeError, match=r"Given\.features returned"):
        Calls(Given(found)).features()


class Sized(Given):
    """Is wrong inside of a library."""

    def sum(self, dataset, feature):
        """Add two arrays that do not fit each other."""
        return functools.reduce(np.add, [np.zeros(2), np.zeros(3)])


def test_the_line_is_the_last_one_in_the_users_own_file():
    """Not one inside of the library that the line calls."""
    line = Sized.sum.__code__.co_firstlineno + 2
    with pytest.raises(RuntimeError, match=rf"^test_calls\.py:{line} in Sized\.sum: ValueError"):
        Calls(Sized(0)).number("sum", CELL)


def test_a_generator_is_made_anew_from_its_file_and_arguments():
    """The class is named, not sent."""
    generator = Arrays("site-1", where="sum")
    kind = kind_of(generator)
    args, keywords = generator.made_with
    again = made(kind, args, keywords)
    assert (type(again), again.failing, again.where) == (Arrays, "site-1", "sum")
    assert kind["path"].endswith("generators.py")
    assert again is not generator


def test_a_class_that_no_file_has_stays_an_object():
    """It works wherever the object is."""

    class Local(Given):
        pass

    assert kind_of(Local(1)) is Local
    assert made(Local, (1,), {}).found == 1


def test_a_file_that_is_not_loaded_yet_is_loaded(tmp_path, monkeypatch):
    """As in a worker process."""
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    file = tmp_path / "own.py"
    file.write_text("from tests.recipes.statistics.generators import Arrays as Own\nOther = 3\n")
    kind = {"path": str(file), "qualname": "Own", "package": ""}
    assert type(made(kind, (), {})) is Arrays
    with pytest.raises(TensorFormatError, match=r"own\.py has no generator Other"):
        made({**kind, "qualname": "Other"}, (), {})


def test_only_a_generator_is_one():
    """The error says what to subclass."""
    with pytest.raises(ConfigError, match=r"flare_async\.recipes\.statistics\.Statistics"):
        kind_of(types.SimpleNamespace())
