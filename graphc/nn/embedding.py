"""Embedding: a table of vectors, looked up by number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphc.errors import ArgumentError, DTypeError
from graphc.lang import arrays, elementwise
from graphc.lang.calculus import stop_gradient
from graphc.lang.source import named_op, user_line
from graphc.lang.tensor import Array, Tensor, Variable, as_tensor
from graphc.nn.init import RandomInitialiser, Seed, normal
from graphc.nn.layers import Layer, whole


@named_op
def embedding(indices: Tensor, weight: Tensor) -> Tensor:
    """Row i of weight for each whole number i, under a name that an error can tell."""
    return arrays.take(weight, indices, axis=0)


class Embedding(Layer):
    """Row i of weight for each whole number i: (...) gives (..., embedding_dim).

    weight: (num_embeddings, embedding_dim), standard normal at first, as in PyTorch. An index outside
    0 .. num_embeddings-1 makes the call of the compiled function fail with `ArgumentError` before anything is written.
    padding_idx: a row, counted from the end if negative, that is zeros at first and gets no gradient.
    Errors: `ArgumentError` for bad options, `DTypeError` for an input that is not of whole numbers.

    >>> import graphc as gc
    >>> gc.nn.Embedding(10_000, 64)(gc.input("words", ("N", 20), dtype="int64"))
    <Tensor float32(N, 20, 64)>
    """

    weight: Variable

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        self.num_embeddings = whole("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = whole("Embedding", "embedding_dim", embedding_dim)
        if padding_idx is not None:
            place = whole("Embedding", "padding_idx", padding_idx, least=-num_embeddings)
            if place >= num_embeddings:
                raise ArgumentError(
                    f"Embedding: padding_idx {padding_idx} is outside of {num_embeddings} rows", user_line()
                )
            padding_idx = place % num_embeddings
        self.padding_idx = padding_idx
        self.declare("weight", (num_embeddings, embedding_dim), _first_rows(seed, padding_idx), dtype)

    def forward(self, indices: Tensor) -> Tensor:
        """(...) of whole numbers to (..., embedding_dim)."""
        at = as_tensor(indices, "Embedding")
        if at.dtype not in ("int32", "int64"):
            raise DTypeError(f"the input must be of whole numbers (int32 or int64), not {at.dtype}", user_line())
        rows = embedding(at, self.weight)
        if self.padding_idx is None:
            return rows
        is_padding = arrays.expand_dims(at == self.padding_idx, -1)
        return elementwise.where(is_padding, stop_gradient(rows), rows)

    def describe(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


def _first_rows(seed: Seed, padding_idx: int | None) -> RandomInitialiser:
    """Standard normal rows, that of the padding zeros."""
    plain = normal(1.0, seed)

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        rows = plain.draw(rng, shape)
        if padding_idx is not None:
            rows[padding_idx] = 0
        return rows

    return replace(plain, draw=draw)
