"""Headers and files that are not what they say (B24, B26-B29): one type of error for all."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flare_async.errors import MissingExtra, TensorFormatError
from flare_async.limits import MIB
from flare_async.transfer.dtypes import DTYPES, numpy_dtype
from flare_async.transfer.files import read_file
from flare_async.transfer.manifest import Manifest
from flare_async.transfer.pull import parse_layout
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet
from tests.hostile.cost import refused, traced

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


class Loud:
    """Would be called by whoever unpickles it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("unpickled",)


def framed(document: object) -> bytes:
    """Return a header of that JSON, which may be text already."""
    text = document if isinstance(document, str) else json.dumps(document)
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "little") + data


def one(**fields: object) -> bytes:
    """Return a header of one tensor with some other fields."""
    return framed({"a": {**ENTRY, **fields}})


def saved(kind: str) -> bytes:
    """Return an object of another format."""
    file = io.BytesIO()
    match kind:
        case "pickle":
            file.write(pickle.dumps(Loud()))
        case "npy":
            np.save(file, np.array([Loud()], object), allow_pickle=True)
        case "npz":
            np.savez(file, a=np.ones(3))
        case "pt":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("archive/data.pkl", pickle.dumps(Loud()))
        case "hdf5":
            file.write(b"\x89HDF\r\n\x1a\n" + bytes(100))
    return file.getvalue()


def every_reader_refuses(data: bytes, folder: Path, text: str = "") -> None:
    """A header, a layout from a peer, a file of the user's: the same error."""
    for read in (Manifest.parse, parse_layout):
        refused(lambda read=read: read(data), TensorFormatError, text)
    file = folder / "model.safetensors"
    file.write_bytes(data)
    refused(lambda: read_file(file), TensorFormatError)


@pytest.mark.parametrize("kind", ["pickle", "npy", "npz", "pt", "hdf5"])
def test_b24_other_formats_are_unknown_and_nothing_in_them_runs(kind: str, tmp_path: Path) -> None:
    """As they are, and behind a length that fits."""
    data = saved(kind)
    every_reader_refuses(data, tmp_path)
    every_reader_refuses(len(data).to_bytes(8, "little") + data, tmp_path)


