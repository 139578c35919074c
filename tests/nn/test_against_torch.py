"""Layers and losses against PyTorch itself over random shapes and options."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import graphc as gc
from tests.nn.torch_cases import CLASS_WEIGHTS, Case, assert_agree, by_graphc, by_torch

small = st.integers(1, 3)


def check(case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs = by_torch(case)
        except (RuntimeError, ValueError):  # PyTorch refuses the shapes: so must we
            with pytest.raises(gc.GraphcError):
                by_graphc(case, "float64", "numpy")
            return
    assert_agree(case, by_graphc(case, "float64", "numpy"), theirs, "float64")
    assert_agree(case, by_graphc(case, "float32", "llvm"), theirs, "float32")


@settings(max_examples=25)
@given(st.data(), st.integers(1, 2), st.booleans())
def test_convolutions(data, spatial, is_transposed):
    def per_axis(least, most):
        one = st.integers(least, most)
        return data.draw(st.one_of(one, st.tuples(*[one] * spatial)))

    groups = data.draw(small)
    channels = groups * data.draw(small), groups * data.draw(small)
    options = {
        "stride": per_axis(1, 3),
        "padding": per_axis(0, 2),
        "dilation": per_axis(1, 2),
        "groups": groups,
        "bias": data.draw(st.booleans()),
    }
    if is_transposed:
        options["output_padding"] = per_axis(0, 2)
    space = data.draw(st.tuples(*[st.integers(3, 7)] * spatial))
    name = f"Conv{'Transpose' if is_transposed else ''}{spatial}d"
    check(Case(name, (*channels, per_axis(1, 3)), options, ((data.draw(small), channels[0], *space),)))


@settings(max_examples=25)
@given(st.data(), st.integers(1, 2), st.booleans())
def test_pools(data, spatial, is_max):
    def per_axis(least, most):
        one = st.integers(least, most)
        return data.draw(st.one_of(one, st.tuples(*[one] * spatial)))

    options = {"stride": per_axis(1, 3), "padding": per_axis(0, 1), "ceil_mode": data.draw(st.booleans())}
    if is_max:
        options["dilation"] = per_axis(1, 2)
    else:
        options["count_include_pad"] = data.draw(st.booleans())
    space = data.draw(st.tuples(*[st.integers(3, 8)] * spatial))
    check(Case(f"{'Max' if is_max else 'Avg'}Pool{spatial}d", (per_axis(1, 4),), options, ((2, 3, *space),)))


@settings(max_examples=25)
@given(
    st.sampled_from([(5, 3), (4, 3, 6), (2, 3, 4, 5), (3, 3, 1, 2)]),
    st.sampled_from([0.1, 0.5, 1.0, None]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
    st.booleans(),
)
def test_batch_norm(shape, momentum, affine, tracked, steps, training):
    name = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    options = {"momentum": momentum, "affine": affine, "track_running_stats": tracked, "eps": 1e-4}
    check(Case(name, (3,), options, (shape,), steps=steps, training=training))


@settings(max_examples=25)
@given(
    st.sampled_from([((6, 4), (6,)), ((3, 4, 5), (3, 5)), ((4,), ())]),
    st.sampled_from(["mean", "sum", "none"]),
    st.booleans(),
    st.sampled_from([None, 0, 3]),
    st.sampled_from([0.0, 0.1, 1.0]),
)
def test_cross_entropy(shapes, reduction, is_weighted, ignore_index, smoothing):
    options = {"reduction": reduction, "label_smoothing": smoothing}
    options |= {"weight": CLASS_WEIGHTS} if is_weighted else {}
    options |= {} if ignore_index is None else {"ignore_index": ignore_index}
    case = Case("cross_entropy", (), options, (shapes[0],), labels=(4, shapes[1]))
    theirs = by_torch(case)
    assume(all(np.isfinite(value).all() for value in theirs.values()))  # all ignored: 0/0 on both sides
    check(case)


@settings(max_examples=25)
@given(small, small, st.integers(1, 5), st.integers(1, 5), st.booleans(), st.booleans(), st.sampled_from([None, 3]))
def test_attention(heads, width, queries, keys, batch_first, bias, kdim):
    embed = heads * width
    sizes = [(queries, embed), (keys, kdim or embed), (keys, embed)]
    shapes = tuple((2, time, e) if batch_first else (time, 2, e) for time, e in sizes)
    check(Case("MultiheadAttention", (embed, heads), {"batch_first": batch_first, "bias": bias, "kdim": kdim}, shapes))


@settings(max_examples=25)
@given(st.sampled_from(["RNNCell", "LSTMCell", "GRUCell"]), small, small, st.booleans(), st.booleans())
def test_cells(name, inputs, hidden, bias, is_batch):
    lead = (4,) if is_batch else ()
    check(Case(name, (inputs, hidden), {"bias": bias}, ((*lead, inputs),)))


FIRST_VALUES = [
    ("Linear", (300, 200), {}),
    ("Conv1d", (64, 64, 3), {"groups": 2}),
    ("Conv2d", (32, 64, 5), {}),
    ("ConvTranspose1d", (64, 32, 5), {}),
    ("ConvTranspose2d", (32, 64, 3), {"groups": 4}),
    ("Embedding", (200, 50), {"padding_idx": 3}),
    ("LSTMCell", (60, 80), {}),
    ("GRUCell", (60, 80), {}),
    ("RNNCell", (90, 80), {}),
    ("MultiheadAttention", (96, 4), {}),
    ("MultiheadAttention", (96, 4), {"kdim": 30, "vdim": 40}),
    ("BatchNorm2d", (7,), {}),
    ("LayerNorm", (7,), {}),
    ("GroupNorm", (2, 8), {}),
    ("RMSNorm", (7,), {}),
    ("PReLU", (5,), {}),
    ("TransformerEncoderLayer", (32, 4), {"dim_feedforward": 64}),
]


@pytest.mark.parametrize("name, arguments, options", FIRST_VALUES, ids=lambda value: str(value))
def test_names_shapes_and_first_values_are_pytorchs(name, arguments, options):
    torch.manual_seed(0)
    theirs = dict(getattr(torch.nn, name)(*arguments, **options).named_parameters())
    ours = dict(getattr(gc.nn, name)(*arguments, **options).named_parameters())
    assert {key: p.shape for key, p in ours.items()} == {key: tuple(p.shape) for key, p in theirs.items()}
    for key, parameter in theirs.items():
        expected, value = parameter.detach().numpy(), ours[key].value
        spread = expected.std()
        assert abs(value.mean() - expected.mean()) <= 6 * spread / math.sqrt(value.size)
        assert value.std() == pytest.approx(spread, rel=0.02 + 3 / math.sqrt(value.size))
        if spread and name != "Embedding":  # uniform: the bounds are nearly reached
            assert np.abs(value).max() == pytest.approx(np.abs(expected).max(), rel=10 / value.size + 0.01)
