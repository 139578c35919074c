"""Layers against their definitions: what a convolution is, what a block adds, what a gradient costs."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.compiler.cost import cost_of
from graphc.errors import ArgumentError, ArgumentTypeError, ShapeError

RNG = np.random.default_rng(0)
D = "float64"


def value(build, **arrays):
    """The value of an expression on every backend; they must agree."""
    leaves = [gc.input(name, array.shape, dtype=array.dtype) for name, array in arrays.items()]
    built = build(*leaves)
    found = [gc.compile(leaves, built, backend=backend)(*arrays.values()) for backend in available()]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-10, atol=1e-12)
    return found[0]


# --- Convolution ----------------------------------------------------------------------------------------------------


@pytest.mark.feature("C.banded")
def test_a_kernel_of_size_three_is_a_banded_dense_layer():
    length = 7
    conv = gc.nn.Conv1d(1, 1, 3, padding=1, seed=0, dtype=D)
    dense = gc.nn.Linear(length, length, seed=0, dtype=D)
    kernel = conv.weight.value[0, 0]
    dense.weight.value = sum(np.diag(np.full(length - abs(k), kernel[k + 1]), k) for k in (-1, 0, 1))
    dense.bias.value = np.full(length, conv.bias.value[0])
    x = gc.input("x", (4, 1, length), dtype=D)
    array, weights = RNG.normal(size=(4, 1, length)), gc.constant(RNG.normal(size=(4, 1, length)))
    losses = [gc.sum(layer(x) ** 2 * weights) for layer in (conv, dense)]
    (y, dx, dw), (y_dense, dx_dense, dw_dense) = (
        gc.evaluate([layer(x), gc.grad(loss, x), gc.grad(loss, layer.weight)], {x: array})
        for layer, loss in zip((conv, dense), losses, strict=True)
    )
    np.testing.assert_allclose(y, y_dense, rtol=1e-12)
    np.testing.assert_allclose(dx, dx_dense, rtol=1e-12)
    diagonals = [np.diagonal(dw_dense, k).sum() for k in (-1, 0, 1)]  # one weight stands for a whole diagonal
    np.testing.assert_allclose(dw[0, 0], diagonals, rtol=1e-12)


@pytest.mark.feature("C.best_patch")
def test_the_patch_that_maximises_w_x_is_a_multiple_of_w():
    """By gradient ascent of w.x over patches x of norm 1, from a random one."""
    conv = gc.nn.Conv2d(2, 1, 3, bias=False, seed=0, dtype=D)
    raw = gc.param("raw", (1, 2, 3, 3), init=RNG.normal(size=(1, 2, 3, 3)), dtype=D)
    score = gc.sum(conv(raw / gc.sqrt(gc.sum(raw**2))))
    step = gc.compile([], score, gc.optim.SGD(2.0, dtype=D).updates(-score, [raw]))
    for _ in range(1000):
        best = step()
    weight, patch = conv.weight.value, raw.value
    norm = np.linalg.norm(weight)
    np.testing.assert_allclose(patch / np.linalg.norm(patch), weight / norm, atol=1e-8)
    assert best == pytest.approx(norm)


@pytest.mark.feature("C.conv_transpose")
def test_a_transposed_convolution_is_the_transpose():
    """<conv(x), y> = <x, conv_transpose(y)> for the same weight."""
    options = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}
    x, w = RNG.normal(size=(2, 4, 9, 9)), RNG.normal(size=(6, 2, 3, 3))
    image = value(lambda x, w: gc.conv2d(x, w, **options), x=x, w=w)
    y = RNG.normal(size=image.shape)
    back = value(lambda y, w: gc.conv_transpose2d(y, w, **options), y=y, w=w)
    assert back.shape == x.shape and (image * y).sum() == pytest.approx((x * back).sum(), rel=1e-12)


# --- Costs ----------------------------------------------------------------------------------------------------------


def operations(inputs, output):
    program = gc.compile(inputs, output, backend="numpy").program
    return sum(cost_of(program, kernel).total_operations for kernel in program.kernels)


@pytest.mark.feature("C.operations")
@pytest.mark.parametrize("layer, shape", [(gc.nn.Linear(40, 30, bias=False), (8, 40))])
def test_the_backward_of_a_product_costs_as_much_as_the_product(layer, shape):
    """B[MM] in the input and B[MM] in the weight: 2 * batch * in * out operations each."""
    x = gc.input("x", shape)
    y = layer(x)
    v = gc.input("v", y.shape)
    forward = operations([x], y)
    assert forward == 2 * 8 * 40 * 30
    assert operations([x, v], gc.vjp(y, x, v)) == forward
    assert operations([x, v], gc.vjp(y, layer.weight, v)) == forward


# --- Blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.feature("C.residual")
def test_residual_block_is_its_formula():
    block = gc.nn.ResidualBlock(5, gc.sigmoid, seed=3, dtype=D)
    names = ["linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"]
    assert [name for name, _ in block.named_parameters()] == names
    w1, b1, w2, b2 = (p.value for p in block.parameters())
    assert not np.array_equal(w1, w2)
    z = RNG.normal(size=(3, 5))

    def sigma(a):
        return 1 / (1 + np.exp(-a))

    np.testing.assert_allclose(value(block, z=z), z + sigma(sigma(z @ w1.T + b1) @ w2.T + b2), rtol=1e-12)


@pytest.mark.feature("C.dense_connection")
def test_residual_and_dense_connections():
    z = RNG.normal(size=(3, 4, 5))
    np.testing.assert_allclose(value(gc.nn.Residual(gc.sin, gc.nn.Tanh()), z=z), z + np.tanh(np.sin(z)), rtol=1e-12)
    np.testing.assert_allclose(
        value(gc.nn.DenseConnection(gc.sin), z=z), np.concatenate([z, np.sin(z)], axis=1), rtol=1e-12
    )
    last = gc.nn.DenseConnection(gc.sin, axis=-1)
    np.testing.assert_allclose(value(last, z=z), np.concatenate([z, np.sin(z)], axis=-1), rtol=1e-12)
    model = gc.nn.Sequential(gc.nn.Residual(gc.nn.Linear(4, 3)))
    with pytest.raises(ShapeError, match=r"^0: Residual: the input has shape \(N, 4\), the layers give \(N, 3\)"):
        model(gc.input("x", ("N", 4)))


@pytest.mark.feature("B.maxout")
def test_maxout_is_the_greatest_of_its_pieces():
    layer = gc.nn.Maxout(4, 3, pieces=3, seed=0, dtype=D)
    x = RNG.normal(size=(2, 5, 4))
    pieces = [x @ w.T + b for w, b in zip(layer.weight.value, layer.bias.value, strict=True)]
    np.testing.assert_allclose(value(layer, x=x), np.max(pieces, axis=0), rtol=1e-12)
    bound = layer.weight.value
    assert bound.shape == (3, 3, 4) and np.abs(bound).max() <= 0.5


@pytest.mark.feature("C.graph")
def test_message_passing():
    ring = np.roll(np.eye(5), 1, axis=1)
    adjacency, x = ring + ring.T, RNG.normal(size=(5, 3))
    for normalise in (False, True):
        layer = gc.nn.GraphConv(3, 2, normalise=normalise, seed=0, dtype=D)
        layer.bias.value = [1.0, 2.0]
        matrix = (adjacency + np.eye(5)) / 3 if normalise else adjacency  # all degrees are 3 with the loop
        expected = matrix @ x @ layer.weight.value.T + [1.0, 2.0]
        np.testing.assert_allclose(value(layer, x=x, adjacency=adjacency), expected, rtol=1e-12)
        batch = value(layer, x=np.stack([x, -x]), adjacency=np.stack([adjacency, adjacency]))
        np.testing.assert_allclose(batch[0], expected, rtol=1e-12)
    weighted = RNG.uniform(0, 1, size=(4, 4))
    looped = weighted + np.eye(4)
    roots = np.diag(looped.sum(1) ** -0.5)
    np.testing.assert_allclose(value(gc.nn.normalised_adjacency, a=weighted), roots @ looped @ roots, rtol=1e-12)


@pytest.mark.feature("C.graph")
def test_renaming_the_nodes_of_a_graph_renames_the_result():
    layer = gc.nn.GraphConv(3, 4, seed=1, dtype=D)
    adjacency, x, order = RNG.integers(0, 2, (6, 6)).astype(D), RNG.normal(size=(6, 3)), RNG.permutation(6)
    renamed = value(layer, x=x[order], adjacency=adjacency[order][:, order])
    np.testing.assert_allclose(renamed, value(layer, x=x, adjacency=adjacency)[order], rtol=1e-12)


# --- Pooling, attention, embedding ----------------------------------------------------------------------------------


@pytest.mark.feature("C.global_pool")
def test_global_pools_of_symbolic_extents():
    x = gc.input("x", ("N", 3, "H", "W"), dtype=D)
    array = RNG.normal(size=(2, 3, 5, 4))
    for backend in available():
        pools = gc.nn.GlobalAvgPool(), gc.nn.GlobalMaxPool(), gc.nn.AdaptiveAvgPool2d(1)
        mean, most, same = gc.compile([x], [pool(x) for pool in pools], backend=backend)(array)
        np.testing.assert_allclose(mean, array.mean((2, 3)), rtol=1e-12)
        assert np.array_equal(most, array.max((2, 3))) and np.array_equal(same[:, :, 0, 0], mean)


def test_ceil_mode_of_symbolic_extents():
    x = gc.input("x", (1, 1, "H", "W"), dtype=D)
    pool = gc.compile([x], gc.nn.MaxPool2d(3, 2, ceil_mode=True)(x))
    for extent, expected in ((7, 3), (8, 4), (3, 1), (2, 1)):
        assert pool(np.zeros((1, 1, extent, extent))).shape == (1, 1, expected, expected)
    with pytest.raises(ShapeError, match=r"MaxPool2d\(2, stride=3, ceil_mode=True\): .*ceil_mode with a stride of 3"):
        gc.nn.MaxPool2d(2, 3, ceil_mode=True)(x)


@pytest.mark.feature("C.attention")
def test_causal_attention_sees_the_past_alone():
    attention = gc.nn.MultiheadAttention(6, 2, batch_first=True, seed=0, dtype=D)
    x = gc.input("x", ("N", 5, 6), dtype=D)
    later = np.triu(np.ones((5, 5), dtype=bool), 1)
    y, weights = attention(x, x, x, is_causal=True, average_attn_weights=False)
    by_mask, nothing = attention(x, x, x, attn_mask=later, need_weights=False)
    assert nothing is None
    one = RNG.normal(size=(2, 5, 6))
    other = one.copy()
    other[:, 3:] += 1
    for backend in available():
        attend = gc.compile([x], [y, weights, by_mask], backend=backend)
        (a, shares, masked), (b, _, _) = attend(one), attend(other)
        np.testing.assert_allclose(a, masked, rtol=1e-12)
        np.testing.assert_allclose(a[:, :3], b[:, :3], rtol=1e-12)
        assert not np.allclose(a[:, 3:], b[:, 3:])
        assert shares.shape == (2, 2, 5, 5) and (shares[:, :, later] == 0).all()
        np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-12)


def test_attention_drops_weights_in_training_alone():
    x = gc.input("x", (2, 40, 8))
    attention = gc.nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
    array = RNG.normal(size=(2, 40, 8)).astype("float32")
    trained, plain = (
        gc.compile([x], attention(x, x, x, average_attn_weights=False, training=mode)[1])(array)
        for mode in (True, False)
    )
    dropped = trained == 0
    assert 0.4 < dropped.mean() < 0.6 and not (plain == 0).any()
    np.testing.assert_allclose(trained[~dropped], 2 * plain[~dropped], rtol=1e-5)


def test_an_encoder_layer_differs_in_training_by_its_dropout():
    layer = gc.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    x = gc.input("x", (2, 5, 8))
    array = RNG.normal(size=(2, 5, 8)).astype("float32")
    step, predict = (gc.compile([x], layer(x, training=mode)) for mode in (True, False))
    assert np.array_equal(predict(array), predict(array)) and not np.allclose(step(array), predict(array))


@pytest.mark.feature("C.embedding")
def test_embedding_leaves_its_padding_alone():
    layer = gc.nn.Embedding(5, 3, padding_idx=-2, seed=0)
    assert layer.padding_idx == 3 and not layer.weight.value[3].any() and layer.weight.value[[0, 1, 2, 4]].all()
    assert np.array_equal(gc.nn.Embedding(5, 3, seed=0).weight.value[4], layer.weight.value[4])
    i = gc.input("i", (4,), dtype="int32")
    gradient = gc.grad(gc.sum(layer(i)), layer.weight)
    assert gc.evaluate(gradient, {i: [3, 0, 3, 0]}).tolist() == [[2.0] * 3, *[[0.0] * 3] * 4]


def test_an_index_outside_the_table_changes_nothing():
    model = gc.nn.Sequential(gc.nn.Embedding(5, 3, seed=0), gc.nn.Linear(3, 1, seed=1))
    i = gc.input("i", ("N",), dtype="int64")
    loss = gc.sum(model(i) ** 2)
    for backend in available():
        step = gc.compile([i], loss, gc.optim.SGD(0.1).updates(loss, model.parameters()), backend=backend)
        before = [p.value for p in model.parameters()]
        for bad in (5, -1, 2**40):
            told = rf"embedding, take at .*test_definitions.py:\d+: index {bad} is outside an axis of 5"
            with pytest.raises(ArgumentError, match=told):
                step(np.array([0, bad]))
        assert all(np.array_equal(p.value, b) for p, b in zip(model.parameters(), before, strict=True))


# --- Containers -----------------------------------------------------------------------------------------------------


def test_module_list_and_dict():
    class Net(gc.nn.Module):
        def __init__(self):
            self.layers = gc.nn.ModuleList([gc.nn.Linear(2, 2)])
            self.layers.append(gc.nn.Linear(2, 2, bias=False)).append(gc.nn.ReLU())
            self.heads = gc.nn.ModuleDict({"a": gc.nn.Linear(2, 1)})
            self.heads["b"] = gc.nn.Linear(2, 1, bias=False)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return [head(x) for head in self.heads.values()]

    net = Net()
    expected = [f"layers.{name}" for name in ("0.weight", "0.bias", "1.weight")]
    expected += [f"heads.{name}" for name in ("a.weight", "a.bias", "b.weight")]
    assert [name for name, _ in net.named_parameters()] == expected
    assert [p.name for p in net.parameters()] == expected
    assert [y.shape for y in net(gc.input("x", (3, 2)))] == [(3, 1), (3, 1)]
    assert len(net.layers) == 3 and net.layers[-1] is list(net.layers)[2] and len(net.heads) == 2
    assert list(net.heads) == list(net.heads.keys()) == ["a", "b"] and "a" in net.heads and "c" not in net.heads
    assert [name for name, _ in net.heads.items()] == ["a", "b"] and net.heads["a"].out_features == 1
    with pytest.raises(ShapeError, match=r"^layers\.0: Linear\(2, 2\): the input has 5 features"):
        net(gc.input("x", (3, 5)))
    with pytest.raises(ArgumentTypeError, match="ModuleList: 3 is not a module"):
        gc.nn.ModuleList([3])
    for key in ("a.b", "items", ""):
        with pytest.raises(ArgumentError, match="ModuleDict: a key is"):
            gc.nn.ModuleDict({key: gc.nn.ReLU()})


# --- First values ---------------------------------------------------------------------------------------------------


SEEDED = [
    lambda seed: gc.nn.Conv1d(3, 4, 3, seed=seed),
    lambda seed: gc.nn.ConvTranspose2d(3, 4, 3, seed=seed),
    lambda seed: gc.nn.Embedding(5, 3, seed=seed),
    lambda seed: gc.nn.Maxout(5, 3, seed=seed),
    lambda seed: gc.nn.LSTMCell(5, 3, seed=seed),
    lambda seed: gc.nn.GraphConv(5, 3, seed=seed),
    lambda seed: gc.nn.MultiheadAttention(6, 3, seed=seed),
    lambda seed: gc.nn.MultiheadAttention(6, 3, kdim=2, seed=seed),
    lambda seed: gc.nn.TransformerEncoderLayer(6, 3, 5, seed=seed),
]


@pytest.mark.parametrize("make", SEEDED, ids=lambda make: repr(make(0)))
def test_a_seed_fixes_all_parameters_and_no_two_are_alike(make):
    one, same, other = ([p.value for p in make(seed).parameters()] for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    drawn = [a for a in one if np.unique(a).size > 1]  # zeros and ones are not drawn
    assert drawn and all(not np.array_equal(a, b) for a, b in zip(one, other, strict=True) if np.unique(a).size > 1)
    assert len({a.ravel()[0] for a in drawn}) == len(drawn)


def test_first_values():
    cell = gc.nn.LSTMCell(30, 100, seed=0)
    for parameter in cell.parameters():
        assert 0.09 < np.abs(parameter.value).max() <= 0.1
    transposed = gc.nn.ConvTranspose1d(64, 32, 5, groups=2, seed=0)
    bound = 1 / np.sqrt(16 * 5)
    for parameter in transposed.parameters():
        assert 0.8 * bound < np.abs(parameter.value).max() <= bound
    attention = gc.nn.MultiheadAttention(64, 4, seed=0)
    bound = np.sqrt(6 / (64 + 3 * 64))
    assert 0.99 * bound < np.abs(attention.in_proj_weight.value).max() <= bound
    assert not attention.in_proj_bias.value.any() and not attention.out_proj.bias.value.any()
    assert gc.nn.Embedding(300, 40, seed=0).weight.value.std() == pytest.approx(1, rel=0.02)
    assert gc.nn.PReLU(3).weight.value.tolist() == [0.25] * 3