@pytest.mark.parametrize("length", [MIB + 1, 100_000_000, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_b26_a_header_beyond_a_mebibyte_is_refused_by_its_length(length: int) -> None:
    """Also where the bytes are there: they are not even copied."""
    prefix = length.to_bytes(8, "little")
    body = prefix + b"{" + b" " * min(length, 2 * MIB)
    for data in (prefix, prefix + b"{}", body, memoryview(body)):
        outcome, peak = traced(lambda data=data: Manifest.parse(data))
        assert isinstance(outcome, TensorFormatError)
        assert peak < 10_000


def test_b26_a_million_empty_tensors_do_not_fit_into_a_header() -> None:
    """What the library takes 16 s and 2.4 GB for."""
    entries = '"%06x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    text = "{" + ",".join(entries % number for number in range(1_000_000)) + "}"
    data = framed(text)
    refused(lambda: Manifest.parse(data), TensorFormatError, f"{MIB} allowed")


def test_b26_more_tensors_than_are_allowed_are_refused() -> None:
    """A file of the user's may have a longer header, but no more tensors."""
    specs = tuple(TensorSpec(f"{number}", "U8", (0,)) for number in range(300))
    header = Manifest(specs).header()
    refused(lambda: Manifest.parse(header, max_tensors=299), TensorFormatError, "299 allowed")
    assert len(Manifest.parse(header).specs) == 300


@pytest.mark.parametrize(
    "text",
    ["[" * (MIB - 10), '{"a":' + "[]," * 300_000 + "0}", '{"a":[' + "[]," * 300_000 + "0]}"],
    ids=["nested", "broken", "a list of lists"],
)
def test_b26_the_densest_header_costs_a_bounded_multiple_of_its_bytes(text: str) -> None:
    """It is parsed in a worker thread; the library behind it is never reached."""
    outcome, peak = traced(lambda: Manifest.parse(framed(text)))
    assert isinstance(outcome, TensorFormatError)
    assert peak < 40 * MIB


def with_raw_shape(shape: str) -> bytes:
    """Return a header whose shape has that text in it."""
    return framed(json.dumps({"a": {**ENTRY, "shape": ["RAW"]}}).replace('"RAW"', shape))


BAD = {
    "overlap": framed({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}),
    "hole": framed({"a": ENTRY, "b": {**ENTRY, "data_offsets": [9, 17]}}),
    "hole in front": one(data_offsets=[1, 9]),
    "trailing": one() + b"x",
    "truncated": one()[:-1],
    "begin beyond end": one(data_offsets=[8, 0]),
    "negative": one(data_offsets=[-8, 0]),
    "shape overflow": one(shape=[2**32, 2**32, 2**32]),
    "[0, 2**62]": one(shape=[0, 2**62], data_offsets=[0, 0]),
    "[2**62, 0]": one(shape=[2**62, 0], data_offsets=[0, 0]),
    "2**63 as a size": one(shape=[2**63]),
    "2**64 as an offset": one(data_offsets=[0, 2**64]),
    "65 dimensions": one(shape=[1] * 65, data_offsets=[0, 4]),
    "a nested shape": one(shape=[[2]]),
    "an endless number": with_raw_shape("9" * 9999),
    "a deep shape": with_raw_shape("[" * 970 + "1" + "]" * 970),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_b27_a_layout_that_does_not_add_up_is_one_error(data: bytes, tmp_path: Path) -> None:
    """NumPy's ValueError, RecursionError and OverflowError never leave."""
    every_reader_refuses(data, tmp_path)


@pytest.mark.parametrize("levels", range(900, 1000))
def test_b27_nesting_just_below_the_recursion_limit_is_the_same_error(levels: int) -> None:
    """Whatever the parser still reads, a message must be able to say."""
    for field in ("shape", "dtype", "data_offsets"):
        nest = "[" * levels + "]" * levels
        text = json.dumps({"a": {**ENTRY, field: "NEST"}}).replace('"NEST"', nest)
        with pytest.raises(TensorFormatError):
            Manifest.parse(framed(text))


@pytest.mark.parametrize("rest", [0, 7, 9, 100])
def test_b27_a_file_of_another_length_is_refused(rest: int, tmp_path: Path) -> None:
    """Truncated payload and trailing bytes."""
    file = tmp_path / "m"
    file.write_bytes(one() + bytes(rest))
    refused(lambda: read_file(file), TensorFormatError)


NAMES = {
    "a parent": "../x",
    "a parent inside": "a/../../x",
    "a parent of Windows": "..\\x",
    "empty": "",
    "64 KiB": "n" * 65_536,
    "a new line": "a\nb",
    "an escape": "\x1b[2J",
    "NUL": "a\0",
    "a lone surrogate": "\ud800",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_b28_a_name_that_is_none_is_refused(name: str) -> None:
    """From a peer and from the user's own model."""
    refused(lambda: Manifest.parse(framed({name: ENTRY})), TensorFormatError)
    refused(lambda: TensorSpec.checked(name, "F32", [2]), TensorFormatError)


def test_b28_a_name_twice_is_refused() -> None:
    """The library takes the last one silently."""
    entry = json.dumps({**ENTRY, "data_offsets": [0, 8]})
    text = f'"a":{entry}'
    refused(
        lambda: Manifest.parse(framed(f"{{{text},{text}}}")),
        TensorFormatError,
        "2 fields have 1 names",
    )


@pytest.mark.parametrize("name", ["a..b", "...", "layer.0/weight:0", "ä", "a b"])
def test_b28_names_that_models_have_are_taken(name: str) -> None:
    """Two dots inside a name are no way out of a folder."""
    assert Manifest.parse(framed({name: ENTRY})).specs[0].name == name


@pytest.mark.parametrize("dtype", ["F31", ">f4", "<f4", "float32", "O", "f32", "", "F8", None, 4])
def test_b29_a_dtype_outside_the_table_is_refused(dtype: object) -> None:
    """NumPy's names, byte orders and objects are no names of the format."""
    refused(lambda: Manifest.parse(one(dtype=dtype)), TensorFormatError, "unknown dtype")


@pytest.mark.parametrize(("dtype", "shape"), [("F4", [3]), ("F6_E2M3", [1]), ("F6_E3M2", [2, 1])])
def test_b29_elements_that_end_inside_a_byte_are_refused(dtype: str, shape: list[int]) -> None:
    """Packed elements fill whole bytes or nothing."""
    data = one(dtype=dtype, shape=shape, data_offsets=[0, 1])
    refused(lambda: Manifest.parse(data), TensorFormatError, "no whole bytes")


def test_b29_big_endian_arrays_travel_as_little_endian_ones() -> None:
    """Converted, since the format knows one order only."""
    values = np.arange(5, dtype=">f4")
    tensors = TensorSet.from_params({"a": values})
    assert tensors.specs[0].dtype == "F32"
    assert bytes(tensors["a"]) == values.astype("<f4").tobytes()


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_b29_every_dtype_is_held_or_refused_with_a_typed_error(name: str) -> None:
    """BF16 needs ml_dtypes, which comes with the torch extra, not torch itself."""
    try:
        held = numpy_dtype(name)
    except (TensorFormatError, MissingExtra):
        held = None
    absent = DTYPES[name].numpy is None or DTYPES[name].extension
    assert absent if held is None else held.itemsize * 8 == DTYPES[name].bits
