""".npz and .safetensors files: what is kept, what is refused, what damage does."""

from __future__ import annotations

import io
import itertools
import json
import os
import stat
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc import files
from graphc.errors import ArgumentError, ArgumentTypeError, DataError
from graphc.nn import safetensors
from tests.nn.test_state_dict import Net, assert_same, values_of

SUFFIXES = [".npz", ".safetensors"]


# --- Files ------------------------------------------------------------------------------------------------------------

ARRAYS = {
    "f32": np.array([[1.5, -0.0], [np.nan, np.inf]], np.float32),
    "f64 α": np.arange(3.0),
    "i64": np.array(-(2**62)),
    "i32": np.arange(6, dtype=np.int32).reshape(2, 1, 3)[:, :, ::-1],
    "bool": np.array([True, False]),
    "u8": np.arange(5, dtype=np.uint8),
    "empty": np.zeros((0, 3), np.float32),
    "fortran": np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">f4"),
}


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"model{request.param}"


def test_files_keep_names_shapes_dtypes_and_bits(path):
    gc.save(path, ARRAYS)
    found = gc.load(path)
    assert set(found) == set(ARRAYS)
    for name, value in ARRAYS.items():
        assert found[name].dtype == value.dtype.newbyteorder("=") and found[name].shape == value.shape
        assert found[name].tobytes() == np.ascontiguousarray(value, value.dtype.newbyteorder("=")).tobytes()
        assert found[name].flags.writeable
    gc.save(path, {})
    assert gc.load(path) == {}


def test_models_and_optimisers(path):
    one, other = Net(), Net()
    one.save(str(path))
    other.load(path)
    assert_same(other.state_dict(), one.state_dict())
    optimiser = gc.optim.SGD(0.25)
    gc.save(path, optimiser)
    assert gc.load(path)["lr"] == 0.25
    with pytest.raises(ArgumentError, match=r"nothing was changed:\n  missing: body\.0\.weight, "):
        other.load(path)
    assert_same(other.state_dict(), one.state_dict())


def test_the_same_values_give_the_same_bytes(path):
    gc.save(path, ARRAYS)
    first = path.read_bytes()
    gc.save(path, ARRAYS)
    assert path.read_bytes() == first


def test_halves_are_read_as_float32(tmp_path):
    half = np.array([1.0, -65504.0, 6e-8, np.inf], np.float16)
    for suffix in SUFFIXES:
        gc.save(tmp_path / f"half{suffix}", {"x": half})
        found = gc.load(tmp_path / f"half{suffix}")["x"]
        assert found.dtype == np.float32 and np.array_equal(found, half)
    header = b'{"x":{"dtype":"BF16","shape":[4],"data_offsets":[0,8]}}'
    bits = np.array([0x3F80, 0xC040, 0x7F80, 0x0001], "<u2")  # 1, -3, infinity, the least subnormal number
    file = tmp_path / "bfloat16.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    assert gc.load(file)["x"].tolist() == [1.0, -3.0, np.inf, 2.0**-133]


def test_numpy_reads_and_writes_the_same_npz(tmp_path):
    path = tmp_path / "a.npz"
    gc.save(path, ARRAYS)
    with np.load(path, allow_pickle=False) as found:
        assert {name: found[name].tobytes() for name in found.files} == {
            name: np.asarray(value).tobytes() for name, value in ARRAYS.items()
        }
    np.savez_compressed(path, a=np.zeros((50, 50)), b=np.asfortranarray(np.arange(6).reshape(2, 3)))
    assert np.array_equal(gc.load(path)["b"], [[0, 1, 2], [3, 4, 5]]) and gc.load(path)["a"].shape == (50, 50)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"a\.npz: a\.npy: the dtype object, which is not"):
        gc.load(path)


def test_the_file_there_stays_when_writing_fails(path, monkeypatch):
    gc.save(path, {"a": np.ones(3)})
    before = path.read_bytes()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"model\..*: cannot be written: No space left on device \(.*test_saving"):
        gc.save(path, {"a": np.zeros(9)})
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_file_that_a_killed_process_left_is_passed_by(path, monkeypatch):
    monkeypatch.setattr(files, "_serial", itertools.count())
    left = path.with_name(f".{path.name}.{os.getpid()}-0.part")
    left.write_bytes(b"half")
    gc.save(path, {"a": np.ones(3)})
    assert gc.load(path)["a"].tolist() == [1, 1, 1] and left.read_bytes() == b"half"


