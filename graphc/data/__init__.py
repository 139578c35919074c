"""Data to learn from: the handwritten digits in the package, MNIST's IDX files, splits and mini-batches.

Everything here takes and returns NumPy arrays and needs NumPy alone.

>>> images, labels = digits()
>>> train_images, train_labels, test_images, test_labels = split(images, labels, held_out=0.2, seed=0)
>>> train_images.shape, test_images.shape
((1438, 64), (359, 64))
>>> for x, t in batches(train_images, train_labels, size=32, seed=0, epoch=0):
...     pass  # step(x, t)
"""

from __future__ import annotations

from graphc.data.digits import batches, digits, split
from graphc.data.idx import mnist, read_idx

__all__ = ["digits", "mnist", "read_idx", "split", "batches"]
