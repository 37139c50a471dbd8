"""``DFStatisticsCore``: a generator for pandas, and global numbers that equal pandas' own."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import MissingExtra
from flare_async.jobs.site import Site, SiteInfo
from flare_async.recipes import FedStatsRecipe
from flare_async.recipes.statistics import DataType, DFStatisticsCore, Feature

ROWS = (120, 90, 0)
COLUMNS = {
    "whole": DataType.INT,
    "real": DataType.FLOAT,
    "maybe": DataType.INT,
    "flag": DataType.INT,
    "word": DataType.STRING,
    "day": DataType.DATETIME,
}


@pytest.fixture
def pandas():
    """Skip where the extra is not installed."""
    return pytest.importorskip("pandas")


def frame_of(index):
    """Return a site's rows: integers, floats and nullable integers with gaps, text, days."""
    import pandas as pd

    rng, rows = np.random.default_rng([3, index]), ROWS[index]
    real = rng.normal(1e4, 3, rows)
    real[::7] = np.nan
    maybe = pd.Series(rng.integers(0, 9, rows), dtype="Int64")
    maybe[::5] = None
    return pd.DataFrame(
        {
            "whole": rng.integers(-5, 5, rows),
            "real": real,
            "maybe": maybe,
            "flag": rng.random(rows) < 0.3,
            "word": pd.Series(["x"] * rows, dtype=object),
            "day": pd.Timestamp("2020-01-01"),
        }
    )


class Frames(DFStatisticsCore):
    """Two data sets of frames."""

    def initialize(self, site):
        """Load them."""
        frame = frame_of(site.index)
        self.data = {"train": frame, "test": frame.head(60)}


NUMBERS = ("count", "sum", "mean", "var", "stddev", "min", "max")


@pytest.mark.parametrize("workers", ["inline", "process"])
def test_global_numbers_equal_those_of_pandas_on_the_pooled_data(pandas, tmp_path, workers):
    """For integers, floats, nullable integers and booleans, with gaps."""
    recipe = FedStatsRecipe(
        "frames",
        "stats.json",
        [f"site-{number}" for number in range(1, 4)],
        {name: {} for name in (*NUMBERS, "failure_count")},
        Frames(),
        min_noise_level=0,
        max_noise_level=0,
        precision=None,
    )
    run = recipe.execute(SimEnv(num_clients=3, workers=workers, workspace_root=tmp_path))
    found = json.loads((run.folder / "stats.json").read_text("utf-8"))
    for dataset, rows in (("train", 999), ("test", 60)):
        pooled = pandas.concat([frame_of(at).head(rows) for at in range(3)])
        for name in ("whole", "real", "maybe", "flag"):
            column = pooled[name].astype("Float64")
            expected = [getattr(column, "std" if n == "stddev" else n)() for n in NUMBERS]
            assert [found[name][n]["Global"][dataset] for n in NUMBERS] == pytest.approx(expected)
            assert found[name]["failure_count"]["Global"][dataset] == column.isna().sum()
    assert set(found) == {"whole", "real", "maybe", "flag"}


def generator(index):
    """Return an initialised generator."""
    made = Frames()
    made.initialize(Site(SiteInfo(name="site", index=index), {}))
    return made


def test_columns_are_features_of_their_types(pandas):
    """Also where there are no rows."""
    for index in (0, 2):
        expected = [Feature(name, kind) for name, kind in COLUMNS.items()]
        assert generator(index).features()["train"] == expected


def test_nothing_is_said_of_no_rows(pandas):
    """None in place of a mean, not NaN and a warning."""
    made = generator(2)
    for name in ("mean", "stddev", "min_value", "max_value"):
        assert getattr(made, name)("train", "real") is None
    assert made.count("train", "real") == made.sum("train", "real") == 0


def test_a_histogram_leaves_out_what_is_outside_of_its_range(pandas):
    """As NumPy does it."""
    rows = generator(0).histogram("train", "whole", 2, 0.0, 4.0).bins
    values = frame_of(0)["whole"]
    assert [row[2] for row in rows] == [values.between(0, 1).sum(), values.between(2, 4).sum()]


def test_quantiles_come_from_a_digest(pandas):
    """With at most ``max_bin`` centroids."""
    pytest.importorskip("fastdigest")
    made = generator(0)
    made.max_bin = 20
    digest = made.quantiles("train", "real", [0.5])
    assert digest.mass == made.count("train", "real")
    assert len(digest.means) <= 20


def test_data_of_another_kind_are_named(pandas):
    """With the name of the data set."""
    made = Frames()
    made.data = {"train": [1, 2]}
    with pytest.raises(TypeError, match=r"data\['train'\] is list, use a DataFrame"):
        made.features()


def test_two_columns_of_one_name_are_named(pandas):
    """Nobody could say which of them is meant."""
    made = Frames()
    made.data = {"train": pandas.DataFrame([[1, 2]], columns=["age", "age"])}
    with pytest.raises(ValueError, match=r"data\['train'\] has two columns of the name 'age'"):
        made.features()


def test_without_pandas_the_error_says_how_to_install_it(monkeypatch):
    """Where the generator is made, not at the first site."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"flare-async\[pandas\]"):
        Frames()