@pytest.mark.skipif(os.name != "posix", reason="file modes and links are POSIX's")
def test_modes_and_links_stay(path):
    gc.save(path, {"a": np.ones(3)})
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    path.chmod(0o640)
    link = path.with_name("link" + path.suffix)
    link.symlink_to(path)
    gc.save(link, {"a": np.zeros(3)})
    assert link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert np.array_equal(gc.load(path)["a"], np.zeros(3))


BAD = [
    (lambda d: gc.save(d / "a.pt", {}), ArgumentError, r"a\.pt: the name of a file of values ends in "),
    (lambda d: gc.load(d / "a"), ArgumentError, "ends in .npz or .safetensors"),
    (lambda d: gc.load(d / "a.npz"), DataError, r"a\.npz: cannot be read: No such file"),
    (lambda d: gc.save(d / "no" / "a.npz", {}), DataError, r"a\.npz: cannot be written: No such file"),
    (lambda d: gc.save(d / "a.npz", {"x": "text"}), ArgumentTypeError, "save: x has the dtype <U4, not one of numbers"),
    (lambda d: gc.save(d / "a.npz", {3: 1.0}), ArgumentError, "save: 3 cannot be the name of an array"),
    (lambda d: gc.save(d / "a.npz", {"__metadata__": 1.0}), ArgumentError, "'__metadata__' cannot be the name"),
    (lambda d: gc.save(d / "a.npz", 3), ArgumentTypeError, "save: a model, an optimiser or a dictionary .* not int"),
]


@pytest.mark.parametrize("do, error, message", BAD, ids=[message for *_, message in BAD])
def test_wrong_use(do, error, message, tmp_path):
    with pytest.raises(error, match=message + r".*test_saving\.py:\d+\)"):
        do(tmp_path)


# --- Files that cannot be trusted -------------------------------------------------------------------------------------


