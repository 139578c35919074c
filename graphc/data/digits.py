"""The UCI handwritten digits, and what any labelled set needs: a stratified split and mini-batches.

The images are those of E. Alpaydin and C. Kaynak (1998), CC BY 4.0: see digits.LICENSE.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from graphc.errors import ArgumentError

# Element types of images and labels: split and batches return what they were given.
X = TypeVar("X", bound=np.generic)
T = TypeVar("T", bound=np.generic)

LARGEST_PIXEL = 16


def digits(*, as_images: bool = False) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The 1,797 handwritten digits of the UCI repository: images of 8 by 8 pixels and their labels.

    Returns the images, float32 in [0, 1] of shape (1797, 64), or (1797, 1, 8, 8) with `as_images=True` (NCHW,
    for convolutions), and the labels, int64 in 0..9 of shape (1797,). Both are new arrays, yours to change.

    >>> images, labels = digits()
    >>> images.shape, images.dtype, labels.shape, labels.dtype
    ((1797, 64), dtype('float32'), (1797,), dtype('int64'))
    >>> digits(as_images=True)[0].shape
    (1797, 1, 8, 8)
    """
    file = resources.files("graphc.data").joinpath("digits.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        images = arrays["images"].astype(np.float32) / np.float32(LARGEST_PIXEL)
        labels = arrays["labels"].astype(np.int64)
    return (images.reshape(-1, 1, 8, 8) if as_images else images), labels


def split(
    images: NDArray[X], labels: NDArray[T], held_out: float = 0.2, seed: int = 0
) -> tuple[NDArray[X], NDArray[T], NDArray[X], NDArray[T]]:
    """Hold a part of a labelled set back, drawn at random with each class in proportion (stratified).

    `images` has shape (n, ...) and any dtype, `labels` shape (n,) and any dtype that sorts. Returns the
    training images and labels, then the held-out images and labels: `round(n * held_out)` rows, of each
    class its share rounded down or up. The same seed gives the same split; both parts keep the order of the
    rows.

    Raises ArgumentError when `held_out` is not between 0 and 1 (or leaves a part empty), the lengths
    differ, labels are not one-dimensional, or the seed is negative.

    >>> images, labels = digits()
    >>> _, _, test_images, test_labels = split(images, labels, held_out=0.2, seed=0)
    >>> test_images.shape, np.bincount(test_labels).tolist()
    ((359, 64), [36, 36, 35, 37, 36, 36, 36, 36, 35, 36])
    """
    images, labels = np.asarray(images), np.asarray(labels)
    _check_rows("split", images, labels)
    rng = _generator("split", seed)
    if not 0 < held_out < 1:
        raise ArgumentError(f"split: held_out must lie between 0 and 1, not {held_out!r}")
    n_held_out = round(len(labels) * held_out)
    if not 0 < n_held_out < len(labels):
        raise ArgumentError(f"split: held_out={held_out!r} of {len(labels)} rows leaves one part empty")

    _, class_of_row, class_counts = np.unique(labels, return_inverse=True, return_counts=True)
    # Largest remainders: each class gives the floor of its share; those that lost most by it give one more.
    shares = class_counts * (n_held_out / len(labels))
    quotas = np.floor(shares).astype(np.int64)
    neediest = np.argsort(quotas - shares, kind="stable")
    quotas[neediest[: n_held_out - int(quotas.sum())]] += 1

    is_held_out = np.zeros(len(labels), dtype=np.bool_)
    for label, quota in enumerate(quotas):
        is_held_out[rng.permutation(np.flatnonzero(class_of_row == label))[:quota]] = True
    return images[~is_held_out], labels[~is_held_out], images[is_held_out], labels[is_held_out]


def batches(
    images: NDArray[X],
    labels: NDArray[T],
    size: int,
    seed: int = 0,
    epoch: int = 0,
    *,
    drop_last: bool = False,
) -> Iterator[tuple[NDArray[X], NDArray[T]]]:
    """Mini-batches of one epoch: every row once, in an order drawn from (seed, epoch) alone.

    `images` has shape (n, ...), `labels` shape (n,). Yields pairs of new arrays with `size` rows each; the
    last pair has the rest, or is left out with `drop_last=True` when it is short. Since the order depends on
    seed and epoch only, training that stops after an epoch can go on exactly as if it had not stopped.

    Raises ArgumentError, before the first batch is asked for, when `size` is not positive, `seed` or
    `epoch` is negative, labels are not one-dimensional, or the lengths differ.

    >>> images, labels = digits()
    >>> [len(t) for x, t in batches(images, labels, size=500, seed=0, epoch=3)]
    [500, 500, 500, 297]
    >>> [len(t) for x, t in batches(images, labels, size=500, seed=0, epoch=3, drop_last=True)]
    [500, 500, 500]
    """
    images, labels = np.asarray(images), np.asarray(labels)
    _check_rows("batches", images, labels)
    if size < 1:
        raise ArgumentError(f"batches: size must be at least 1, not {size}")
    rng = _generator("batches", seed, epoch)
    order = rng.permutation(len(labels))
    n_rows = len(labels) - len(labels) % size if drop_last else len(labels)
    rows_of_batches = (order[start : start + size] for start in range(0, n_rows, size))
    return ((images[rows], labels[rows]) for rows in rows_of_batches)


def _check_rows(function: str, images: NDArray[Any], labels: NDArray[Any]) -> None:
    if labels.ndim != 1:
        raise ArgumentError(f"{function}: labels must have one dimension, not shape {labels.shape}")
    if images.ndim < 1 or len(images) != len(labels):
        raise ArgumentError(
            f"{function}: images and labels must have equally many rows; their shapes are"
            f" {images.shape} and {labels.shape}"
        )


def _generator(function: str, *seeds: int) -> np.random.Generator:
    if any(seed < 0 for seed in seeds):
        raise ArgumentError(f"{function}: seed and epoch must not be negative: {', '.join(map(str, seeds))}")
    return np.random.default_rng(seeds)
