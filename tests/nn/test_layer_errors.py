"""Wrong use of layers: what an error says, and that it names the place, the layer and the user's line."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, DTypeError, ShapeError


def call(layer, *shapes, dtype="float32", **options):
    leaves = [gc.input(f"x{n}", shape, dtype=dtype) for n, shape in enumerate(shapes)]
    return gc.nn.Sequential(gc.nn.Identity(), layer)[1](*leaves, **options)


attention = gc.nn.MultiheadAttention
WRONG = {
    r"Conv1d\(3, 8, 3\): the input has 4 channels, 3 are expected on axis 1": (gc.nn.Conv1d(3, 8, 3), (2, 4, 9)),
    r"Conv1d\(3, 8, 3\): the input has 4 axes, 3 are expected \(N, C, L\)": (gc.nn.Conv1d(3, 8, 3), (2, 3, 9, 9)),
    r"ConvTranspose2d\(3, 8, 3\): the input has 1 channels": (gc.nn.ConvTranspose2d(3, 8, 3), (2, 1, 9, 9)),
    r"ConvTranspose1d\(3, 1, 2, padding=2\): .*leaves an extent of 0": (
        gc.nn.ConvTranspose1d(3, 1, 2, padding=2), (1, 3, 3),
    ),
    r"MaxPool1d\(2\): the input has 2 axes, 3 are expected": (gc.nn.MaxPool1d(2), (2, 3)),
    r"AvgPool1d\(5, padding=1\): avg_pool1d: a window of 5 does not fit an axis of 2 padded by 1": (
        gc.nn.AvgPool1d(5, padding=1), (1, 1, 2),
    ),
    r"AdaptiveAvgPool2d\(\(2, 3\)\): an axis of 7 does not divide into 3": (
        gc.nn.AdaptiveAvgPool2d((2, 3)), (1, 1, 4, 7),
    ),
    r"AdaptiveAvgPool2d\(2\): an axis of H does not divide": (gc.nn.AdaptiveAvgPool2d(2), (1, 1, "H", 4)),
    r"GlobalAvgPool\(\): the input has 2 axes, at least 3": (gc.nn.GlobalAvgPool(), (2, 3)),
    r"GroupNorm\(2, 4\): the input has 3 channels, 4 are expected": (gc.nn.GroupNorm(2, 4), (2, 3, 5)),
    r"RMSNorm\(3, eps=None\): the input's last axes are \(4,\)": (gc.nn.RMSNorm(3), (2, 4)),
    r"PReLU\(3\): the input has 2 channels, 3 are expected": (gc.nn.PReLU(3), (5, 2)),
    r"Maxout\(3, 2, pieces=2\): the input has 4 features": (gc.nn.Maxout(3, 2), (5, 4)),
    r"GRUCell\(3, 2\): the input has 4 features, 3": (gc.nn.GRUCell(3, 2), (5, 4)),
    r"RNNCell\(3, 2\): the hidden state must have shape \(5, 2\), not \(4, 2\)": (
        gc.nn.RNNCell(3, 2), (5, 3), (4, 2),
    ),
    r"LSTMCell\(3, 2\): the input has 3 axes": (gc.nn.LSTMCell(3, 2), (1, 5, 3)),
    r"GraphConv\(3, 2\): the adjacency has shape \(4, 5\)": (gc.nn.GraphConv(3, 2), (4, 3), (4, 5)),
    r"linear1: Linear\(4, 4\): the input has 3 features": (gc.nn.ResidualBlock(4), (2, 3)),
    r"MultiheadAttention\(8, 2\): the key has 7 features, 8": (attention(8, 2), (5, 2, 8), (5, 2, 7), (5, 2, 8)),
    r"MultiheadAttention\(8, 2\): there are 5 keys, but 4 values": (
        attention(8, 2), (5, 2, 8), (5, 2, 8), (4, 2, 8),
    ),
    r"MultiheadAttention\(8, 2\): the value has a batch of 3": (attention(8, 2), (5, 2, 8), (5, 2, 8), (5, 3, 8)),
    r"MultiheadAttention\(8, 2\): the key has shape \(5, 8\); 3 axes": (attention(8, 2), (5, 2, 8), (5, 8), (5, 8)),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_shapes_name_the_place_the_layer_and_the_line(message):
    layer, *shapes = WRONG[message]
    with pytest.raises(ShapeError, match=rf"^1(: |\.)({message}).*\(.*test_layer_errors\.py:\d+\)$"):
        call(layer, *shapes)


def test_wrong_masks_and_dtypes():
    x = [(5, 2, 8)] * 3
    with pytest.raises(ShapeError, match=r"attn_mask must have shape \(5, 5\) or \(4, 5, 5\), not \(2, 5\)"):
        call(attention(8, 2), *x, attn_mask=np.zeros((2, 5), dtype=bool))
    with pytest.raises(ShapeError, match=r"key_padding_mask must have shape \(2, 5\), not \(5, 2\)"):
        call(attention(8, 2), *x, key_padding_mask=np.zeros((5, 2), dtype=bool))
    with pytest.raises(DTypeError, match="attn_mask must be bool or of floats, not int64"):
        call(attention(8, 2), *x, attn_mask=np.zeros((5, 5), dtype="int64"))
    with pytest.raises(DTypeError, match=r"^1: Embedding\(5, 2\): the input must be of whole numbers .*, not float32"):
        call(gc.nn.Embedding(5, 2), (3,))
    with pytest.raises(DTypeError, match=r"^1: Conv1d\(1, 1, 1\): the input must have a float dtype, not int64"):
        call(gc.nn.Conv1d(1, 1, 1), (1, 1, 1), dtype="int64")
    with pytest.raises(ArgumentError, match=r"^1: LSTMCell\(3, 2\): the state must be a pair"):
        call(gc.nn.LSTMCell(3, 2), (5, 3), (5, 2))


BAD = {
    "Conv1d: stride must be a whole number from 1 up, or 1 of them, not 0": lambda: gc.nn.Conv1d(1, 1, 3, stride=0),
    'Conv2d: padding is a whole number, "same" or "valid", not \'full\'': lambda: gc.nn.Conv2d(1, 1, 3, padding="full"),
    "ConvTranspose1d: padding is a whole number, not 'same'": lambda: gc.nn.ConvTranspose1d(1, 1, 3, padding="same"),
    "ConvTranspose2d: output_padding must be": lambda: gc.nn.ConvTranspose2d(1, 1, 3, output_padding=-1),
    "MaxPool2d: kernel_size must be a whole number from 1 up, or 2 of them, not 0": lambda: gc.nn.MaxPool2d(0),
    "AvgPool1d: padding must be": lambda: gc.nn.AvgPool1d(2, padding=-1),
    "MaxPool1d: dilation must be": lambda: gc.nn.MaxPool1d(2, dilation="2"),
    "AdaptiveAvgPool2d: output_size is": lambda: gc.nn.AdaptiveAvgPool2d((1, 2, 3)),
    "GroupNorm: 5 channels do not divide into 2 groups": lambda: gc.nn.GroupNorm(2, 5),
    "RMSNorm: eps must be a number from 0 up, not -1": lambda: gc.nn.RMSNorm(2, eps=-1),
    "LayerNorm: normalized_shape needs": lambda: gc.nn.LayerNorm(()),
    "BatchNorm1d: num_features must be": lambda: gc.nn.BatchNorm1d(0),
    "Embedding: padding_idx 5 is outside of 5 rows": lambda: gc.nn.Embedding(5, 2, padding_idx=5),
    "Embedding: num_embeddings must be": lambda: gc.nn.Embedding(0, 2),
    'RNNCell: nonlinearity is "tanh" or "relu", not': lambda: gc.nn.RNNCell(2, 2, nonlinearity="sin"),
    "GRUCell: hidden_size must be": lambda: gc.nn.GRUCell(2, -1),
    "MultiheadAttention: embed_dim 7 does not divide into 2 heads": lambda: gc.nn.MultiheadAttention(7, 2),
    "MultiheadAttention: kdim must be": lambda: gc.nn.MultiheadAttention(8, 2, kdim=0),
    "TransformerEncoderLayer: activation is": lambda: gc.nn.TransformerEncoderLayer(8, 2, activation="tanh"),
    "Hardtanh: min_val must be below max_val": lambda: gc.nn.Hardtanh(1, 0),
    "Softplus: beta must be above 0": lambda: gc.nn.Softplus(0),
    "PReLU: num_parameters must be": lambda: gc.nn.PReLU(0),
    "Maxout: pieces must be": lambda: gc.nn.Maxout(2, 2, pieces=0),
    "CrossEntropyLoss: there is no option 'smoothing'": lambda: gc.nn.CrossEntropyLoss(smoothing=0.1),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_options_name_the_layer_the_option_and_the_line(message):
    with pytest.raises(ArgumentError, match=rf"^{message}.*\(.*test_layer_errors\.py:\d+\)$"):
        BAD[message]()
