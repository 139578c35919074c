"""Record what PyTorch computes for the cases of `torch_cases.py`, for environments without it:

    python -m tests.nn.record_torch

writes `torch_values.npz` beside this file: all numbers in one array, with the names and shapes of its parts. Of large
arrays it holds sums (`torch_cases.digest`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.nn.torch_cases import LAYERS, LOSSES, Array, by_torch, digest

FILE = Path(__file__).with_name("torch_values.npz")


def record() -> None:
    parts: dict[str, Array] = {}
    for case in LAYERS + LOSSES:
        for name, value in by_torch(case).items():
            key = f"{case.name} | {name}"
            assert key not in parts, key
            parts[key] = np.asarray(digest(case, name, value), dtype=np.float64)
    shapes = [",".join(map(str, part.shape)) for part in parts.values()]
    values = np.concatenate([part.ravel() for part in parts.values()])
    np.savez_compressed(FILE, names=list(parts), shapes=shapes, values=values)


def recorded() -> dict[str, dict[str, Array]]:
    """{case: {name: array}}, in the order of recording."""
    found: dict[str, dict[str, Array]] = {}
    with np.load(FILE) as file:
        names, shapes, values = file["names"], file["shapes"], file["values"]
    start = 0
    for key, text in zip(names, shapes, strict=True):
        shape = tuple(int(extent) for extent in text.split(",") if extent)
        size = int(np.prod(shape))
        case, _, name = str(key).rpartition(" | ")
        found.setdefault(case, {})[name] = values[start : start + size].reshape(shape)
        start += size
    return found


if __name__ == "__main__":
    record()