def packed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HOSTILE = {
    "empty": b"",
    "short": b"\1\0\0",
    "header of 2^63 bytes": b"\xff" * 7 + b"\x7f{}",
    "header longer than the file": packed({})[:8] + b"{",
    "no json": packed(b"{]"),
    "no utf-8": packed(b'{"\xff":1}'),
    "nested without end": packed(b"[" * 100_000),
    "a number without end": packed(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,0]}}'),
    "a list": packed(b"[]"),
    "metadata": packed({"__metadata__": {"a": 1}}),
    "a name twice": packed(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), bytes(8)),
    "a key more": packed({"a": entry() | {"more": 1}}, bytes(8)),
    "no entry": packed({"a": 3}),
    "unknown dtype": packed({"a": entry("F8_E4M3", (8,))}, bytes(8)),
    "dtype is a list": packed({"a": entry(["F32"])}, bytes(8)),
    "negative": packed({"a": entry(shape=(-2,))}, bytes(8)),
    "bool as size": packed({"a": entry("F64", (True,))}, bytes(8)),
    "float as size": packed({"a": entry(shape=(2.0,))}, bytes(8)),
    "offsets turned round": packed({"a": entry(offsets=(8, 0))}, bytes(8)),
    "offsets outside": packed({"a": entry(offsets=(4, 12))}, bytes(8)),
    "three offsets": packed({"a": entry(offsets=(0, 8, 8))}, bytes(8)),
    "shape and bytes differ": packed({"a": entry(shape=(3,))}, bytes(8)),
    "wrapping product": packed({"a": entry(shape=(2**32, 2**32, 0), offsets=(0, 0))}),
    "many axes": packed({"a": entry(shape=(1,) * 70, offsets=(0, 4))}, bytes(4)),
    "overlap": packed({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
    "gap": packed({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),
    "trailing bytes": packed({"a": entry()}, bytes(9)),
    "a bool of 2": packed({"a": entry("BOOL", (1,), (0, 1))}, b"\2"),
    "wrong checksum": packed({"__metadata__": {"graphc_crc32": "00000000"}, "a": entry()}, bytes(8)),
}


# Where another check would find something later, after memory was taken: the words of the one that should.
WORDS = {
    "header longer than the file": "not a safetensors file, or truncated: a header of 2 bytes in a file of 9",
    "no array": r"damaged: it has a member 'a\.txt' that is no array",
    "overlap": "damaged: b begins at byte 4 of the data, where 8 is expected",
    "terabytes": r"a\.npy: damaged: its bytes are not those of the shape \(1000000000000,\) of float32",
    "too little": r"a\.npy: damaged: its bytes are not those",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_safetensors_file_is_refused(name, tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"a\.safetensors: " + WORDS.get(name, "") + r".*test_saving\.py:\d+"):
        gc.load(file)


def npz_of(*members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def npy_of(shape, data, descr="<f4"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


HOSTILE_NPZ = {
    "empty": b"",
    "no array": npz_of(("a.txt", b"hello")),
    "a name twice": npz_of(*((f"{n}.npy", npy_of((), bytes(4))) for n in "ab")).replace(b"b.npy", b"a.npy"),
    "short header": npz_of(("a.npy", b"\x93NUMPY\1\0")),
    "terabytes": npz_of(("a.npy", npy_of((10**12,), bytes(8)))),
    "negative": npz_of(("a.npy", npy_of((-2, -1), bytes(8)))),
    "objects": npz_of(("a.npy", npy_of((1,), bytes(8), "|O"))),
    "too much": npz_of(("a.npy", npy_of((1,), bytes(8)))),
    "too little": npz_of(("a.npy", npy_of((3,), bytes(8)))),
}


@pytest.mark.parametrize("name", HOSTILE_NPZ)
def test_a_hostile_npz_file_is_refused(name, tmp_path):
    file = tmp_path / "a.npz"
    file.write_bytes(HOSTILE_NPZ[name])
    with pytest.raises(DataError, match=r"a\.npz: " + WORDS.get(name, "") + r".*test_saving\.py:\d+"):
        gc.load(file)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder, {suffix: bytes of a saved model}, its values)"""
    folder = tmp_path_factory.mktemp("written")
    model = Net(seed=3)
    contents = {}
    for suffix in SUFFIXES:
        model.save(folder / f"good{suffix}")
        contents[suffix] = (folder / f"good{suffix}").read_bytes()
    return folder, contents, values_of(model)


@settings(max_examples=150)
@given(st.sampled_from(SUFFIXES), st.data())
def test_damage_gives_an_error_or_the_right_answer(written, suffix, data):
    """One bit is turned over, or the end is missing: what is loaded is what was saved, or nothing."""
    folder, contents, expected = written
    content = bytearray(contents[suffix])
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    file = folder / f"damaged{suffix}"
    file.write_bytes(content)
    model = Net(seed=5)
    before = values_of(model)
    try:
        model.load(file)
    except (DataError, ArgumentError):
        assert_same(model.state_dict(), before)
    else:
        assert_same(model.state_dict(), expected)


def test_no_bit_of_an_npz_directory_can_hide_an_array(tmp_path):
    """zipfile itself takes the rest of a directory for the comment of an entry whose length is wrong."""
    file = tmp_path / "a.npz"
    gc.save(file, {"a": np.ones(2), "b": np.zeros(1)})
    content = file.read_bytes()
    for position in range(content.index(b"PK\1\2"), len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            file.write_bytes(damaged)
            try:
                found = gc.load(file)
            except DataError:
                continue
            assert {name: value.tolist() for name, value in found.items()} == {"a": [1, 1], "b": [0]}, (position, bit)


@pytest.mark.skipif(find_spec("safetensors") is None, reason="compares with the format's own package, if it is there")
def test_the_formats_own_package_reads_and_writes_the_same(tmp_path):
    from safetensors.numpy import load_file, save_file

    file = tmp_path / "a.safetensors"
    gc.save(file, ARRAYS)
    found = load_file(file)
    assert set(found) == set(ARRAYS)
    for name, value in ARRAYS.items():
        assert found[name].shape == value.shape and found[name].dtype == value.dtype.newbyteorder("=")
        assert np.array_equal(found[name], value, equal_nan=value.dtype.kind == "f")
    plain = {name: np.ascontiguousarray(value, value.dtype.newbyteorder("=")) for name, value in ARRAYS.items()}
    save_file(plain, file, metadata={"made by": "another"})
    found = gc.load(file)
    for name, value in plain.items():
        assert found[name].tobytes() == value.tobytes() and found[name].shape == value.shape


def test_foreign_files_need_no_checksum_and_arrays_may_be_in_any_order(tmp_path):
    file = tmp_path / "a.safetensors"
    header = {"b": entry(offsets=(8, 16)), "a": entry("I64", (1,)), "e": entry(shape=(0, 9), offsets=(8, 8))}
    file.write_bytes(packed(header, np.arange(1, 2).tobytes() + np.array([1.0, 2.0], np.float32).tobytes()))
    found = gc.load(file)
    assert list(found) == ["b", "a", "e"] and found["b"].tolist() == [1, 2] and found["a"].tolist() == [1]
    assert safetensors.MOST_HEADER_BYTES == 100_000_000
