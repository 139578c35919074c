"""The functions of section B beside their definitions in NumPy and SciPy, by row."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

import graphc as gc

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """ours: of tensors; theirs: the same of arrays; both are called with the arrays, or inputs of their shapes."""

    ours: Callable[..., gc.Tensor]
    theirs: Callable[..., Any]
    arrays: tuple[Array, ...]


RNG = np.random.default_rng(0)
LABELS = np.array([0, 3, 1, 2, 2])
PLACES = np.array([[2, 0, 2], [3, 1, 2]])  # some occur twice


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape)


def away_from_kinks(*shape: int) -> Array:
    """Numbers with a distance from 0, where activations bend; some are large."""
    values = RNG.uniform(0.1, 2.5, shape) * RNG.choice([-1.0, 1.0], shape)
    values.flat[:4] = (-20, 20, -4.5, 4.5)
    return values


def shares(*shape: int) -> Array:
    return RNG.uniform(0.05, 0.95, shape)


X = away_from_kinks(3, 7)
Z, U = normal(5, 4), normal(5, 4)
P, Q = (special.softmax(normal(5, 4), axis=1) for _ in range(2))
T3, M = normal(2, 3, 4), normal(4, 6)


def of(ours: Any, theirs: Any, *arrays: Array) -> Case:
    return Case(ours, theirs, arrays or (X,))


def same(function: Callable[..., Any], *arrays: Array) -> Case:
    """One expression for both, of operators alone."""
    return Case(function, function, arrays)


def over_axes(name: str, **options: Any) -> list[Case]:
    ours, theirs = getattr(gc, name), getattr(np, name)
    choices: list[dict[str, Any]] = [{}, {"axis": 1}, {"axis": (0, 2)}, {"axis": -1, "keepdims": True}]
    return [of(lambda x, o=o: ours(x, **o, **options), lambda x, o=o: theirs(x, **o, **options), T3) for o in choices]


def swish_line(x: Array) -> Array:
    return np.clip(x / 6 + 0.5, 0, 1)


def hinge(scores: Array) -> Array:
    """For each row the sum over j != y of max(0, s_j - s_y + 1)."""
    return np.array(
        [
            sum(max(0.0, s[j] - s[y] + 1) for j in range(len(s)) if j != y)
            for s, y in zip(scores, LABELS, strict=True)
        ]
    )


def binary(p: Array, t: Array) -> Array:
    return -(special.xlogy(t, p) + special.xlog1py(1 - t, -p))


ACTIVATIONS = {
    "B.sigmoid": [of(gc.sigmoid, special.expit)],
    "B.tanh": [of(gc.tanh, np.tanh)],
    "B.relu": [of(gc.relu, lambda x: np.maximum(x, 0))],
    "B.leaky_relu": [
        of(gc.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
        of(lambda x: gc.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    ],
    "B.prelu": [
        of(gc.prelu, lambda x, a: np.where(x > 0, x, a * x), X, normal(7)),
        of(gc.prelu, lambda x, a: np.where(x > 0, x, a * x), X, np.array(0.25)),
    ],
    "B.elu": [
        of(gc.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
        of(lambda x: gc.elu(x, 0.3), lambda x: np.where(x > 0, x, 0.3 * np.expm1(x))),
    ],
    "B.maxout": [
        of(
            lambda x, v, b, w, c: gc.maxout([x @ v + b, x @ w + c]),
            lambda x, v, b, w, c: np.maximum(x @ v + b, x @ w + c),
            *(normal(5, 3), normal(3, 4), normal(4), normal(3, 4), normal(4)),
        )
    ],
    "B.gelu": [
        of(gc.gelu, lambda x: x * special.ndtr(x)),
        of(
            lambda x: gc.gelu(x, "tanh"),
            lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        ),
    ],
    "B.softplus": [of(gc.softplus, lambda x: np.logaddexp(0, x))],
    "B.softmax": [
        of(gc.softmax, lambda x: special.softmax(x, axis=-1)),
        of(lambda x: gc.softmax(x, axis=0), lambda x: special.softmax(x, axis=0)),
    ],
    "B.log_softmax": [
        of(gc.log_softmax, lambda x: special.log_softmax(x, axis=-1)),
        of(lambda x: gc.log_softmax(x, axis=0), lambda x: special.log_softmax(x, axis=0)),
    ],
    "B.hard": [
        of(gc.hard_sigmoid, swish_line),
        of(gc.hard_swish, lambda x: x * swish_line(x)),
        of(gc.hard_tanh, lambda x: np.clip(x, -1, 1)),
        of(gc.nn.ReLU6(), lambda x: np.clip(x, 0, 6)),
    ],
    "B.sin": [of(gc.sin, np.sin)],
    "B.cos": [of(gc.cos, np.cos)],
    "B.exp": [of(gc.exp, np.exp, normal(3, 7))],
}

LOSSES = {
    "B.squared_error": [
        of(gc.nn.squared_error, lambda p, t: ((p - t) ** 2).sum() / 2, Z, U),
        of(gc.nn.mse_loss, lambda p, t: ((p - t) ** 2).mean(), Z, U),
        of(lambda p, t: gc.nn.mse_loss(p, t, "sum"), lambda p, t: ((p - t) ** 2).sum(), Z, U),
    ],
    "B.l2": [
        of(lambda p, t: gc.sqrt(gc.sum((p - t) ** 2)), lambda p, t: np.linalg.norm(p - t), Z, U),
        of(lambda p, t: gc.sum((p - t) ** 2), lambda p, t: np.linalg.norm(p - t) ** 2, Z, U),
    ],
    "B.bce_logits": [
        of(
            lambda z, t: gc.nn.binary_cross_entropy_with_logits(z, t, reduction="none"),
            lambda z, t: binary(special.expit(z), t),
            *(Z, shares(5, 4)),
        )
    ],
    "B.bce_probabilities": [
        of(lambda p, t: gc.nn.binary_cross_entropy(p, t, reduction="none"), binary, shares(5, 4), shares(5, 4))
    ],
    "B.cross_entropy": [
        of(gc.nn.cross_entropy, lambda z, t: -special.log_softmax(z, axis=1)[range(5), t].mean(), Z, LABELS)
    ],
    "B.hinge": [
        of(gc.nn.multiclass_hinge_loss, lambda z, t: hinge(z).mean(), Z, LABELS),
        of(gc.nn.multi_margin_loss, lambda z, t: hinge(z).mean() / 4, Z, LABELS),
    ],
    "B.kl_div": [
        of(lambda p, q: gc.nn.kl_div(gc.log(p), q, "sum"), lambda p, q: special.rel_entr(q, p).sum(), P, Q)
    ],
    "B.gaussian_nll": [
        of(
            lambda m, t, v: gc.nn.gaussian_nll_loss(m, t, v, full=True),
            lambda m, t, v: -stats.norm.logpdf(t, m, np.sqrt(v)).mean(),
            *(Z, U, RNG.uniform(0.5, 2, (5, 4))),
        )
    ],
    "B.l1_penalty": [
        of(lambda a, b: gc.nn.l1_penalty([a, b], 0.1), lambda a, b: 0.1 * (np.abs(a).sum() + np.abs(b).sum()), X, Z)
    ],
    "B.l2_penalty": [
        of(lambda a, b: gc.nn.l2_penalty([a, b], 0.1), lambda a, b: 0.1 * ((a**2).sum() + (b**2).sum()), X, Z)
    ],
}

ARRAYS = {
    "B.broadcasting": [
        same(lambda x, y: x * y + y, normal(3, 1, 4), normal(5, 1)),
        same(lambda x, y: (x - 2) / (y * y + 1), normal(4), normal(2, 3, 1)),
        same(lambda x, y: y**2 - 3 * x, np.array(0.7), normal(2, 3)),
        of(lambda x: gc.broadcast_to(x, (2, 5, 3)), lambda x: np.broadcast_to(x, (2, 5, 3)), normal(5, 1)),
    ],
    "B.sum": over_axes("sum"),
    "B.mean": over_axes("mean"),
    "B.var": [*over_axes("var"), *over_axes("var", ddof=1)],
    "B.max": over_axes("max"),
    "B.min": over_axes("min"),
    "B.prod": over_axes("prod"),
    "B.argmax": [
        of(gc.argmax, np.argmax, T3),
        of(lambda x: gc.argmax(x, 1), lambda x: np.argmax(x, 1), T3),
        of(lambda x: gc.argmax(x, -1), lambda x: np.argmax(x, -1), np.ones((2, 3))),
    ],
    "B.matmul": [
        same(operator.matmul, T3, M),
        same(operator.matmul, normal(2, 1, 3, 4), normal(5, 4, 2)),
        same(operator.matmul, normal(4), M),
        same(operator.matmul, T3, normal(4)),
        same(operator.matmul, normal(4), normal(4)),
    ],
    "B.einsum": [
        of(lambda *a, s=s: gc.einsum(s, *a), lambda *a, s=s: np.einsum(s, *a), *arrays)
        for s, arrays in {
            "bij,jk->bik": (T3, M),
            "bij,bkj->ikb": (T3, normal(2, 5, 4)),
            "ij,jk,kl->il": (normal(2, 4), M, normal(6, 3)),
            "ii->i": (normal(4, 4),),
            "bij->jb": (T3,),
            "i,j->ij": (normal(3), normal(4)),
        }.items()
    ],
    "B.transpose": [
        of(lambda x, a=a: gc.transpose(x, a), lambda x, a=a: np.transpose(x, a), T3) for a in (None, (1, 2, 0))
    ],
    "B.reshape": [
        of(lambda x: gc.reshape(x, (-1, 6)), lambda x: np.reshape(x, (-1, 6)), T3),
        of(gc.flatten, lambda x: x.reshape(2, -1), T3),
    ],
    "B.concatenate": [
        of(lambda x, y, a=a: gc.concatenate([x, y, x], a), lambda x, y, a=a: np.concatenate([x, y, x], a), *arrays)
        for a, arrays in {0: (normal(2, 3), normal(4, 3)), -1: (normal(2, 3), normal(2, 5))}.items()
    ],
    "B.stack": [
        of(lambda x, y, a=a: gc.stack([x, y], a), lambda x, y, a=a: np.stack([x, y], a), normal(2, 3), normal(2, 3))
        for a in (0, 1, -1)
    ],
    "B.split": [
        of(lambda x, n=n: gc.split(x, 3, 1)[n], lambda x, n=n: np.split(x, 3, 1)[n], normal(2, 9)) for n in range(3)
    ]
    + [
        of(lambda x, n=n: gc.split(x, [2, 3], -1)[n], lambda x, n=n: np.split(x, [2, 3], -1)[n], T3) for n in range(3)
    ],
    "B.slices": [
        same(lambda x, index=index: x[index], normal(5, 6, 3))
        for index in (
            (slice(1, None), slice(None, None, 2)),
            (slice(None, None, -1), -1),
            (slice(4, 0, -2), slice(-4, -1), slice(0, 1)),
            (..., None, 1),
            (2, slice(5, None, -3)),
        )
    ],
    "B.pad": [
        of(lambda x: gc.pad(x, 2), lambda x: np.pad(x, 2), normal(3, 2)),
        of(
            lambda x: gc.pad(x, ((1, 2), (0, 3)), 1.5),
            lambda x: np.pad(x, ((1, 2), (0, 3)), constant_values=1.5),
            normal(3, 2),
        ),
    ],
    "B.where": [of(gc.where, np.where, normal(5, 7) > 0, normal(5, 7), normal(7))],
    "B.comparisons": [
        same(op, np.round(normal(4, 5)), np.round(normal(5)))
        for op in (operator.lt, operator.le, operator.gt, operator.ge)
    ]
    + [
        of(getattr(gc, name), getattr(np, name), np.round(normal(4, 5)), np.round(normal(5)))
        for name in ("equal", "not_equal")
    ],
    "B.clip": [
        of(lambda x: gc.clip(x, -0.5, 0.8), lambda x: np.clip(x, -0.5, 0.8)),
        of(lambda x: gc.clip(x, -0.5), lambda x: np.maximum(x, -0.5)),
        of(lambda x: gc.clip(x, None, 0.8), lambda x: np.minimum(x, 0.8)),
    ],
    "B.one_hot": [
        of(lambda i, x: gc.one_hot(i, 4, "float64") * x, lambda i, x: np.eye(4)[i] * x, LABELS, Z),
        of(lambda i: gc.one_hot(i, 4, "float64"), lambda i: np.eye(4)[i], PLACES),
    ],
    "B.take": [
        of(lambda x, i: gc.take(x, i, axis=0), lambda x, i: np.take(x, i, axis=0), normal(4, 2), PLACES),
        of(lambda x, i: gc.take(x, i, axis=1), lambda x, i: np.take(x, i, axis=1), normal(2, 4, 2), PLACES[0]),
        of(gc.take, np.take, normal(2, 3), PLACES),
        same(lambda x, i: x[i], normal(5, 2), LABELS),
    ],
    "B.cumsum": [
        of(lambda x, a=a: gc.cumsum(x, a), lambda x, a=a: np.cumsum(x, a), T3) for a in (None, 0, 1, -1)
    ],
}

CASES: dict[str, list[Case]] = ACTIVATIONS | LOSSES | ARRAYS
