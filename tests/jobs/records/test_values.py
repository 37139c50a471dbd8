"""Whatever float() takes becomes a number; the rest is refused by its key."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from flare_async.errors import ConfigError
from flare_async.jobs.records.values import make_record
from flare_async.jobs.site import Site, SiteInfo
from flare_async.roles.log_record import AnalyticsDataType, LogRecord


@pytest.mark.parametrize(
    "value",
    [1, 1.0, np.float32(1), np.int64(1), np.array(1), np.ones((1, 1)), Decimal(1), True, "1"],
    ids=lambda value: type(value).__name__ + str(np.ndim(value)),
)
def test_a_number_is_whatever_float_takes(value):
    """A NumPy number is no reason to lose a metric."""
    assert make_record("k", value, AnalyticsDataType.SCALAR, global_step=np.int64(3)) == LogRecord(
        "k", 1.0, "SCALAR", 3
    )


@pytest.mark.parametrize(
    ("value", "kind", "options"),
    [
        ("much", "SCALAR", {}),
        (np.ones(2), "METRIC", {}),
        ({"x": None}, "SCALARS", {}),
        (1.0, "METRICS", {}),
        (1.0, "NOISE", {}),
        (1.0, "SCALAR", {"global_step": 1.5}),
        (object(), "IMAGE", {}),
    ],
)
def test_what_cannot_be_logged_is_refused_by_its_key(value, kind, options):
    """The message says which of a script's many metrics it was."""
    with pytest.raises(ConfigError, match="my-loss"):
        make_record("my-loss", value, kind, **options)


@pytest.mark.parametrize("key", ["", 3, None, "x" * 2000])
def test_a_key_is_a_text(key):
    """Neither nothing nor something else."""
    with pytest.raises(ConfigError, match="key"):
        make_record(key, 1.0, "SCALAR")


def test_words_keep_their_types_where_they_can():
    """A parameter may be anything; what is not plain becomes its text or number."""
    values = {"a": 1, "b": "x", "c": np.float32(0.5), "d": np.int64(7), "e": slice(3), "f": [1]}
    record = make_record("params", values, "PARAMETERS")
    kept = {"a": 1, "b": "x", "c": 0.5, "d": 7, "e": "slice(None, 3, None)", "f": [1]}
    assert record.value == kept


def test_tracking_outside_of_a_run_checks_only():
    """A train function can be called by hand."""
    site = Site(SiteInfo(name="a"), {})
    site.track("loss", np.float32(1))
    with pytest.raises(ConfigError, match="loss"):
        site.track("loss", None)


def test_a_loss_with_its_gradient_is_a_number_and_no_warning():
    """``track("loss", loss)`` is what scripts write."""
    torch = pytest.importorskip("torch")
    loss = torch.ones(1, requires_grad=True) * 2
    record = make_record("loss", loss, "SCALAR", step=torch.tensor(3))
    assert (record.value, record.step) == (2.0, 3)


def test_an_integer_beyond_64_bits_is_a_text_as_a_word_and_no_step():
    """It would be refused on the way."""
    assert make_record("seed", 2**70, "PARAMETER").value == str(2**70)
    with pytest.raises(ConfigError, match=r"loss\.step"):
        make_record("loss", 1.0, "SCALAR", step=2**70)
