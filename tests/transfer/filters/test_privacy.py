"""Privacy filters against the same on whole arrays, and noise against its distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.model import ParamsType
from flare_async.transfer.filters import (
    ArrayFilter,
    ExcludeVars,
    GaussianDP,
    PercentilePrivacy,
    SVTPrivacy,
)
from flare_async.transfer.filters.cells import gathered
from flare_async.transfer.filters.gaussian import delta_of, noise_for
from flare_async.transfer.filters.selection import abs_percentile
from flare_async.transfer.tensors import TensorSet
from tests.references.privacy import gaussian_delta, percentile_privacy, svt
from tests.transfer.filters.sources import normal, passage, source_of


def arrays_of(source):
    """Return the arrays of a source or a set."""
    return (source if isinstance(source, TensorSet) else gathered(source)).numpy()


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.integers(1, 50),
        elements=st.floats(-9, 9, width=32),
    ),
    st.floats(0, 100),
)
def test_a_percentile_is_that_of_numpy(values, percentile):
    """Though nothing is sorted."""
    parts = [values[:7], values[7:]]
    expected = np.percentile(np.abs(values.astype(np.float64)), percentile)
    assert abs_percentile(lambda: iter(parts), percentile) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("steps", [None, 4])
@pytest.mark.parametrize("percentile", [0, 10, 99.5])
def test_percentile_privacy_is_that_of_whole_arrays(steps, percentile):
    """Over all tensors together, a step at a time."""
    given = {"a": normal(900).reshape(30, 30), "b": normal(11, np.float64, 3) / 5}
    made = arrays_of(
        PercentilePrivacy(percentile, 0.8).apply(source_of(**given), passage(steps=steps))
    )
    wanted = percentile_privacy(given, percentile, 0.8, steps or 1)
    for name, array in wanted.items():
        np.testing.assert_allclose(made[name], array, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("made", [PercentilePrivacy(), SVTPrivacy(), GaussianDP(1.0, 1.0)])
def test_filters_for_differences_refuse_what_is_not_finite(made, value):
    """Clipped it would look like any other change, of a model that has diverged."""
    values = normal(100)
    values[7] = value
    with pytest.raises(TensorFormatError, match=r"finite|norm of the difference"):
        arrays_of(made.apply(source_of(w=values), passage()))


def test_halves_may_have_taken_many_steps():
    """More than float16 has room for."""
    changes = np.array([0.0, 1.0, -2.0], np.float16)
    facts = passage(steps=100_000)
    made = PercentilePrivacy(50, 1.5e-5).apply(source_of(w=changes), facts)
    np.testing.assert_allclose(arrays_of(made)["w"], [0.0, 1.0, -1.5], rtol=1e-3)


@pytest.mark.parametrize("replace", [True, False])
def test_the_sparse_vector_technique_is_that_of_whole_arrays(replace):
    """With the same draws in the same order."""
    given = {"a": normal(300).reshape(3, 100) * 1e-5, "b": normal(50, np.float64, 5) * 1e-5}
    here = passage(steps=2)
    made = arrays_of(SVTPrivacy(0.2, replace=replace).apply(source_of(**given), here))
    wanted = svt(given, 0.2, steps=2, rng=here.rng, replace=replace)
    for name, array in wanted.items():
        np.testing.assert_allclose(made[name], array, rtol=1e-6)
    sent = sum(np.count_nonzero(array) for array in made.values())
    assert 0 < sent <= 70
    assert replace or sent == 70


def test_a_threshold_that_nothing_passes_is_an_error():
    """Not an endless search."""
    strict = SVTPrivacy(1.0, epsilon=1e9, gamma=1e-9, tau=1.0)
    with pytest.raises(TensorFormatError, match="0 of 5 values passed"):
        strict.apply(source_of(a=np.zeros(5)), passage())


def test_gaussian_noise_is_added_to_a_clipped_difference():
    """Its mean is the clipped difference, its deviation the norm times the multiplier."""
    given = normal()
    made = arrays_of(GaussianDP(2.0, 0.5).apply(source_of(w=given), passage()))["w"]
    noise = made - given * (2.0 / np.linalg.norm(given.astype(np.float64)))
    assert abs(noise.mean()) < 5 / math.sqrt(given.size)
    assert noise.std() == pytest.approx(1.0, rel=0.01)
    assert np.abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.01


def test_a_small_difference_is_not_made_larger():
    """Clipping only shortens; the norm is that of all tensors."""
    given = {"a": np.array([3.0]), "b": np.array([4.0])}
    for clip, factor in ((10.0, 1.0), (2.5, 0.5)):
        made = arrays_of(GaussianDP(clip, 1e-12).apply(source_of(**given), passage()))
        np.testing.assert_allclose(
            [made["a"][0], made["b"][0]], [3 * factor, 4 * factor], rtol=1e-9
        )


def test_noise_depends_on_the_key_and_on_the_place():
    """Equal keys give equal bytes; no two tensors or cells have the same noise."""
    source = source_of(a=np.zeros(600_000), b=np.zeros(600_000))
    made = [arrays_of(GaussianDP(1.0, 1.0).apply(source, passage(key=key))) for key in (1, 1, 2)]
    np.testing.assert_array_equal(made[0]["a"], made[1]["a"])
    parts = [
        made[0]["a"][:1000],
        made[0]["b"][:1000],
        made[0]["a"][262144:263144],
        made[2]["a"][:1000],
    ]
    assert len({part.tobytes() for part in parts}) == 4
    assert len(np.unique(np.concatenate(parts))) == 4000


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_epsilon_and_delta_give_the_least_noise(epsilon, delta):
    """By the integral that the theorem's closed form stands for."""
    noise = noise_for(epsilon, delta)
    assert delta_of(noise, epsilon) == pytest.approx(gaussian_delta(noise, epsilon), rel=1e-4)
    assert delta_of(noise, epsilon) <= delta < delta_of(noise * 0.999, epsilon)
    assert GaussianDP(1.0, epsilon=epsilon, delta=delta).noise_multiplier == noise


