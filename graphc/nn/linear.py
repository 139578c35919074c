"""Dense layers: Linear, Maxout; Identity and Flatten."""

from __future__ import annotations

from graphc.errors import ShapeError
from graphc.lang import arrays, reduce
from graphc.lang.linear import contract
from graphc.lang.source import named_op, user_line
from graphc.lang.tensor import Tensor, Variable, as_tensor
from graphc.nn.init import Seed, fan_in_uniform
from graphc.nn.layers import Layer, bounded, check_extent, seeds, whole


@named_op
def matmul_transposed(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T as one line, y[..., o] = sum[k] x[..., k] * weight[o, k].

    Without a transpose between, the gradient in the weight is made in the weight's own layout.
    """
    rank = x.ndim
    domain = (*x.shape[:-1], weight.shape[0], weight.shape[1])
    lead = range(rank - 1)
    reads = ((*lead, rank), (rank - 1, rank))
    return Tensor(contract(domain, domain[:-1], range(rank), (x.node, weight.node), reads))


class Linear(Layer):
    """x @ weight.T + bias on the last axis: (..., in_features) gives (..., out_features).

    weight: (out_features, in_features), bias: (out_features,), both uniform over +-1/sqrt(in_features) at first, as
    in PyTorch. `seed` fixes both (`graphc.nn.init` says what None means). Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.Linear(784, 128)(gc.input("x", ("N", 784)))
    <Tensor float32(N, 128)>
    """

    weight: Variable
    bias: Variable | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, seed: Seed = None, dtype: str = "float32"
    ) -> None:
        self.in_features = whole("Linear", "in_features", in_features)
        self.out_features = whole("Linear", "out_features", out_features)
        self.has_bias = bool(bias)
        first, second = seeds(seed, 2)
        self.declare("weight", (out_features, in_features), fan_in_uniform(first, layout="oi"), dtype)
        if bias:
            self.declare("bias", (out_features,), bounded(in_features, second), dtype)
        else:
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        x = as_tensor(x, "Linear")
        check_extent(x, -1, self.in_features, "features", "its last axis")
        y = matmul_transposed(x, self.weight)
        return y if self.bias is None else y + self.bias

    def describe(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.has_bias else ", bias=False")


class Maxout(Layer):
    """max(w1 x + b1, w2 x + b2, ...) on the last axis, elementwise: (..., in_features) gives (..., out_features).

    weight: (pieces, out_features, in_features), bias: (pieces, out_features), with first values as in `Linear`.
    Source: I. Goodfellow et al., Maxout networks, arXiv:1302.4389. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.Maxout(784, 128, pieces=4)(gc.input("x", ("N", 784)))
    <Tensor float32(N, 128)>
    """

    weight: Variable
    bias: Variable

    def __init__(
        self, in_features: int, out_features: int, pieces: int = 2, seed: Seed = None, dtype: str = "float32"
    ) -> None:
        self.in_features = whole("Maxout", "in_features", in_features)
        self.out_features = whole("Maxout", "out_features", out_features)
        self.pieces = whole("Maxout", "pieces", pieces)
        first, second = seeds(seed, 2)
        self.declare("weight", (pieces, out_features, in_features), bounded(in_features, first), dtype)
        self.declare("bias", (pieces, out_features), bounded(in_features, second), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        x = as_tensor(x, "Maxout")
        check_extent(x, -1, self.in_features, "features", "its last axis")
        rows = arrays.reshape(self.weight, (self.pieces * self.out_features, self.in_features))
        y = arrays.reshape(matmul_transposed(x, rows), (*x.shape[:-1], self.pieces, self.out_features))
        return reduce.max(y + self.bias, axis=-2)

    def describe(self) -> str:
        return f"{self.in_features}, {self.out_features}, pieces={self.pieces}"


class Identity(Layer):
    """x as it is: what stands where a layer is left out."""

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        return as_tensor(x, "Identity")


class Flatten(Layer):
    """The axes from `start` on in one: (N, C, H, W) gives (N, C*H*W).

    >>> import graphc as gc
    >>> gc.nn.Flatten()(gc.input("x", ("N", 16, 5, 5)))
    <Tensor float32(N, 400)>
    """

    def __init__(self, start: int = 1) -> None:
        self.start = whole("Flatten", "start", start, least=0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to (N, product)."""
        x = as_tensor(x, "Flatten")
        if x.ndim < self.start:
            raise ShapeError(f"the input has {x.ndim} axes, at least {self.start} are expected", user_line())
        return arrays.flatten(x, self.start)

    def describe(self) -> str:
        return "" if self.start == 1 else str(self.start)
