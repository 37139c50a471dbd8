"""Names, types and shapes that others sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import TensorFormatError
from flare_async.transfer.spec import TensorSpec, check_layout, checked_name, differences

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("dtype", "shape", "nbytes"),
    [("F32", (2, 3), 24), ("F4", (4,), 2), ("F6_E2M3", (4,), 3), ("U8", (), 1), ("I64", (0, 9), 0)],
)
def test_a_spec_knows_its_bytes(dtype, shape, nbytes):
    """Elements narrower than a byte are packed."""
    assert TensorSpec.checked("w", dtype, list(shape)).nbytes == nbytes


@pytest.mark.parametrize(
    "shape",
    [[-1], [2**62, 2**62], [0, 2**62], [2**53], [2.0], [True], "12", None, [1] * 65],
    ids=str,
)
def test_a_shape_out_of_bounds_is_refused(shape):
    """Zeros hide no overflow: libraries fail on such shapes with errors of their own."""
    with pytest.raises(TensorFormatError, match="'w'"):
        TensorSpec.checked("w", "F32", shape)


def test_the_largest_tensor_has_two_to_the_53_bytes():
    """Sizes fit a double."""
    assert TensorSpec.checked("w", "U8", [2**53]).nbytes == 2**53


@pytest.mark.parametrize("name", ["", "n" * 513, "a\0", "a\x7f", "a\x85", "\ud800", 3, None, b"w"])
def test_a_bad_name_is_refused(name):
    """Names go into logs, files and JSON."""
    with pytest.raises(TensorFormatError, match="name"):
        checked_name(name)


def test_the_formats_own_key_is_no_name():
    """It would make the header ambiguous."""
    with pytest.raises(TensorFormatError, match="reserved"):
        checked_name("__metadata__")


@given(JUNK, JUNK, JUNK)
def test_junk_raises_the_typed_error_only(name, dtype, shape):
    """Whatever a decoder may produce."""
    for text in (name, "w"):
        for kind in (dtype, "F32"):
            try:
                TensorSpec.checked(text, kind, shape)
            except TensorFormatError:
                continue


def test_differences_are_listed_up_to_five():
    """A model of another architecture differs in every name."""
    ours = [TensorSpec(f"w{at}", "F32", (1,)) for at in range(9)]
    theirs = [TensorSpec("w0", "F64", (1,)), TensorSpec("x", "F32", ())]
    found = differences(ours, theirs)
    assert len(found) == 5
    assert found[0] == "'w0' is F64[1], not F32[1]"
    assert found[1] == "'w1' is missing"
    assert differences(ours[:1], [ours[0], theirs[1]]) == ["'x' is unexpected"]


@pytest.mark.parametrize(
    "aliases", [{"x": "a"}, {"b": "x"}, {"b": "a", "c": "b"}, {"d": "a"}], ids=str
)
def test_an_alias_must_fit(aliases):
    """Both names exist, the first is no alias, and both are alike."""
    specs = [TensorSpec(name, "F32", (1,)) for name in "abc"] + [TensorSpec("d", "F32", (2,))]
    with pytest.raises(TensorFormatError, match="alias"):
        check_layout(specs, aliases)


def test_a_name_comes_once():
    """Two tensors of one name cannot be told apart."""
    with pytest.raises(TensorFormatError, match="2 tensors have 1 names"):
        check_layout([TensorSpec("a", "F32", ())] * 2, {})
