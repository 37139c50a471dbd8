"""The history of a run: rows for tables and files, the best model, the sites that failed."""

from __future__ import annotations

import json
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import MissingExtra
from flare_async.jobs.history import History, ModelRecord, RoundRecord, finite
from flare_async.roles.outcome import SiteRecord, SiteStatus


def site(name, status=SiteStatus.OK, **facts):
    """Return one site's part of a round."""
    return SiteRecord(name, status, 1.0, 2.5, **facts)


def made():
    """Return a history of two rounds in which things went wrong."""
    first = [
        site("a", bytes_down=10, bytes_up=20, weight=3.0, metrics={"loss": 0.5}),
        site("b", SiteStatus.FAILED, reason="no data", bytes_down=10),
        site("c", SiteStatus.LATE, reason="the round was closed"),
    ]
    second = [
        site("a", bytes_down=10, bytes_up=20),
        site("b", SiteStatus.REFUSED, reason="weight 0"),
        site("c", bytes_down=10, bytes_up=20),
    ]
    rounds = [
        RoundRecord(0, 1.0, 4.0, 1, first, {"loss": 0.5}),
        RoundRecord(1, 4.0, 5.0, 1, second),
    ]
    models = [ModelRecord(0, {"acc": 0.1}, best=True), ModelRecord(1, {"acc": 0.4}, best=True)]
    return History(rounds, [*models, ModelRecord(2, {"acc": 0.3}, best=False)])


def test_a_round_sums_up_its_sites():
    """Bytes of all, updates of those that are in the aggregate."""
    first, second = made().rounds
    assert (first.arrived, first.bytes_down, first.bytes_up, first.seconds) == (1, 20, 20, 3.0)
    assert (second.arrived, second.bytes_down, second.bytes_up) == (2, 20, 40)


def test_the_best_model_is_the_last_that_was_best():
    """Nothing evaluated, nothing best."""
    assert made().best() == ModelRecord(1, {"acc": 0.4}, best=True)
    assert History().best() is None


def test_failed_sites_have_their_last_reason():
    """Being late is no failure."""
    assert made().failed_sites() == {"b": "weight 0"}


def test_rows_hold_what_a_table_needs():
    """The score of the model that a round began with stands in its row."""
    rows = made().rows()
    assert [row["round"] for row in rows] == [0, 1]
    assert [row["received_metrics"] for row in rows] == [{"acc": 0.1}, {"acc": 0.4}]
    assert rows[0]["sites"][1]["reason"] == "no data"
    assert (rows[0]["seconds"], rows[0]["task"], rows[0]["quorum"]) == (3.0, "train", 1)


def test_json_is_strict():
    """NaN and infinities become null: other languages read it too."""
    history = made()
    history.rounds[0].metrics["loss"] = math.nan
    history.models[1].metrics["acc"] = -math.inf
    rows = json.loads(history.to_json(), parse_constant=pytest.fail)
    assert rows[0]["metrics"] == {"loss": None}
    assert rows[1]["received_metrics"] == {"acc": None}
    assert [part["status"] for part in rows[1]["sites"]] == ["ok", "refused", "ok"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@given(values)
def test_whatever_is_made_finite_is_strict_json(value):
    """Nothing but the numbers that JSON lacks is changed."""
    text = json.dumps(finite(value), allow_nan=False)
    if "nan" not in repr(value) and "inf" not in repr(value):
        assert json.loads(text) == value


def test_without_pandas_the_error_says_how_to_install_it(monkeypatch):
    """pandas is optional."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match="pip install") as caught:
        made().to_pandas()
    assert caught.value.package == "pandas"


def test_a_picture_is_written(tmp_path):
    """A PNG at the path that was given."""
    pytest.importorskip("matplotlib")
    path = made().plot(str(tmp_path / "curve.png"))
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
