"""Headers: the bytes that safetensors writes, and nothing laxer than what it reads."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flare_async.errors import TensorFormatError
from flare_async.transfer.dtypes import DTYPES, name_of_torch
from flare_async.transfer.manifest import Manifest
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
    lambda name: name != "__metadata__" and ".." not in name
)
SHAPES = st.lists(st.integers(0, 4), max_size=3)
WHOLE = sorted(name for name, entry in DTYPES.items() if entry.bits % 8 == 0)
SPECS = st.builds(
    lambda name, dtype, shape: TensorSpec(name, dtype, tuple(shape)),
    NAMES,
    st.sampled_from(WHOLE),
    SHAPES,
)
METADATA = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    max_size=3,
)
MANIFESTS = st.builds(
    Manifest, st.lists(SPECS, max_size=6, unique_by=lambda s: s.name).map(tuple), METADATA
)


def framed(text):
    """Return a header with that JSON text."""
    data = text if isinstance(text, bytes) else text.encode()
    return len(data).to_bytes(8, "little") + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    """Return one tensor's description."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@given(MANIFESTS)
def test_a_header_round_trips(manifest):
    """Whatever the names, types, shapes and metadata."""
    header = manifest.header()
    assert Manifest.parse(header) == manifest
    assert Manifest.parse(memoryview(header)).header() == header
    assert len(header) % 8 == 0


@settings(max_examples=60, deadline=None)
@given(MANIFESTS.filter(lambda m: len(m.metadata) <= 1))
def test_safetensors_reads_what_we_write(manifest):
    """The library checks every offset."""
    file = manifest.header() + bytes(manifest.nbytes)
    names = {name for name, _ in safetensors.deserialize(file)}
    assert names == {spec.name for spec in manifest.specs}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_headers_are_those_of_safetensors_for_numpy(data):
    """The order is by type and then by name; at most one metadata key, as the library shuffles."""
    kinds = ["F32", "F64", "I64", "U8", "BOOL", "F16", "C64", "U16", "I32", "U64"]
    specs = data.draw(
        st.lists(
            SPECS.filter(lambda s: s.dtype in kinds),
            min_size=1,
            max_size=6,
            unique_by=lambda s: s.name,
        )
    )
    metadata = data.draw(METADATA.filter(lambda m: len(m) == 1) | st.none())
    arrays = {s.name: np.zeros(s.shape, DTYPES[s.dtype].numpy) for s in specs}
    file = safetensors.numpy.save(arrays, metadata)
    ours = Manifest(TensorSet.from_params(arrays).specs, metadata or {})
    assert file == ours.header() + bytes(ours.nbytes)


def test_headers_are_those_of_safetensors_for_every_torch_type():
    """Eight-bit and packed types included."""
    import safetensors.torch
    import torch

    known = {d for d in vars(torch).values() if isinstance(d, torch.dtype) and name_of_torch(d)}
    values = {str(d): torch.zeros(2, 16, dtype=torch.uint8).view(d) for d in known}
    assert len(values) >= 18
    file = safetensors.torch.save(values)
    ours = Manifest(TensorSet.from_params(values).specs)
    assert file == ours.header() + bytes(ours.nbytes)


def test_the_type_table_is_complete():
    """Every type that the installed library can write is in the table."""
    with pytest.raises(safetensors.SafetensorError) as caught:
        safetensors.serialize(
            {"a": safetensors.TensorSpec(dtype="nonsense", shape=[], data_ptr=0, data_len=0)}
        )
    known = str(caught.value).split("Supported dtypes: ")[-1].strip(' .`"').split(", ")
    named = {d.numpy for d in DTYPES.values()} | {d.torch for d in DTYPES.values()}
    assert set(known) <= named


def test_offsets_follow_the_order_of_the_header():
    """Wide types first."""
    manifest = Manifest((TensorSpec("a", "U8", (3,)), TensorSpec("b", "F64", (2,))))
    assert manifest.offsets == {"b": (0, 16), "a": (16, 19)}
    assert manifest.nbytes == 19


def test_another_writers_order_is_kept():
    """Offsets are where the bytes are, not where we would have put them."""
    document = {"a": entry("U8", (8,), (0, 8)), "b": entry("F64", (1,), (8, 16))}
    manifest = Manifest.parse(framed(json.dumps(document)))
    assert manifest.offsets == {"a": (0, 8), "b": (8, 16)}


