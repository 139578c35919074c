"""Section B: each function's value against NumPy and SciPy, its gradients against differences of those, on every
backend; and what the notes say about single functions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import graphc as gc
from graphc.backend import available
from tests.features.function_cases import CASES, LABELS, Z
from tests.features.rows import ROWS, shows

STEP = 1e-5  # of central differences, whose error of some 1e-10 the tolerances leave room for


@pytest.fixture(params=available())
def backend(request):
    return request.param


def differences(function, arrays, place):
    """The gradient of a function of arrays in one of them, by central differences."""
    found = np.empty(arrays[place].shape)
    for index in np.ndindex(found.shape):
        ends = []
        for step in (STEP, -STEP):
            moved = [array.copy() for array in arrays]
            moved[place][index] += step
            ends.append(function(*moved))
        found[index] = (ends[0] - ends[1]) / (2 * STEP)
    return found


@pytest.mark.parametrize("row", [shows(row, [row]) for row in CASES])
def test_values_and_gradients(row, backend):
    """All cases of a row, in float64 and, for the values, in float32, in one compiled function."""
    inputs, outputs, arguments, checks = [], [], [], []
    for number, case in enumerate(CASES[row]):
        expected = np.asarray(case.theirs(*case.arrays))
        for dtype in ("float64", "float32"):
            kinds = [array.dtype.name if array.dtype.kind != "f" else dtype for array in case.arrays]
            leaves = [
                gc.input(f"x{number}_{place}_{dtype}", array.shape, dtype=kind)
                for place, (array, kind) in enumerate(zip(case.arrays, kinds, strict=True))
            ]
            inputs += leaves
            arguments += [array.astype(kind) for array, kind in zip(case.arrays, kinds, strict=True)]
            y = case.ours(*leaves)
            outputs.append(y)
            checks.append((expected, 1e-12 if dtype == "float64" else 2e-5))
            floats = [place for place, kind in enumerate(kinds) if kind == "float64"]
            if y.dtype != "float64" or not floats:
                continue
            weights = np.random.default_rng(number).normal(size=expected.shape)
            outputs += gc.grad(gc.sum(y * weights), [leaves[place] for place in floats])
            for place in floats:
                slope = differences(lambda *a, c=case, w=weights: (w * c.theirs(*a)).sum(), case.arrays, place)
                checks.append((slope, 1e-7))
    found = gc.compile(inputs, outputs, backend=backend)(*arguments)
    for value, (expected, tolerance) in zip(found, checks, strict=True):
        assert value.shape == expected.shape and (value.dtype.kind == expected.dtype.kind)
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)


def test_every_row_of_the_section_is_here():
    assert {row.id for row in ROWS if row.section == "B"} == set(CASES)


@pytest.mark.feature("B.cross_entropy")
def test_the_gradient_of_cross_entropy_is_p_minus_e_y(backend):
    z, t = gc.input("z", Z.shape, "float64"), gc.input("t", LABELS.shape, "int64")
    gradient = gc.grad(gc.nn.cross_entropy(z, t, reduction="sum"), z)
    found = gc.compile([z, t], gradient, backend=backend)(Z, LABELS)
    np.testing.assert_allclose(found, special.softmax(Z, axis=1) - np.eye(4)[LABELS], rtol=1e-12, atol=1e-15)


@pytest.mark.feature("B.kl_div")
def test_minimising_kullback_leibler_over_p_is_maximum_likelihood(backend):
    """With q the frequencies of observed classes: equal gradients, and the minimum at p = q."""
    q = np.bincount(LABELS, minlength=4) / len(LABELS)
    z, t = gc.param("z", (4,), init=Z[0], dtype="float64"), gc.input("t", LABELS.shape, "int64")
    divergence = gc.nn.kl_div(gc.log_softmax(z), gc.constant(q), "sum")
    likelihood = gc.nn.cross_entropy(gc.broadcast_to(z, (len(LABELS), 4)), t)
    gradients = [gc.grad(loss, z) for loss in (divergence, likelihood)]
    descent = gc.compile([t], [divergence, *gradients], {z: z - 2 * gradients[0]}, backend=backend)
    for _ in range(200):
        least, one, other = descent(LABELS)
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)
    assert 0 <= least < 1e-12
    np.testing.assert_allclose(special.softmax(z.value), q, rtol=1e-6)
