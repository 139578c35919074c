"""Functions that are printed above the generated function when it calls them."""

from __future__ import annotations

from collections.abc import Mapping

_STRIDED = '''
def strided(array, offset, shape, steps):
    """A view of a contiguous array: the element at d is element offset + sum(d * steps) of the array."""
    size = array.itemsize
    return np.ndarray(shape, array.dtype, array, offset * size, [step * size for step in steps])
'''

_CHECK_BOUNDS = '''
def check_bounds(indices, extent, op):
    """Raise IndexError when an index lies outside [0, extent); without its sign, a negative one lies far outside."""
    indices = np.asarray(indices)
    if indices.size and indices.view(f"u{indices.itemsize}").max() >= extent:
        bad = indices[(indices < 0) | (indices >= extent)].flat[0]
        raise IndexError(f"{op}: index {bad} is outside an axis of {extent}")
'''

# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969), 631-637; the
# coefficients are those of his CALERF (netlib, specfun). Each range is computed for all elements, then one is chosen.
_ERF_NEAR_ZERO = '''
def erf_near_zero(x):
    """The error function for |x| <= 0.46875, by W. J. Cody's rational approximation (Math. Comp. 23, 1969)."""
    small = np.minimum(np.abs(x), 0.46875)
    s = small * small
    top = ((((1.85777706184603153e-1 * s + 3.16112374387056560e0) * s + 1.13864154151050156e2) * s
            + 3.77485237685302021e2) * s + 3.20937758913846947e3)
    bottom = ((((s + 2.36012909523441209e1) * s + 2.44024637934444173e2) * s
               + 1.28261652607737228e3) * s + 2.84423683343917062e3)
    return x * (top / bottom)
'''

_SCALED_ERFC = '''
def scaled_erfc(y):
    """exp(y^2) (1 - erf(y)) for y >= 0.46875, by W. J. Cody's rational approximations (Math. Comp. 23, 1969)."""
    m = np.clip(y, 0.46875, 4.0)
    top = ((((((((2.15311535474403846e-8 * m + 5.64188496988670089e-1) * m + 8.88314979438837594e0) * m
                + 6.61191906371416295e1) * m + 2.98635138197400131e2) * m + 8.81952221241769090e2) * m
             + 1.71204761263407058e3) * m + 2.05107837782607147e3) * m + 1.23033935479799725e3)
    bottom = ((((((((m + 1.57449261107098347e1) * m + 1.17693950891312499e2) * m + 5.37181101862009858e2) * m
                  + 1.62138957456669019e3) * m + 3.29079923573345963e3) * m + 4.36261909014324716e3) * m
               + 3.43936767414372164e3) * m + 1.23033935480374942e3)
    middle = top / bottom
    f = np.maximum(y, 4.0)
    r = 1 / (f * f)
    top = (((((1.63153871373020978e-2 * r + 3.05326634961232344e-1) * r + 3.60344899949804439e-1) * r
             + 1.25781726111229246e-1) * r + 1.60837851487422766e-2) * r + 6.58749161529837803e-4)
    bottom = (((((r + 2.56852019228982242e0) * r + 1.87295284992346047e0) * r + 5.27905102951428412e-1) * r
               + 6.05183413124413191e-2) * r + 2.33520497626869185e-3)
    far = (5.6418958354775628695e-1 - r * top / bottom) / f
    return np.where(y <= 4, middle, far)
'''

_ERF = '''
def erf(x):
    """The error function."""
    dtype = np.asarray(x).dtype
    x = np.asarray(x, dtype=np.float64)
    y = np.abs(x)
    rest = np.exp(-y * y) * scaled_erfc(y)
    result = np.where(y <= 0.46875, erf_near_zero(x), np.copysign(1 - rest, x))
    return result.astype(dtype)
'''

# The square is taken of a number of few bits, exactly, and the rest is a factor of its own, as in Cody's CALERF: the
# rounding error of x^2/2 would cost x^2/2 units in the last place.
_NDTR = '''
def ndtr(x):
    """The standard normal distribution function."""
    dtype = np.asarray(x).dtype
    x = np.asarray(x, dtype=np.float64)
    y = x * np.sqrt(0.5)
    t = np.minimum(np.abs(x), 40.0)
    head = np.floor(t * 16) / 16
    density = np.exp(head * head * -0.5) * np.exp((head - t) * (head + t) * 0.5)
    tail = density * scaled_erfc(np.abs(y)) * 0.5
    result = np.where(np.abs(y) <= 0.46875, 0.5 + 0.5 * erf_near_zero(y), np.where(x < 0, tail, 1 - tail))
    return result.astype(dtype)
'''

# np.where takes a branch for each element: on masks without a pattern it is 3 to 15 times slower than this.
_ZERO_WHERE = '''
def zero_where(test, x):
    """np.where(test, 0, x), by bits and so without a branch; whatever x holds there, a NaN too, is gone."""
    bits = f"i{x.itemsize}"
    keep = test.astype(bits)
    keep -= 1
    keep &= x.view(bits)
    return keep.view(x.dtype)
'''

_ZERO_UNLESS = '''
def zero_unless(test, x):
    """np.where(test, x, 0), by bits and so without a branch; whatever x holds elsewhere, a NaN too, is gone."""
    bits = f"i{x.itemsize}"
    keep = test.astype(bits)
    np.negative(keep, out=keep)
    keep &= x.view(bits)
    return keep.view(x.dtype)
'''

HELPERS: Mapping[str, str] = {
    "strided": _STRIDED,
    "check_bounds": _CHECK_BOUNDS,
    "zero_where": _ZERO_WHERE,
    "zero_unless": _ZERO_UNLESS,
    "erf_near_zero": _ERF_NEAR_ZERO,
    "scaled_erfc": _SCALED_ERFC,
    "erf": _ERF,
    "ndtr": _NDTR,
}
