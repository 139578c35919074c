"""Attention with several heads, and the encoder layer made of it, with PyTorch's names, defaults and first values.

Source: A. Vaswani et al., Attention is all you need, arXiv:1706.03762.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.extent import Extent
from graphc.lang import activations, arrays, elementwise, reduce
from graphc.lang.linear import einsum
from graphc.lang.source import user_line
from graphc.lang.tensor import Tensor, TensorLike, Variable, as_tensor
from graphc.nn.dropout import Dropout
from graphc.nn.init import Seed, xavier_uniform, zeros
from graphc.nn.layers import Layer, float_tensor, options, seeds, whole
from graphc.nn.linear import Identity, Linear, matmul_transposed
from graphc.nn.norm import LayerNorm


def _dropout(p: float) -> Layer:
    """A dropout, or what does nothing and needs no counter."""
    return Dropout(p) if p else Identity()


class MultiheadAttention(Layer):
    """softmax(Q K^T / sqrt(d)) V for each of num_heads slices of width d = embed_dim / num_heads, joined and projected.

    Called as layer(query, key, value): (L, N, embed_dim), (S, N, kdim) and (S, N, vdim), with N first where
    batch_first, or without N. Returns the pair (output, weights): the output in the query's shape, the weights
    (N, L, S), their mean over the heads, or (N, num_heads, L, S) when average_attn_weights=False.

    attn_mask: (L, S) or (N * num_heads, L, S); bool, true where the query must not see the key, or numbers that are
    added to Q K^T / sqrt(d). key_padding_mask: bool (N, S) or (S,), true for keys that nobody sees. is_causal=True:
    query i sees the keys up to i. A query that sees no key gives NaN, as in PyTorch. dropout: the probability with
    which a weight is dropped in training.

    in_proj_weight: (3 embed_dim, embed_dim), the rows of Q, K and V; or, where kdim or vdim differ from embed_dim,
    q_proj_weight, k_proj_weight and v_proj_weight. in_proj_bias: (3 embed_dim,); out_proj: `Linear`. The first are
    Xavier uniform at first, biases are zeros. Errors: `ShapeError`, `DTypeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> x = gc.input("x", ("N", 10, 64))
    >>> y, weights = gc.nn.MultiheadAttention(64, 8, batch_first=True)(x, x, x, is_causal=True)
    >>> y, weights
    (<Tensor float32(N, 10, 64)>, <Tensor float32(N, 10, 10)>)
    """

    in_proj_weight: Variable | None
    in_proj_bias: Variable | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        name = "MultiheadAttention"
        self.embed_dim = whole(name, "embed_dim", embed_dim)
        self.num_heads = whole(name, "num_heads", num_heads)
        if embed_dim % num_heads:
            raise ArgumentError(f"{name}: embed_dim {embed_dim} does not divide into {num_heads} heads", user_line())
        self.kdim = embed_dim if kdim is None else whole(name, "kdim", kdim)
        self.vdim = embed_dim if vdim is None else whole(name, "vdim", vdim)
        self.dropout = _dropout(dropout)
        self.batch_first = bool(batch_first)
        draws = seeds(seed, 4)
        widths = {"q": embed_dim, "k": self.kdim, "v": self.vdim}
        if self.kdim == self.vdim == embed_dim:
            self.declare("in_proj_weight", (3 * embed_dim, embed_dim), xavier_uniform(draws[0], layout="oi"), dtype)
        else:
            self.in_proj_weight = None
            for (label, width), draw in zip(widths.items(), draws, strict=False):
                first = xavier_uniform(draw, layout="oi")
                self.declare(f"{label}_proj_weight", (embed_dim, width), first, dtype)
        if bias:
            self.declare("in_proj_bias", (3 * embed_dim,), zeros(), dtype)
        else:
            self.in_proj_bias = None
        self.out_proj = Linear(embed_dim, embed_dim, bias, seed=draws[3], dtype=dtype)
        if bias:
            self.out_proj.declare("bias", (embed_dim,), zeros(), dtype)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: TensorLike | None = None,
        need_weights: bool = True,
        attn_mask: TensorLike | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(L, N, embed_dim), (S, N, kdim), (S, N, vdim) to ((L, N, embed_dim), (N, L, S) or None)."""
        given = [float_tensor("MultiheadAttention", one) for one in (query, key, value)]
        self._check(given)
        batched = given[0].ndim == 3
        q, k, v = (self._batch_first(one) for one in self._projected(given))
        heads = self._heads(q), self._heads(k), self._heads(v)
        scores = einsum("nlhd,nshd->nhls", heads[0] / math.sqrt(self.embed_dim // self.num_heads), heads[1])
        scores = self._masked(scores, attn_mask, key_padding_mask, is_causal)
        weights = self.dropout(activations.softmax(scores, axis=-1))
        joined = arrays.reshape(einsum("nhls,nshd->nlhd", weights, heads[2]), q.shape)
        y = self.out_proj(joined)
        if not batched:
            y = arrays.squeeze(y, 0)
        elif not self.batch_first:
            y = arrays.swapaxes(y, 0, 1)
        if not need_weights:
            return y, None
        shown = reduce.mean(weights, axis=1) if average_attn_weights else weights
        return y, shown if batched else arrays.squeeze(shown, 0)

    def _check(self, given: list[Tensor]) -> None:
        """Errors: `ShapeError` unless the ranks, widths, batches and lengths fit."""
        query, key, value = given
        batch, time = (0, 1) if self.batch_first else (1, 0)
        for what, one, width in zip(
            ("query", "key", "value"), given, (self.embed_dim, self.kdim, self.vdim), strict=True
        ):
            if one.ndim not in (2, 3) or one.ndim != query.ndim:
                raise ShapeError(
                    f"the {what} has shape {one.shape}; 3 axes are expected, or 2 without a batch, as in the query "
                    f"{query.shape}",
                    user_line(),
                )
            if one.shape[-1] != width:
                raise ShapeError(f"the {what} has {one.shape[-1]} features, {width} are expected", user_line())
            if one.ndim == 3 and one.shape[batch] != query.shape[batch]:
                raise ShapeError(
                    f"the {what} has a batch of {one.shape[batch]}, the query one of {query.shape[batch]}", user_line()
                )
        time = time if query.ndim == 3 else 0
        if key.shape[time] != value.shape[time]:
            raise ShapeError(f"there are {key.shape[time]} keys, but {value.shape[time]} values", user_line())

    def _projected(self, given: list[Tensor]) -> list[Tensor]:
        """Q, K and V: from one product where all three are of one tensor."""
        width, bias = self.embed_dim, self.in_proj_bias
        weight = self.in_proj_weight
        if weight is not None and given[0].node is given[1].node is given[2].node:
            y = matmul_transposed(given[0], weight)
            return arrays.split(y if bias is None else y + bias, 3, axis=-1)
        found = []
        for place, (label, one) in enumerate(zip("qkv", given, strict=True)):
            rows = slice(place * width, (place + 1) * width)
            own = getattr(self, f"{label}_proj_weight") if weight is None else weight[rows]
            y = matmul_transposed(one, own)
            found.append(y if bias is None else y + bias[rows])
        return found

    def _batch_first(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return arrays.expand_dims(x, 0)
        return x if self.batch_first else arrays.swapaxes(x, 0, 1)

    def _heads(self, x: Tensor) -> Tensor:
        return arrays.reshape(x, (*x.shape[:2], self.num_heads, self.embed_dim // self.num_heads))

    def _masked(
        self, scores: Tensor, attn_mask: TensorLike | None, padding: TensorLike | None, is_causal: bool
    ) -> Tensor:
        batch, heads, queries, keys = scores.shape
        if attn_mask is not None:
            mask = as_tensor(attn_mask, "MultiheadAttention")
            shapes = ((queries, keys), (batch * heads, queries, keys))
            if mask.shape not in shapes:
                raise ShapeError(
                    f"attn_mask must have shape {shapes[0]} or {shapes[1]}, not {mask.shape}", user_line()
                )
            if mask.ndim == 3:
                mask = arrays.reshape(mask, scores.shape)
            scores = _hidden(scores, mask, "attn_mask")
        if is_causal:
            scores = elementwise.where(_is_later(queries, keys), -math.inf, scores)
        if padding is not None:
            mask = as_tensor(padding, "MultiheadAttention")
            if mask.shape != (batch, keys) and (mask.shape != (keys,) or batch != 1):
                raise ShapeError(f"key_padding_mask must have shape {(batch, keys)}, not {mask.shape}", user_line())
            scores = _hidden(scores, arrays.reshape(mask, (batch, 1, 1, keys)), "key_padding_mask")
        return scores

    def describe(self) -> str:
        known = {"kdim": self.embed_dim, "vdim": self.embed_dim, "batch_first": False}
        return f"{self.embed_dim}, {self.num_heads}" + options(self, known)


def _is_later(queries: Extent, keys: Extent) -> Tensor:
    """bool (L, S): whether key s comes after query l."""
    return arrays.expand_dims(arrays.arange(queries), 1) < arrays.arange(keys)


def _hidden(scores: Tensor, mask: Tensor, what: str) -> Tensor:
    """The scores, -inf where a bool mask is true; or with the numbers of the mask added."""
    if mask.dtype == "bool":
        return elementwise.where(mask, -math.inf, scores)
    if mask.dtype not in ("float32", "float64"):
        raise DTypeError(f"{what} must be bool or of floats, not {mask.dtype}", user_line())
    return scores + mask.astype(scores.dtype)


class TransformerEncoderLayer(Layer):
    """norm1(x + attention(x)), then norm2(x + linear2(activation(linear1(x)))); with norm_first, each norm inside:
    x + attention(norm1(x)), then x + linear2(activation(linear1(norm2(x)))).

    x: (L, N, d_model), or (N, L, d_model) where batch_first; the result has its shape. activation: "relu", "gelu" or a
    function. dropout applies to the weights of the attention, after the activation and to what is added.
    src_mask, src_key_padding_mask and is_causal: as `attn_mask`, `key_padding_mask` and `is_causal` of
    `MultiheadAttention`, which is `self_attn`. Errors: `ShapeError`, `ArgumentError`.

    >>> import graphc as gc
    >>> layer = gc.nn.TransformerEncoderLayer(64, 8, batch_first=True)
    >>> layer(gc.input("x", ("N", 10, 64)))
    <Tensor float32(N, 10, 64)>
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        seed: Seed = None,
        dtype: str = "float32",
    ) -> None:
        known: dict[str, Callable[[Tensor], Tensor]] = {"relu": activations.relu, "gelu": activations.gelu}
        if isinstance(activation, str) and activation not in known:
            raise ArgumentError(
                f'TransformerEncoderLayer: activation is "relu", "gelu" or a function, not {activation!r}', user_line()
            )
        self.activation = known[activation] if isinstance(activation, str) else activation
        self.d_model, self.nhead, self.norm_first = d_model, nhead, bool(norm_first)
        own = seeds(seed, 3)
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, seed=own[0], dtype=dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, seed=own[1], dtype=dtype)
        self.dropout = _dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, seed=own[2], dtype=dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = _dropout(dropout), _dropout(dropout)

    def forward(
        self,
        x: Tensor,
        src_mask: TensorLike | None = None,
        src_key_padding_mask: TensorLike | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The input's shape."""

        def attend(z: Tensor) -> Tensor:
            y, _ = self.self_attn(
                z, z, z, src_key_padding_mask, need_weights=False, attn_mask=src_mask, is_causal=is_causal
            )
            dropped: Tensor = self.dropout1(y)
            return dropped

        def feed(z: Tensor) -> Tensor:
            dropped: Tensor = self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(z)))))
            return dropped

        if self.norm_first:
            x = x + attend(self.norm1(x))
            return x + feed(self.norm2(x))
        x = self.norm1(x + attend(x))
        normal: Tensor = self.norm2(x + feed(x))
        return normal

    def describe(self) -> str:
        return f"{self.d_model}, {self.nhead}"
