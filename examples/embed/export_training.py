"""Export a training step, and what a program in C needs to learn the digits from scratch with it.

    python export_training.py FOLDER

writes into FOLDER

    step.o, step.h        one step of Adam on 32 images: params and the optimiser's states are changed in place
    classify.o, .h        the same perceptron on one image, which reads the same params
    train.f32, train.i64  images of 64 pixels, float32 in [0, 1], and their labels, int64
    test.f32, test.i64    the digits that are held out
"""

import sys
from pathlib import Path

import numpy as np
from export_digits import perceptron

import graphc as gc

BATCH = 32


def functions():
    """The step, and the classifier of one image."""
    model = perceptron()
    images, labels = gc.input("images", (BATCH, 64)), gc.input("labels", (BATCH,), dtype="int64")
    loss = gc.nn.cross_entropy(model(images), labels)
    updates = gc.optim.Adam(lr=1e-3).updates(loss, model.parameters())
    step = gc.compile([images, labels], [loss.named("loss")], updates=updates, backend="llvm", name="step")
    image = gc.input("image", (1, 64))
    return step, gc.compile([image], gc.argmax(model(image), axis=1).named("digit"), backend="llvm", name="classify")


def main():
    folder = Path(sys.argv[1])
    step, classify = functions()
    step.export(folder / "step", formats=["a"])
    classify.export(folder / "classify", weights="pass", formats=["a"])
    train_images, train_labels, test_images, test_labels = gc.data.split(*gc.data.digits(), seed=0)
    arrays = {"train": (train_images, train_labels), "test": (test_images, test_labels)}
    for name, (images, labels) in arrays.items():
        images.astype(np.float32).tofile(folder / f"{name}.f32")
        labels.astype(np.int64).tofile(folder / f"{name}.i64")


if __name__ == "__main__":
    main()
