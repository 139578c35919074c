"""Train a small classifier of handwritten digits, and export it for programs that know nothing of Python.

    python export_digits.py FOLDER [wasm32]

writes FOLDER/digits.o, digits.h, digits.a, libdigits.so and digits.py: a perceptron of 64 pixels in [0, 1], 128 hidden
units and 10 scores, with its weights inside, and one held-out digit that it may be tried on: digit.f32, 64 float32
numbers, of which the label is in digit.label. With wasm32: digits.wasm and digits.mjs in place of the libraries.
"""

import sys
from pathlib import Path

import numpy as np

import graphc as gc

HIDDEN = 128


def perceptron(hidden=HIDDEN):
    return gc.nn.Sequential(gc.nn.Linear(64, hidden, seed=0), gc.nn.ReLU(), gc.nn.Linear(hidden, 10, seed=1))


def trained(hidden=HIDDEN, epochs=25):
    """The model and the held-out digits with their labels."""
    images, labels = gc.data.digits()
    train_images, train_labels, test_images, test_labels = gc.data.split(images, labels, seed=0)
    model = perceptron(hidden)
    trainer = gc.Trainer(model, gc.nn.cross_entropy, gc.optim.Adam(lr=3e-3))
    trainer.fit((train_images, train_labels), epochs=epochs, batch_size=32, drop_last=True, progress=False)
    return model, test_images, test_labels


def classifier(model):
    """The compiled function of one image."""
    image = gc.input("image", (1, 64))
    scores = model(image)
    outputs = [gc.softmax(scores).named("probabilities"), gc.argmax(scores, axis=1).named("digit")]
    return gc.compile([image], outputs, backend="llvm", name="digits")


def main():
    folder = Path(sys.argv[1])
    model, images, labels = trained()
    function = classifier(model)
    if sys.argv[2:] == ["wasm32"]:
        written = function.export(folder / "digits", target="wasm32", loader="javascript")
    else:
        written = function.export(folder / "digits", loader="python")
    images[1].astype(np.float32).tofile(folder / "digit.f32")
    (folder / "digit.label").write_text(f"{labels[1]}\n")
    right = sum(int(function(image[None])[1][0]) == label for image, label in zip(images, labels, strict=True))
    print(f"{right} of {len(labels)} held-out digits are read correctly")
    if written.code_bytes:
        print(f"{written.code_bytes} bytes of code, {written.data_bytes} of data")


if __name__ == "__main__":
    main()
