"""The IDX reader: every element type, gzip or not, and every refusal by name."""

import gzip
import struct

import numpy as np
import pytest

from graphc.data import mnist, read_idx
from graphc.data.idx import MNIST_FILES
from graphc.errors import DataError

TYPE_CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array):
    """The bytes of an IDX file that holds an array."""
    magic = bytes([0, 0, TYPE_CODES[array.dtype.name], array.ndim])
    extents = struct.pack(f">{array.ndim}I", *array.shape)
    return magic + extents + array.astype(array.dtype.newbyteorder(">")).tobytes()


SIX = idx(np.arange(6, dtype=np.int16).reshape(2, 3))


@pytest.fixture(params=["plain", "gzip"])
def write(request, tmp_path):
    """write(content) makes a file, plain or compressed, and returns its path; the name never tells which."""

    def write(content):
        path = tmp_path / "some-file"
        path.write_bytes(gzip.compress(content) if request.param == "gzip" else content)
        return path

    return write


def refusal(path):
    with pytest.raises(DataError) as caught:
        read_idx(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("dtype", TYPE_CODES)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (0, 3), (0,), (1,) * 32], ids=str)
def test_reads_every_element_type(write, dtype, shape):
    array = np.random.default_rng(0).uniform(0 if dtype == "uint8" else -100, 100, shape).astype(dtype)
    result = read_idx(write(idx(array)))
    assert result.dtype == array.dtype and result.dtype.isnative and result.flags.writeable
    np.testing.assert_array_equal(result, array)


def test_reads_more_than_one_chunk(write):
    array = np.arange(700_001, dtype=np.int32)
    np.testing.assert_array_equal(read_idx(write(idx(array))), array)


def test_accepts_a_path_as_text(write):
    assert read_idx(str(write(SIX))).shape == (2, 3)


@pytest.mark.parametrize("length", range(len(SIX)))
def test_refuses_every_truncation(write, length):
    assert refusal(write(SIX[:length])).startswith("truncated: expected")


def test_truncation_says_what_was_found_and_expected(write):
    assert refusal(write(SIX[:-5])) == "truncated: expected 12 bytes for shape (2, 3) of int16, found 7"


def test_refuses_trailing_data(write):
    message = "trailing data: expected 12 bytes for shape (2, 3) of int16, found more after them"
    assert refusal(write(SIX + b"\0")) == message


@pytest.mark.parametrize(
    "first_bytes",
    [
        pytest.param("89 50 4e 47", id="PNG"),
        pytest.param("01 00 08 01", id="first byte not zero"),
        pytest.param("00 01 08 01", id="second byte not zero"),
        pytest.param("00 00 07 01", id="element type below the first"),
        pytest.param("00 00 0a 01", id="element type between two"),
        pytest.param("00 00 0f 01", id="element type above the last"),
        pytest.param("00 00 08 00", id="no dimensions"),
        pytest.param("00 00 08 21", id="33 dimensions"),
    ],
)
def test_refuses_foreign_files_with_their_first_bytes(write, first_bytes):
    magic = bytes.fromhex(first_bytes)
    message = refusal(write(magic + SIX[4:] + bytes(1000)))
    assert message.startswith(f"not an IDX file: it begins with bytes {first_bytes}; expected 00 00")


def test_a_huge_announcement_takes_no_memory(write):
    content = bytes([0, 0, 14, 2]) + struct.pack(">2I", 2**31, 2**20) + bytes(100)
    assert refusal(write(content)).startswith(f"truncated: expected {2**54} bytes")


@pytest.mark.parametrize("extents", [[2**32 - 1] * 3, [0, 2**32 - 1, 2**32 - 1, 2**32 - 1]])
def test_refuses_sizes_beyond_every_address(write, extents):
    content = bytes([0, 0, 8, len(extents)]) + struct.pack(f">{len(extents)}I", *extents)
    assert refusal(write(content)).startswith("absurd size: its header announces ")


@pytest.mark.parametrize("length", range(2, len(gzip.compress(SIX))))
def test_refuses_every_truncation_of_the_compressed_file(tmp_path, length):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(SIX)[:length])
    assert refusal(path).startswith("truncated: the gzip data ends")


@pytest.mark.parametrize("position", [2, 10, 100, -8, -4], ids=str)
def test_refuses_damaged_compressed_data(tmp_path, position):
    content = bytearray(gzip.compress(idx(np.arange(1000, dtype=np.int32))))
    content[position] ^= 0xFF
    path = tmp_path / "damaged.gz"
    path.write_bytes(content)
    assert "gzip" in refusal(path)


def test_refuses_what_follows_the_compressed_data(tmp_path):
    path = tmp_path / "long.gz"
    path.write_bytes(gzip.compress(SIX) + b"more")
    assert refusal(path).startswith("damaged gzip data: ")


def test_refuses_a_missing_file_and_a_folder(tmp_path):
    assert refusal(tmp_path / "nothing") == "no such file"
    assert refusal(tmp_path) == "not an IDX file but a folder"


@pytest.fixture
def mnist_folder(tmp_path):
    """Four small files: 3 and 2 images of 4 by 5 pixels, two files of them compressed."""
    pixels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5) * 4
    arrays = (pixels, np.array([7, 0, 9], np.uint8), pixels[:2], np.array([1, 2], np.uint8))
    for i, (name, array) in enumerate(zip(MNIST_FILES, arrays, strict=True)):
        if i % 2:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def test_mnist_reads_the_four_files(mnist_folder):
    train_images, train_labels, test_images, test_labels = mnist(mnist_folder)
    assert train_images.dtype == np.float32 and train_labels.dtype == np.int64
    pixels = np.arange(60, dtype=np.float32).reshape(3, 20) * 4
    np.testing.assert_array_equal(train_images, pixels / np.float32(255))
    np.testing.assert_array_equal(test_images, train_images[:2])
    assert train_labels.tolist() == [7, 0, 9] and test_labels.tolist() == [1, 2]


def test_mnist_as_images(mnist_folder):
    train_images, _, test_images, _ = mnist(mnist_folder, as_images=True)
    assert train_images.shape == (3, 1, 4, 5) and test_images.shape == (2, 1, 4, 5)


def test_mnist_names_the_missing_files(mnist_folder):
    (mnist_folder / MNIST_FILES[0]).unlink()
    (mnist_folder / f"{MNIST_FILES[3]}.gz").unlink()
    with pytest.raises(DataError) as caught:
        mnist(mnist_folder)
    assert str(caught.value) == (
        f"{mnist_folder}: missing train-images-idx3-ubyte, t10k-labels-idx1-ubyte (each may also end in .gz)"
    )


def test_mnist_names_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        mnist(tmp_path / "nothing")


def test_mnist_refuses_labels_that_do_not_count(mnist_folder):
    (mnist_folder / MNIST_FILES[1]).write_bytes(idx(np.zeros(4, np.uint8)))
    with pytest.raises(DataError, match=r"labels-idx1-ubyte: 4 labels for the 3 images of .*train-images"):
        mnist(mnist_folder)


@pytest.mark.parametrize(("shape", "dtype"), [((3, 20), "uint8"), ((3, 4, 5), "int32")])
def test_mnist_refuses_files_that_hold_no_images(mnist_folder, shape, dtype):
    (mnist_folder / MNIST_FILES[0]).write_bytes(idx(np.zeros(shape, dtype)))
    with pytest.raises(DataError, match=f"uint8 elements in 3 dimensions, found {dtype} in {len(shape)}"):
        mnist(mnist_folder)
