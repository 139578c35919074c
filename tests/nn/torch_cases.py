"""Layers and losses with options and shapes, computed by graphc and by PyTorch in the same way.

A case is built from the same names and arguments on both sides. Inputs and parameters follow from the case's name
alone, so that recorded values need no inputs beside them (`record_torch.py` records, `test_torch_values.py` compares).
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import graphc as gc

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """`layer`: a class of gc.nn and torch.nn, or a function of gc.nn and torch.nn.functional, with its arguments.

    inputs: float shapes; `labels`: (number of classes, shape) of an integer input after them; `shares`: inputs that are
    probabilities. steps: how many batches are seen in training before the last; training: the mode of the last.
    """

    layer: str
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[tuple[int, ...], ...] = ()
    labels: tuple[int, tuple[int, ...]] | None = None
    shares: tuple[int, ...] = ()
    call: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    training: bool = False

    @property
    def is_layer(self) -> bool:
        return self.layer[0].isupper()

    @property
    def name(self) -> str:
        parts = [*map(repr, self.arguments)]
        for name, value in {**self.options, **self.call}.items():
            parts.append(f"{name}={'array' if isinstance(value, np.ndarray) else repr(value)}")
        mode = "".join([f" after {self.steps}" if self.steps else "", " in training" if self.training else ""])
        return f"{self.layer}({', '.join(parts)}) of {self.inputs}{self.labels or ''}{mode}"


CHANNELS = ((2, 4, 7, 6),)
SEQUENCE = ((2, 4, 9),)
TOKENS = ((3, 5, 8),)  # (N, L, E) or (L, N, E)
CAUSAL = np.triu(np.ones((5, 5), dtype=bool), 1)
LEANING = np.random.default_rng(0).normal(size=(5, 5))
PADDING = np.array([[False] * 5, [False, False, True, True, True], [False] * 4 + [True]])
CLASS_WEIGHTS = np.array([0.5, 2.0, 0.0, 1.25])


def _layers() -> list[Case]:
    conv = [
        Case("Linear", (3, 4), {}, ((5, 3),)),
        Case("Linear", (3, 4), {"bias": False}, ((2, 5, 3),)),
        Case("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, SEQUENCE),
        Case("Conv1d", (4, 2, 3), {"padding": "same", "dilation": 2, "bias": False}, SEQUENCE),
        Case("Conv2d", (4, 6, 3), {"stride": 2, "padding": (1, 2), "groups": 2}, CHANNELS),
        Case("Conv2d", (4, 3, (3, 2)), {"padding": "valid", "dilation": (1, 2)}, CHANNELS),
        Case("ConvTranspose1d", (4, 6, 3), {"stride": 3, "output_padding": 1, "groups": 2}, SEQUENCE),
        Case("ConvTranspose1d", (4, 2, 4), {"padding": 2, "dilation": 2, "bias": False}, SEQUENCE),
        Case("ConvTranspose2d", (4, 3, 3), {"stride": 2, "padding": 1, "output_padding": (1, 0)}, CHANNELS),
        Case("ConvTranspose2d", (4, 4, (2, 3)), {"groups": 4, "dilation": 2}, CHANNELS),
    ]
    pools = [
        Case("MaxPool1d", (3,), {"stride": 2, "padding": 1, "dilation": 2}, SEQUENCE),
        Case("MaxPool1d", (2, 3), {"ceil_mode": True}, SEQUENCE),  # a fourth window would begin outside
        Case("AvgPool1d", (2, 3), {"ceil_mode": True, "padding": 1}, ((2, 4, 8),)),  # so here, but for the padding
        Case("MaxPool2d", (2,), {}, CHANNELS),
        Case("MaxPool2d", (3, 2), {"ceil_mode": True}, CHANNELS),
        Case("MaxPool2d", ((3, 2), (2, 3)), {"padding": 1, "ceil_mode": True}, CHANNELS),
        Case("AvgPool1d", (3, 2), {"padding": 1}, SEQUENCE),
        Case("AvgPool1d", (4, 3), {"ceil_mode": True, "padding": 1}, SEQUENCE),
        Case("AvgPool2d", (2,), {}, CHANNELS),
        Case("AvgPool2d", (3, 2), {"padding": 1, "ceil_mode": True}, CHANNELS),
        Case("AvgPool2d", (3, 2), {"padding": 1, "ceil_mode": True, "count_include_pad": False}, CHANNELS),
        Case("AdaptiveAvgPool2d", (1,), {}, CHANNELS),
        Case("AdaptiveAvgPool2d", ((None, 3),), {}, CHANNELS),
    ]
    norms = [
        Case("BatchNorm1d", (4,), {}, ((6, 4),), training=True),
        Case("BatchNorm1d", (4,), {"momentum": None}, SEQUENCE, steps=3, training=True),
        Case("BatchNorm1d", (4,), {"affine": False, "momentum": 0.3}, SEQUENCE, steps=2),
        Case("BatchNorm2d", (4,), {"eps": 1e-3}, CHANNELS, steps=2, training=True),
        Case("BatchNorm2d", (4,), {}, CHANNELS, steps=2),
        Case("BatchNorm2d", (4,), {"track_running_stats": False}, CHANNELS),
        Case("LayerNorm", ((7, 6),), {}, CHANNELS),
        Case("LayerNorm", (6,), {"bias": False, "eps": 1e-3}, CHANNELS),
        Case("GroupNorm", (2, 4), {}, CHANNELS),
        Case("GroupNorm", (4, 4), {"affine": False}, ((3, 4),)),
        Case("RMSNorm", ((7, 6),), {}, CHANNELS),
        Case("RMSNorm", (6,), {"eps": 1e-2, "elementwise_affine": False}, CHANNELS),
    ]
    activations = [Case(name, inputs=((3, 7),)) for name in "ReLU ReLU6 ELU Tanh Sigmoid SiLU GELU Hardtanh".split()]
    activations += [Case(name, inputs=((3, 7),)) for name in ("Hardsigmoid", "Hardswish")]
    activations += [
        Case("LeakyReLU", (0.1,), {}, ((3, 7),)),
        Case("GELU", (), {"approximate": "tanh"}, ((3, 7),)),
        Case("Hardtanh", (-0.3, 0.4), {}, ((3, 7),)),
        Case("Softplus", (2.5,), {}, ((3, 7),)),
        Case("PReLU", (), {}, CHANNELS),
        Case("PReLU", (4,), {}, CHANNELS),
        Case("PReLU", (4,), {}, ((3, 4),)),
        Case("Identity", inputs=((3, 7),)),
    ]
    rest = [
        Case("Embedding", (6, 3), {}, labels=(6, (4, 5))),
        Case("Embedding", (6, 3), {"padding_idx": -1}, labels=(6, (4, 5))),
        Case("RNNCell", (3, 4), {}, ((5, 3), (5, 4))),
        Case("RNNCell", (3, 4), {"nonlinearity": "relu", "bias": False}, ((5, 3),)),
        Case("LSTMCell", (3, 4), {}, ((5, 3),)),
        Case("GRUCell", (3, 4), {}, ((5, 3), (5, 4))),
        Case("GRUCell", (3, 4), {"bias": False}, ((3,), (4,))),
    ]
    return [*conv, *pools, *norms, *activations, *rest, *_attention()]


def _attention() -> list[Case]:
    name = "MultiheadAttention"
    encoder = {"dim_feedforward": 12, "dropout": 0.0, "batch_first": True}
    return [
        Case(name, (8, 2), {"batch_first": True}, TOKENS * 3),
        Case(name, (8, 2), {"batch_first": True}, TOKENS * 3, call={"attn_mask": LEANING, "need_weights": False}),
        Case(name, (8, 4), {}, ((5, 3, 8),) * 3, call={"attn_mask": CAUSAL}),
        Case(name, (8, 2), {"kdim": 3, "vdim": 5, "batch_first": True}, ((3, 4, 8), (3, 5, 3), (3, 5, 5))),
        Case(name, (8, 2), {"bias": False}, ((4, 8), (5, 8), (5, 8)), call={"average_attn_weights": False}),
        Case(name, (8, 2), {"batch_first": True}, TOKENS * 3, call={"key_padding_mask": PADDING}),
        Case("TransformerEncoderLayer", (8, 2), encoder, TOKENS),
        Case("TransformerEncoderLayer", (8, 2), encoder | {"norm_first": True, "activation": "gelu"}, TOKENS),
        Case("TransformerEncoderLayer", (8, 2), encoder, TOKENS, call={"src_mask": CAUSAL}),
    ]


def _losses() -> list[Case]:
    row, pair = ((6, 4),), ((6, 4), (6, 4))
    found = []
    for reduction in ("mean", "sum", "none"):
        mode = {"reduction": reduction}
        for options in (
            {},
            {"weight": CLASS_WEIGHTS},
            {"ignore_index": 1},
            {"label_smoothing": 0.2},
            {"weight": CLASS_WEIGHTS, "ignore_index": 3, "label_smoothing": 0.1},
        ):
            found.append(Case("cross_entropy", (), mode | options, row, labels=(4, (6,))))
            if "label_smoothing" not in options:
                found.append(Case("nll_loss", (), mode | options, row, labels=(4, (6,))))
        found += [
            Case("cross_entropy", (), mode | {"ignore_index": 0}, ((2, 3, 4, 2),), labels=(3, (2, 4, 2))),
            Case("cross_entropy", (), mode | {"weight": CLASS_WEIGHTS, "label_smoothing": 0.3}, pair, shares=(1,)),
            Case("binary_cross_entropy", (), mode, pair, shares=(0, 1)),
            Case("binary_cross_entropy_with_logits", (), mode | {"pos_weight": CLASS_WEIGHTS}, pair, shares=(1,)),
            Case("binary_cross_entropy_with_logits", (), mode, pair, shares=(1,)),
            Case("kl_div", (), mode, pair, shares=(1,)),
            Case("huber_loss", (), mode | {"delta": 0.7}, pair),
            Case("smooth_l1_loss", (), mode | {"beta": 0.4}, pair),
            Case("smooth_l1_loss", (), mode | {"beta": 0.0}, pair),
            Case("l1_loss", (), mode, pair),
            Case("mse_loss", (), mode, pair),
            Case("multi_margin_loss", (), mode | {"p": 2, "margin": 0.6}, row, labels=(4, (6,))),
        ]
    return found


LAYERS, LOSSES = _layers(), _losses()


# --- Values ---------------------------------------------------------------------------------------------------------


def rng_of(case: Case, what: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{what} of {case.name}".encode()))


def inputs_of(case: Case, batch: int) -> list[Array]:
    """Inputs of one batch, float64; labels last."""
    rng = rng_of(case, f"batch {batch}")
    found: list[Array] = []
    for place, shape in enumerate(case.inputs):
        values = rng.uniform(0.05, 0.95, shape) if place in case.shares else 1 + 2 * rng.normal(size=shape)
        found.append(values / values.sum(1, keepdims=True) if case.layer == "cross_entropy" and place else values)
    if case.labels is not None:
        found.append(rng.integers(0, case.labels[0], case.labels[1]))
    return found


def parameter_values(case: Case, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    return {name: 0.7 * rng_of(case, name).normal(size=shape) for name, shape in shapes.items()}


def weighting(case: Case, place: int, shape: tuple[int, ...]) -> Array:
    return rng_of(case, f"weighting {place}").normal(size=shape)


def tensors_in(result: Any) -> list[Any]:
    return [one for one in (result if isinstance(result, (tuple, list)) else [result]) if one is not None]


def states_in(layer: Any) -> dict[str, Any]:
    names = ("running_mean", "running_var", "num_batches_tracked")
    return {name: one for name in names if (one := getattr(layer, name, None)) is not None}


# --- graphc ---------------------------------------------------------------------------------------------------------


def by_graphc(case: Case, dtype: str, backend: str) -> dict[str, Array]:
    """Outputs, gradients of a weighted sum in inputs and parameters, and states, by name."""
    arrays = inputs_of(case, case.steps)
    leaves = [
        gc.input(f"x{n}", array.shape, dtype=dtype if array.dtype.kind == "f" else "int64")
        for n, array in enumerate(arrays)
    ]
    layer: Any = None
    function: Callable[..., Any]
    if case.is_layer:
        kind = getattr(gc.nn, case.layer)
        makes = {"dtype": dtype} if "dtype" in inspect.signature(kind).parameters else {}
        layer = kind(*case.arguments, **case.options, **makes)
        named = layer.named_parameters()
        for name, value in parameter_values(case, {name: p.shape for name, p in named}).items():
            dict(named)[name].value = value
        function = layer
    else:
        named = []
        function = lambda *args, training: getattr(gc.nn, case.layer)(*args, **case.options)  # noqa: E731
    for batch in range(case.steps):
        step = gc.compile(leaves, tensors_in(function(*leaves, training=True, **case.call)), backend=backend)
        step(*(array.astype(leaf.dtype) for array, leaf in zip(inputs_of(case, batch), leaves, strict=True)))
    outputs = tensors_in(function(*leaves, training=case.training, **case.call))
    loss = sum(gc.sum(y * weighting(case, n, y.shape).astype(dtype)) for n, y in enumerate(outputs))
    wanted = {f"grad.x{n}": leaf for n, leaf in enumerate(leaves) if leaf.dtype == dtype}
    wanted |= {f"grad.{name}": parameter for name, parameter in named}
    compiled = gc.compile(leaves, [*outputs, *gc.grad(loss, list(wanted.values()))], backend=backend)
    values = compiled(*(array.astype(leaf.dtype) for array, leaf in zip(arrays, leaves, strict=True)))
    names = [f"y{n}" for n in range(len(outputs))] + list(wanted)
    found = dict(zip(names, values, strict=True))
    return found | {name: one.value for name, one in states_in(layer).items()}


# --- PyTorch --------------------------------------------------------------------------------------------------------


def by_torch(case: Case) -> dict[str, Array]:
    """The same by PyTorch, in float64."""
    import torch  # in few environments

    def tensor(value: Any) -> Any:
        return torch.tensor(value) if isinstance(value, np.ndarray) else value

    options = {name: tensor(value) for name, value in case.options.items()}
    call = {name: tensor(value) for name, value in case.call.items()}
    arrays = inputs_of(case, case.steps)
    leaves = [torch.tensor(array, requires_grad=array.dtype.kind == "f") for array in arrays]
    layer: Any = None
    if case.is_layer:
        layer = getattr(torch.nn, case.layer)(*case.arguments, **options).double().train()
        named = list(layer.named_parameters())
        for name, value in parameter_values(case, {name: tuple(p.shape) for name, p in named}).items():
            dict(named)[name].data = torch.tensor(value)
        function = layer
    else:
        named = []
        function = lambda *args: getattr(torch.nn.functional, case.layer)(*args, **options)  # noqa: E731
    for batch in range(case.steps):
        function(*(torch.tensor(array) for array in inputs_of(case, batch)), **call)
    if layer is not None and (case.steps or case.layer.startswith("BatchNorm")):
        layer.train(case.training)
    outputs = tensors_in(function(*leaves, **call))
    loss = sum((y * torch.tensor(weighting(case, n, tuple(y.shape)))).sum() for n, y in enumerate(outputs))
    wanted = {f"grad.x{n}": leaf for n, leaf in enumerate(leaves) if leaf.requires_grad}
    wanted |= {f"grad.{name}": parameter for name, parameter in named}
    gradients = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True, materialize_grads=True)
    found = {f"y{n}": y.detach().numpy() for n, y in enumerate(outputs)}
    found |= {name: gradient.numpy() for name, gradient in zip(wanted, gradients, strict=True)}
    return found | {name: one.numpy().copy() for name, one in states_in(layer).items()}


SUMS = 6
WHOLE = 16  # elements up to which an array is recorded as it is


def digest(case: Case, name: str, array: Array) -> Array:
    """The array, or, where it is large, some sums of its elements with random factors: none can be wrong unseen."""
    if array.size <= WHOLE:
        return array
    return rng_of(case, f"sums of {name}").normal(size=(SUMS, array.size)) @ array.ravel().astype(np.float64)


# PyTorch's kernel for this gradient multiplies float64 numbers by 1.0f / 6.0f.
BOUNDS = {"Hardsigmoid": 1e-7}


def assert_agree(case: Case, ours: Mapping[str, Array], theirs: Mapping[str, Array], dtype: str) -> None:
    """float64 to 1e-10, float32 to 1e-4, of the size of the array."""
    assert set(ours) == set(theirs)
    bound = BOUNDS.get(case.layer, 1e-10) if dtype == "float64" else 1e-4
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        size = float(np.abs(expected).max(initial=0)) or 1.0
        np.testing.assert_allclose(ours[name], expected, rtol=bound, atol=bound * max(size, 1.0), err_msg=name)
