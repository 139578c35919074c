"""Message passing over a graph that is given as an adjacency matrix."""

from __future__ import annotations

from graphc.errors import ShapeError
from graphc.lang import arrays, elementwise, reduce
from graphc.lang.linear import matmul
from graphc.lang.source import named_op, user_line
from graphc.lang.tensor import Tensor, TensorLike, Variable, as_tensor
from graphc.nn.init import Seed, xavier_uniform, zeros
from graphc.nn.layers import Layer, check_extent, float_tensor, whole
from graphc.nn.linear import matmul_transposed


@named_op
def normalised_adjacency(adjacency: TensorLike) -> Tensor:
    """D^(-1/2) (A + I) D^(-1/2), with D the row sums of A + I: (..., n, n) gives (..., n, n).

    Row sums must be above 0, as they are where no edge has a negative weight.
    Source: T. Kipf, M. Welling, Semi-supervised classification with graph convolutional networks, arXiv:1609.02907.

    >>> import graphc as gc
    >>> gc.evaluate(gc.nn.normalised_adjacency(gc.constant([[0.0, 1.0], [1.0, 0.0]])), {})
    array([[0.49999997, 0.49999997],
           [0.49999997, 0.49999997]], dtype=float32)
    """
    matrix = as_tensor(adjacency, "normalised_adjacency")
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ShapeError(f"normalised_adjacency: a square matrix is needed, the shape is {matrix.shape}")
    if matrix.dtype not in ("float32", "float64"):
        matrix = matrix.astype("float32")
    looped = matrix + arrays.eye(matrix.shape[-1], matrix.dtype)
    root = elementwise.rsqrt(reduce.sum(looped, axis=-1, keepdims=True))
    return looped * root * arrays.swapaxes(root, -1, -2)


class GraphConv(Layer):
    """adjacency @ (features @ weight.T) + bias: each node's new features are a sum over its neighbours.

    Called as layer(features, adjacency) with features (..., n, in_features) and adjacency (..., n, n), of which element
    [i, j] is the weight of what node j sends to node i. normalise: the adjacency as `normalised_adjacency` makes it,
    with a loop at each node; otherwise as it is given. weight: (out_features, in_features), Xavier uniform at first,
    bias: (out_features,), zeros. Source: as there. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> gc.nn.GraphConv(16, 8)(gc.input("x", ("V", 16)), gc.input("A", ("V", "V")))
    <Tensor float32(V, 8)>
    """

    weight: Variable
    bias: Variable | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        normalise: bool = True,
        bias: bool = True,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        self.in_features = whole("GraphConv", "in_features", in_features)
        self.out_features = whole("GraphConv", "out_features", out_features)
        self.normalise, self.has_bias = bool(normalise), bool(bias)
        self.declare("weight", (out_features, in_features), xavier_uniform(seed, layout="oi"), dtype)
        if bias:
            self.declare("bias", (out_features,), zeros(), dtype)
        else:
            self.bias = None

    def forward(self, features: Tensor, adjacency: Tensor) -> Tensor:
        """(..., n, in_features) and (..., n, n) to (..., n, out_features)."""
        x, matrix = float_tensor("GraphConv", features), as_tensor(adjacency, "GraphConv")
        check_extent(x, -1, self.in_features, "features", "its last axis")
        if x.ndim < 2 or matrix.ndim < 2 or matrix.shape[-2:] != (x.shape[-2], x.shape[-2]):
            raise ShapeError(
                f"the adjacency has shape {matrix.shape}; for features of shape {x.shape} its last two extents "
                "must be the number of nodes",
                user_line(),
            )
        matrix = normalised_adjacency(matrix) if self.normalise else matrix
        y = matmul(matrix.astype(x.dtype), matmul_transposed(x, self.weight))
        return y if self.bias is None else y + self.bias

    def describe(self) -> str:
        text = f"{self.in_features}, {self.out_features}" + ("" if self.normalise else ", normalise=False")
        return text + ("" if self.has_bias else ", bias=False")
