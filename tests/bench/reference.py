"""Some outputs of a line in float64, straight from the definition."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from tests.bench.kernels import Array, Conv, Line, Matmul

SAMPLES: Final = 48
TOLERANCE: Final = 1e-4
"""Of sqrt(terms), the spread of a sum of products of standard normals. A float32 sum of 50,000 terms in the worst order
stays below a tenth of it; a sum that misses one term, or one in half precision, does not."""


def disagreement(line: Line, operands: tuple[Array, Array], result: Array) -> str:
    """What is wrong with a result; empty when its sampled outputs, the corners among them, are right."""
    wanted = _result_shape(line)
    if result.shape != wanted or result.dtype != np.float32:
        return f"the result is {result.dtype}{result.shape}, not float32{wanted}"
    first, second = (operand.astype("float64") for operand in operands)
    random = np.random.default_rng(0)
    corners = [tuple(0 for _ in wanted), tuple(extent - 1 for extent in wanted)]
    indices = corners + [tuple(int(random.integers(extent)) for extent in wanted) for _ in range(SAMPLES)]
    for index in indices:
        value, terms = _value(line, first, second, index)
        error = abs(float(result[index]) - value)
        if not error <= TOLERANCE * math.sqrt(max(terms, 1)):
            return f"at {index} it is {float(result[index]):.6g}, the reference {value:.6g}"
    return ""


def _result_shape(line: Line) -> tuple[int, ...]:
    return line.problem.shape({"matmul": "x", "fwd": "dy", "dgrad": "x", "wgrad": "w"}[line.task])


def _value(line: Line, first: Array, second: Array, index: tuple[int, ...]) -> tuple[float, int]:
    """(one output, the number of terms of its sum)"""
    problem = line.problem
    if isinstance(problem, Matmul):
        row, column = index
        return float(first[row] @ second[:, column]), problem.n
    return {"fwd": _forward, "dgrad": _input_gradient, "wgrad": _weight_gradient}[line.task](
        problem, first, second, index
    )


def _forward(conv: Conv, x: Array, w: Array, index: tuple[int, ...]) -> tuple[float, int]:
    n, k, p, q = index
    value, terms = 0.0, 0
    for r in range(conv.kernel):
        for s in range(conv.kernel):
            row, column = p * conv.stride + r - conv.padding, q * conv.stride + s - conv.padding
            if 0 <= row < conv.size and 0 <= column < conv.size:
                value += float(x[n, :, row, column] @ w[k, :, r, s])
                terms += conv.channels
    return value, terms


def _input_gradient(conv: Conv, dy: Array, w: Array, index: tuple[int, ...]) -> tuple[float, int]:
    n, c, row, column = index
    value, terms = 0.0, 0
    for r in range(conv.kernel):
        for s in range(conv.kernel):
            p, p_rest = divmod(row + conv.padding - r, conv.stride)
            q, q_rest = divmod(column + conv.padding - s, conv.stride)
            if p_rest == 0 and q_rest == 0 and 0 <= p < conv.out and 0 <= q < conv.out:
                value += float(dy[n, :, p, q] @ w[:, c, r, s])
                terms += conv.filters
    return value, terms


def _weight_gradient(conv: Conv, dy: Array, x: Array, index: tuple[int, ...]) -> tuple[float, int]:
    k, c, r, s = index
    value, terms = 0.0, 0
    columns = [q for q in range(conv.out) if 0 <= q * conv.stride + s - conv.padding < conv.size]
    taken = [q * conv.stride + s - conv.padding for q in columns]
    for p in range(conv.out):
        row = p * conv.stride + r - conv.padding
        if 0 <= row < conv.size and columns:
            value += float(np.sum(dy[:, k, p, columns] * x[:, c, row, taken]))
            terms += conv.batch * len(columns)
    return value, terms