BAD = {
    "no bytes": b"",
    "a short length": b"\1\0\0",
    "a length beyond the bytes": (99).to_bytes(8, "little") + b"{}",
    "bytes after the text": framed("{}") + b"x",
    "no object": framed("[]"),
    "an empty text": framed(""),
    "a leading blank": framed(" {}"),
    "text after the object": framed("{}x"),
    "a broken text": framed('{"a":'),
    "no UTF-8": framed(b'{"\xff":1}'),
    "a deep nesting": framed('{"a":' + "[" * 100_000),
    "a huge number": framed('{"a":{"dtype":"U8","shape":[' + "9" * 5000 + "]}}"),
    "a name twice": framed('{"a":%s,"a":%s}' % ((json.dumps(entry()),) * 2)),
    "a field twice": framed('{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}'),
    "NaN": framed('{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'),
    "a fraction": framed('{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}'),
    "minus zero": framed('{"a":{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}}'),
    "an entry that is no object": framed('{"a":1}'),
    "a missing field": framed('{"a":{"dtype":"F32","shape":[2]}}'),
    "an unknown field": framed(json.dumps({"a": entry() | {"more": 1}})),
    "an unknown type": framed(json.dumps({"a": entry("F31")})),
    "a type that is no text": framed(json.dumps({"a": entry(["F32"])})),
    "a shape that is no list": framed('{"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}}'),
    "a truth value as a size": framed(json.dumps({"a": entry(shape=(True,), offsets=(0, 4))})),
    "a truth value as an offset": framed(json.dumps({"a": entry("U8", (1,), (False, True))})),
    "three offsets": framed(json.dumps({"a": entry(offsets=(0, 8, 8))})),
    "text as an offset": framed(json.dumps({"a": entry(offsets=("0", 8))})),
    "begin after end": framed(json.dumps({"a": entry(offsets=(8, 0))})),
    "another size": framed(json.dumps({"a": entry(offsets=(0, 7))})),
    "a hole in front": framed(json.dumps({"a": entry(offsets=(8, 16))})),
    "an overlap": framed(json.dumps({"a": entry(), "b": entry(offsets=(4, 12))})),
    "the same range twice": framed(json.dumps({"a": entry(), "b": entry()})),
    "an overflowing shape": framed(json.dumps({"a": entry("U8", (2**62, 4), (0, 0))})),
    "an overflow behind a zero": framed(json.dumps({"a": entry("U8", (0, 2**62), (0, 0))})),
    "half a byte": framed(json.dumps({"a": entry("F4", (3,), (0, 1))})),
    "metadata that is no object": framed('{"__metadata__":[]}'),
    "metadata that is no text": framed('{"__metadata__":{"a":1}}'),
    "a lone surrogate in metadata": framed('{"__metadata__":{"a":"\\ud800"}}'),
    "a lone surrogate in a name": framed(json.dumps({"a\ud800": entry()})),
    "a control character in a name": framed(json.dumps({"a\nb": entry()})),
    "an empty name": framed(json.dumps({"": entry()})),
    "a long name": framed(json.dumps({"n" * 513: entry()})),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_a_bad_header_is_refused(data):
    """One type of error for all of them."""
    with pytest.raises(TensorFormatError):
        Manifest.parse(data)


def test_bounds_are_enforced_before_the_text_is_read():
    """A length is checked before it is believed."""
    header = Manifest((TensorSpec("a", "U8", (1,)), TensorSpec("b", "U8", (1,)))).header()
    with pytest.raises(TensorFormatError, match="50 allowed"):
        Manifest.parse(header, max_bytes=50)
    with pytest.raises(TensorFormatError, match="2 tensors, 1 allowed"):
        Manifest.parse(header, max_tensors=1)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_garbage_raises_the_typed_error_only(data):
    """With and without a fitting length."""
    for candidate in (data, framed(data), framed(b"{" + data)):
        try:
            Manifest.parse(candidate)
        except TensorFormatError:
            continue


@settings(max_examples=300, deadline=None)
@given(MANIFESTS, st.data())
def test_whatever_safetensors_refuses_is_refused_here(manifest, data):
    """Mutated headers: we may be stricter, never laxer."""
    text = bytearray(manifest.header()[8:])
    assume(text)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "cut":
            del text[at]
        elif kind == "insert":
            text[at:at] = data.draw(st.sampled_from([b"0", b"-", b",", b"9", b"}", b'"', b" "]))
        else:
            text[at] = data.draw(st.integers(0, 255))
    try:
        parsed = Manifest.parse(framed(bytes(text)))
    except TensorFormatError:
        return
    safetensors.deserialize(framed(bytes(text)) + bytes(parsed.nbytes))