@pytest.mark.parametrize("excluded", [["b"], r"^b$"])
@pytest.mark.parametrize("kind", list(ParamsType))
def test_excluded_tensors_say_nothing_of_the_site(excluded, kind):
    """Zeros in a difference, what was received in whole weights."""
    old, new = source_of(a=np.ones(3), b=np.full(3, 5.0)), source_of(a=np.ones(3), b=np.ones(3))
    made = arrays_of(ExcludeVars(excluded).apply(new, passage(kind=kind, received=old)))
    expected = 5.0 if kind is ParamsType.FULL else 0.0
    np.testing.assert_array_equal(made["b"], np.full(3, expected))
    np.testing.assert_array_equal(made["a"], np.ones(3))


def test_an_excluded_tensor_is_no_longer_tied():
    """Or its twin would tell what it was."""
    weights = np.ones(3)
    made = ExcludeVars(["b"]).apply(source_of(a=weights, b=weights), passage())
    assert dict(made.aliases) == {}
    assert arrays_of(made)["a"].tolist() == [1, 1, 1]


class Halves(ArrayFilter):
    """A user's filter."""

    def array(self, name, array, passage):
        return array / 2


class Flat(ArrayFilter):
    """A user's filter with a mistake."""

    def array(self, name, array, passage):
        return array.reshape(-1)


def test_an_array_filter_sees_one_array_after_the_other():
    """And must return one like it."""
    source = source_of(a=np.ones((2, 2)), b=np.ones(1))
    assert arrays_of_set(Halves().apply(source, passage())) == {
        "a": [[0.5, 0.5], [0.5, 0.5]],
        "b": [0.5],
    }
    with pytest.raises(TensorFormatError, match=r"'a'.*float64\[4\], not float64\[2, 2\]"):
        Flat().apply(source, passage())


def arrays_of_set(tensors):
    """Return a set's values as lists."""
    return {name: array.tolist() for name, array in tensors.numpy().items()}


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PercentilePrivacy(101), "percentile"),
        (lambda: PercentilePrivacy(10, 0), "gamma"),
        (lambda: SVTPrivacy(1.5), "fraction"),
        (lambda: SVTPrivacy(epsilon=-1), "epsilon"),
        (lambda: GaussianDP(0.0, 1.0), "clip_norm"),
        (lambda: GaussianDP(1.0), "noise_multiplier"),
        (lambda: GaussianDP(1.0, 1.0, epsilon=1.0, delta=0.1), "noise_multiplier"),
        (lambda: GaussianDP(1.0, epsilon=1.0, delta=2.0), "delta"),
        (lambda: GaussianDP(1.0, epsilon=1e3, delta=0.1), "epsilon"),
        (lambda: ExcludeVars("("), "exclude_vars"),
        (lambda: ExcludeVars([1]), "exclude_vars"),
    ],
)
def test_parameters_out_of_range_are_named(make, field):
    """When the filter is made."""
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field


def test_steps_that_are_no_number_are_an_error():
    """They would scale everything."""
    for steps in (0, True, "3", math.inf):
        with pytest.raises(TensorFormatError, match="NUM_STEPS"):
            PercentilePrivacy().apply(source_of(a=np.ones(2)), passage(steps=steps))
