"""gelu, ndtr and exponentials of squares as they are compiled: in the tails, at infinity, in the gradient."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy import special

import graphc as gc
from graphc.ir import scalar as sc
from graphc_llvm.bodies import _scaled_square

Array = np.ndarray
DTYPES = ("float32", "float64")
# Down to where x Phi(x) is the smallest denormal, and to where phi, and so the gradient, is a normal number.
TAIL = {"float32": -14.2, "float64": -38.4}
SLOPE_TAIL = {"float32": -13.0, "float64": -37.0}


def ulps(got: Array, exact: list[mpmath.mpf]) -> Array:
    rounded = np.array([float(value) for value in exact]).astype(got.dtype)
    lost = np.array([float(abs(mpmath.mpf(float(g)) - e)) for g, e in zip(got, exact, strict=True)])
    return lost / np.spacing(np.abs(rounded))


def normal(x: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """Phi and phi."""
    value = mpmath.mpf(x)
    return mpmath.erfc(-value / mpmath.sqrt(2)) / 2, mpmath.exp(-value * value / 2) / mpmath.sqrt(2 * mpmath.pi)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_and_its_gradient_keep_their_digits_in_the_tail(dtype: str) -> None:
    values = np.linspace(TAIL[dtype], -1, 997).astype(dtype)
    x = gc.input("x", values.shape, dtype=dtype)
    y, slope = gc.compile([x], [gc.gelu(x), gc.grad(gc.sum(gc.gelu(x)), x)])(values)
    with mpmath.workprec(200):
        pairs = [(mpmath.mpf(float(v)), *normal(float(v))) for v in values]
        assert ulps(y, [v * phi for v, phi, _ in pairs]).max() <= 4
        errors = ulps(slope, [phi + v * density for v, phi, density in pairs])
        assert errors[values >= SLOPE_TAIL[dtype]].max() <= 8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", ["llvm", "numpy"])
def test_gelu_at_the_ends(dtype: str, backend: str) -> None:
    values = np.array([-np.inf, -1e30, -60, -0.0, 0.0, 60, 1e30, np.inf, np.nan], dtype)
    x = gc.input("x", values.shape, dtype=dtype)
    y, slope = gc.compile([x], [gc.gelu(x), gc.grad(gc.sum(gc.gelu(x)), x)], backend=backend)(values)
    np.testing.assert_array_equal(y, np.array([-0.0, -0.0, -0.0, -0.0, 0, 60, 1e30, np.inf, np.nan], dtype))
    assert np.signbit(y[:4]).all() and not np.signbit(y[4])
    np.testing.assert_array_equal(slope, np.array([0, 0, 0, 0.5, 0.5, 1, 1, 1, np.nan], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exponential_of_a_square_takes_no_rounding_of_the_square(dtype: str) -> None:
    values = np.linspace(-9, 9, 401).astype(dtype)
    x = gc.input("x", values.shape, dtype=dtype)
    forms = {
        1.0: gc.exp(-(x * x)), 0.5: gc.exp(x * (x * -0.5)), 0.25: gc.exp(-(x * x) / 4), 0.375: gc.exp(-0.375 * (x * x)),
        -0.5: gc.exp(x * x / 2),
    }
    results = gc.compile([x], list(forms.values()))(values)
    with mpmath.workprec(200):
        for factor, result in zip(forms, results, strict=True):
            exact = [mpmath.exp(-factor * mpmath.mpf(float(v)) ** 2) for v in values]
            assert ulps(result, exact).max() <= 1.5, factor


def test_the_exponential_of_a_square_at_the_ends() -> None:
    values = np.array([-np.inf, -1e30, 0, 1e-30, 1e30, np.inf, np.nan], np.float32)
    x = gc.input("x", values.shape)
    down, up = gc.compile([x], [gc.exp(-0.5 * (x * x)), gc.exp(x * x)])(values)
    np.testing.assert_array_equal(down, np.array([0, 0, 1, 1, 0, 0, np.nan], np.float32))
    np.testing.assert_array_equal(up, np.array([np.inf, np.inf, 1, 1, np.inf, np.inf, np.nan], np.float32))


def test_a_square_that_is_used_elsewhere_too_is_still_there() -> None:
    values = np.linspace(-3, 3, 41).astype(np.float32)
    x = gc.input("x", values.shape)
    square = x * x
    got, phi = gc.compile([x], [square * gc.exp(-square), gc.ndtr(x) + x * gc.ndtr(x)])(values)
    wide = values.astype(np.float64)
    np.testing.assert_allclose(got, wide**2 * np.exp(-(wide**2)), rtol=3e-7)
    np.testing.assert_allclose(phi, special.ndtr(wide) * (1 + wide), rtol=1e-6, atol=1e-7)


def test_what_counts_as_a_square() -> None:
    x, y = sc.Arg(0, "float32"), sc.Arg(1, "float32")

    def times(a: sc.Scalar, b: sc.Scalar) -> sc.Scalar:
        return sc.apply("mul", a, b)

    def number(value: float) -> sc.Scalar:
        return sc.literal(value, "float32")

    square = times(x, x)
    assert _scaled_square(square) == (x, 1.0)
    assert _scaled_square(sc.apply("neg", square)) == (x, -1.0)
    assert _scaled_square(times(x, times(x, number(-0.5)))) == (x, -0.5)
    assert _scaled_square(sc.apply("div", sc.apply("neg", square), number(2.0))) == (x, -0.5)
    product = times(x, y)
    assert _scaled_square(times(times(product, product), number(3.0))) == (product, 3.0)
    for other in (x, times(x, y), times(square, y), times(square, number(0.0)), times(x, times(y, number(2.0)))):
        assert _scaled_square(other) is None
    assert _scaled_square(times(square, number(float("inf")))) is None
