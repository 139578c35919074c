"""The digits in the package, the stratified split, mini-batches."""

import hashlib

import numpy as np
import pytest

from graphc.data import batches, digits, split
from graphc.errors import ArgumentError

# Of scikit-learn's load_digits(): data (float64, all whole numbers) and target, each cast to unsigned bytes.
SHA256_OF_IMAGES = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
SHA256_OF_LABELS = "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0"
CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_digits_have_their_shapes_dtypes_and_range():
    images, labels = digits()
    assert images.shape == (1797, 64) and images.dtype == np.float32
    assert labels.shape == (1797,) and labels.dtype == np.int64
    assert images.min() == 0.0 and images.max() == 1.0
    assert np.bincount(labels).tolist() == CLASS_COUNTS


def test_digits_agree_with_scikit_learn():
    images, labels = digits()
    assert hashlib.sha256((images * 16).astype(np.uint8).tobytes()).hexdigest() == SHA256_OF_IMAGES
    assert hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest() == SHA256_OF_LABELS


def test_digits_as_images_are_the_same_pixels():
    images, _ = digits(as_images=True)
    assert images.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(images.reshape(1797, 64), digits()[0])


def test_digits_are_new_arrays_each_time():
    images, labels = digits()
    images[:], labels[:] = -1, -1
    assert digits()[0].min() == 0 and digits()[1].min() == 0


def test_split_holds_out_a_fifth_of_each_class():
    images, labels = digits()
    train_images, train_labels, test_images, test_labels = split(images, labels, held_out=0.2, seed=0)
    assert train_images.shape == (1438, 64) and test_images.shape == (359, 64)
    assert len(train_labels) == 1438 and len(test_labels) == 359
    for label, count in enumerate(CLASS_COUNTS):
        assert abs(np.sum(test_labels == label) - 0.2 * count) < 1


def test_split_parts_together_are_the_whole_and_rows_stay_with_their_labels():
    rows, labels = np.arange(100), np.arange(100) % 7
    train_rows, train_labels, test_rows, test_labels = split(rows, labels, held_out=0.3, seed=5)
    assert sorted([*train_rows, *test_rows]) == list(range(100))
    np.testing.assert_array_equal(train_labels, train_rows % 7)
    np.testing.assert_array_equal(test_labels, test_rows % 7)


def test_split_depends_on_its_seed_alone():
    rows, labels = np.arange(200), np.arange(200) % 3
    first, again, other = (split(rows, labels, seed=seed)[2] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_split_keeps_the_size_when_classes_are_small():
    labels = np.array(["a", "b", "c", "d", "e"])
    *_, test_labels = split(np.arange(5), labels, held_out=0.4)
    assert len(test_labels) == 2


@pytest.mark.parametrize("held_out", [0, 1, -0.1, 1.5, float("nan"), 0.01, 0.99])
def test_split_refuses_a_part_that_is_no_part(held_out):
    with pytest.raises(ArgumentError, match="held_out"):
        split(np.zeros((10, 2)), np.zeros(10, dtype=np.int64), held_out=held_out)


@pytest.mark.parametrize("function", [split, lambda x, t: batches(x, t, 2)], ids=["split", "batches"])
def test_rows_that_do_not_match_are_refused(function):
    with pytest.raises(ArgumentError, match=r"\(4, 2\) and \(3,\)"):
        function(np.zeros((4, 2)), np.zeros(3))
    with pytest.raises(ArgumentError, match=r"one dimension, not shape \(4, 1\)"):
        function(np.zeros((4, 2)), np.zeros((4, 1)))


@pytest.mark.feature("E.minibatches")
def test_batches_visit_each_row_once_with_its_label():
    rows, labels = np.arange(23), np.arange(23) * 10
    pairs = list(batches(rows, labels, size=5, seed=0, epoch=0))
    assert [len(x) for x, _ in pairs] == [5, 5, 5, 5, 3]
    order = np.concatenate([x for x, _ in pairs])
    assert sorted(order) == list(range(23)) and not np.array_equal(order, rows)
    np.testing.assert_array_equal(np.concatenate([t for _, t in pairs]), order * 10)


@pytest.mark.parametrize(("n", "expected"), [(23, [5] * 4), (20, [5] * 4), (3, []), (0, [])])
def test_batches_drop_a_short_last_one(n, expected):
    pairs = batches(np.arange(n), np.arange(n), size=5, drop_last=True)
    assert [len(x) for x, _ in pairs] == expected


@pytest.mark.feature("E.minibatches")
def test_batches_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return [int(i) for x, _ in batches(np.arange(30), np.arange(30), 7, seed, epoch) for i in x]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_of_more_than_all_rows_are_one_batch():
    assert [len(x) for x, _ in batches(np.arange(4), np.arange(4), size=100)] == [4]


def test_batches_are_copies():
    rows = np.arange(4)
    for x, _ in batches(rows, rows, size=4):
        x[:] = -1
    assert rows.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("size", "seed", "epoch"), [(0, 0, 0), (-1, 0, 0), (2, -1, 0), (2, 0, -1)])
def test_batches_refuse_wrong_numbers_before_the_first_batch(size, seed, epoch):
    with pytest.raises(ArgumentError, match="batches: "):
        batches(np.arange(4), np.arange(4), size, seed, epoch)
