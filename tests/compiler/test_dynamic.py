"""compile(dynamic=...): one code for any number of rows computes what code for that number of rows does."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.compiler.specialise import MOST_SIZES
from graphc.errors import ArgumentError, CompileError
from graphc.ir.extent import evaluate
from graphc.passes import blocks, phases, pipeline
from graphc.phased import PhasedProgram
from tests.backends.llvm.cached_support import use_disk

nn = gc.nn
SIZES = (1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000)


@pytest.fixture(params=available())
def backend(request):
    return request.param


@pytest.fixture(autouse=True)
def verified(monkeypatch):
    """The graph of each block is verified after each pass."""
    monkeypatch.setattr(phases, "run_passes", lambda graph, **options: pipeline.run_passes(graph, check=True, **options))


@pytest.fixture
def short_blocks(monkeypatch):
    """Blocks of 1, 4 and 16 rows: there is less to compile, and few rows make several blocks."""
    monkeypatch.setattr(blocks, "LONGEST", 16)


def rows(*others, name="x", dtype="float32"):
    return gc.input(name, ("N", *others), dtype)


def draw(tensor, sizes, seed=0):
    generator = np.random.default_rng(seed)
    shape = [evaluate(extent, sizes) for extent in tensor.shape]
    if tensor.dtype == "bool":
        return generator.random(shape) < 0.9
    if tensor.dtype.startswith("int"):
        return generator.integers(0, 4, shape).astype(tensor.dtype)
    return generator.uniform(0.1, 0.9, shape).astype(tensor.dtype)


def outcome(function, arguments, calls=2):
    """What calls give and leave in params and states, or the error's words; then all is as before."""
    variables = function._forms.variables
    before = [variable.value for variable in variables]
    try:
        results = [function(*arguments) for _ in range(calls)]
        flat = [a.copy() for one in results for a in (one if isinstance(one, tuple) else (one,))]
        return flat + [variable.value for variable in variables]
    except ArgumentError as error:
        for variable, value in zip(variables, before, strict=True):
            assert (variable.value == value).all()
        return error.message
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.value = value


def agrees(backend, inputs, outputs, updates=None, sizes=(1, 5, 23), dynamic=("N",), rtol=1e-4, calls=2):
    """The dynamic function gives what the function for each size gives, which the NumPy backend computes."""
    static = gc.compile(inputs, outputs, updates, backend="numpy")
    function = gc.compile(inputs, outputs, updates, backend=backend, dynamic=dynamic, threads=2)
    for size in sizes:
        named = size if isinstance(size, dict) else {"N": size}
        arguments = [draw(tensor, named) for tensor in inputs]
        found, expected = outcome(function, arguments, calls), outcome(static, arguments, calls)
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected, named
            continue
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype and one.shape == other.shape, named
            if one.dtype.kind == "f":
                np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol / 10, err_msg=str(named))
            else:
                np.testing.assert_array_equal(one, other, err_msg=str(named))
    return function


# --- Layers, losses, training -----------------------------------------------------------------------------------------


def first_of(output):
    return output[0] if isinstance(output, tuple) else output


LAYERS = {
    "Linear": (lambda: nn.Linear(5, 3, seed=0), (5,)),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3, seed=0), (2, 6)),
    "Conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1, seed=0), (2, 4, 4)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(2, 3, 3, seed=0), (2, 6)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, seed=0), (2, 3, 3)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5), (5,)),
    "BatchNorm1d of sequences": (lambda: nn.BatchNorm1d(5), (5, 3)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (3, 2, 2)),
    "LayerNorm": (lambda: nn.LayerNorm(5), (5,)),
    "RMSNorm": (lambda: nn.RMSNorm(5), (5,)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (4, 2, 2)),
    "Dropout": (lambda: nn.Dropout(0.5, seed=1), (5,)),
    "Dropout1d": (lambda: nn.Dropout1d(0.5, seed=1), (5, 3)),
    "Dropout2d": (lambda: nn.Dropout2d(0.5, seed=1), (5, 2, 2)),
    "RNN": (lambda: nn.RNN(3, 4, batch_first=True, seed=0), (4, 3)),
    "LSTM": (lambda: nn.LSTM(3, 2, 2, batch_first=True, bidirectional=True, dropout=0.3, seed=0), (4, 3)),
    "GRU": (lambda: nn.GRU(3, 4, batch_first=True, seed=0), (4, 3)),
    "RNNCell": (lambda: nn.RNNCell(3, 4, seed=0), (3,)),
    "LSTMCell": (lambda: nn.LSTMCell(3, 4, seed=0), (3,)),
    "GRUCell": (lambda: nn.GRUCell(3, 4, seed=0), (3,)),
    "Embedding": (lambda: nn.Embedding(4, 6, padding_idx=1, seed=0), (3, "int64")),
    "Maxout": (lambda: nn.Maxout(5, 3, 2, seed=0), (5,)),
    "PReLU": (lambda: nn.PReLU(), (5,)),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.2, batch_first=True, seed=0), (3, 4),
    ),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), (3, 6)),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (3, 4, 4)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(2), (3, 4, 4)),
    "MaxPool1d": (lambda: nn.MaxPool1d(2), (3, 6)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (3, 4, 4)),
    "GlobalAvgPool": (lambda: nn.GlobalAvgPool(), (3, 4, 4)),
    "GlobalMaxPool": (lambda: nn.GlobalMaxPool(), (3, 4, 4)),
    "Flatten": (lambda: nn.Flatten(), (3, 4)),
    "Softmax": (lambda: nn.Softmax(), (5,)),
    "LogSoftmax": (lambda: nn.LogSoftmax(), (5,)),
    "Softmax over rows": (lambda: nn.Softmax(axis=0), (5,)),
    "LogSoftmax over rows": (lambda: nn.LogSoftmax(axis=0), (5,)),
    "Residual": (lambda: nn.Residual(nn.Linear(5, 5, seed=0)), (5,)),
    "ResidualBlock": (lambda: nn.ResidualBlock(4), (4,)),
    "DenseConnection": (lambda: nn.DenseConnection(nn.Linear(5, 3, seed=0)), (5,)),
}  # fmt: skip
ACTIVATIONS = (
    "ELU GELU Hardsigmoid Hardswish Hardtanh Identity LeakyReLU ReLU ReLU6 SiLU Sigmoid Softplus Tanh"
).split()
NO_BATCH = {"GraphConv", "MultiheadAttention"}  # nodes of one graph; attention is part of the TransformerEncoderLayer
NO_LAYERS = {"Module", "ModuleDict", "ModuleList", "Sequential", "Layer", "Loss", "Activation"}


def test_every_layer_is_here():
    losses = {name for name in dir(nn) if name.endswith("Loss")}
    classes = {name for name in dir(nn) if isinstance(one := getattr(nn, name), type) and issubclass(one, nn.Module)}
    assert classes - losses == ({*LAYERS, *ACTIVATIONS, *NO_BATCH, *NO_LAYERS} & classes)


def layer_step(name, training):
    build, others = LAYERS[name] if name in LAYERS else (getattr(nn, name), (5,))
    is_of_indices = others[-1] == "int64"
    layer, x = build(), rows(*others[:-1], dtype="int64") if is_of_indices else rows(*others)
    y = first_of(layer(x, training=training))
    loss = gc.sum(gc.sin(y)) / 7
    parameters = layer.parameters()
    gradients = [] if is_of_indices else [gc.grad(loss, x)]
    return [x], [y, loss, *gradients], gc.optim.SGD(0.1, momentum=0.9).updates(loss, parameters) if parameters else {}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", [*LAYERS, *ACTIVATIONS])
def test_layers(name, training, short_blocks):
    agrees("numpy", *layer_step(name, training), sizes=(1, 2, 23))


NATIVE = ["Conv2d", "BatchNorm1d", "Dropout", "Embedding", "LSTM", "Softmax over rows"]


@pytest.mark.skipif("llvm" not in available(), reason="the llvm backend is not installed")
@pytest.mark.parametrize("name", NATIVE)
def test_native_layers(name, short_blocks):
    agrees("llvm", *layer_step(name, True), sizes=(1, 2, 16, 23))


LOSSES = {
    "mse_loss": (nn.mse_loss, False),
    "l1_loss": (nn.l1_loss, False),
    "squared_error": (nn.squared_error, False),
    "huber_loss": (nn.huber_loss, False),
    "smooth_l1_loss": (nn.smooth_l1_loss, False),
    "binary_cross_entropy": (lambda y, t, **r: nn.binary_cross_entropy(gc.sigmoid(y), t, **r), False),
    "binary_cross_entropy_with_logits": (nn.binary_cross_entropy_with_logits, False),
    "kl_div": (lambda y, t, **r: nn.kl_div(gc.log_softmax(y), t, **r), False),
    "gaussian_nll_loss": (lambda y, t, **r: nn.gaussian_nll_loss(y, t, gc.exp(y), **r), False),
    "cross_entropy": (nn.cross_entropy, True),
    "cross_entropy of probabilities": (nn.cross_entropy, False),
    "cross_entropy, smoothed": (lambda y, t, **r: nn.cross_entropy(y, t, label_smoothing=0.1, **r), True),
    "cross_entropy, some ignored": (lambda y, t, **r: nn.cross_entropy(y, t, ignore_index=2, **r), True),
    "cross_entropy, weighted": (
        lambda y, t, **r: nn.cross_entropy(y, t, weight=np.arange(1, 5, dtype="float32"), **r), True,
    ),
    "nll_loss": (lambda y, t, **r: nn.nll_loss(gc.log_softmax(y), t, **r), True),
    "multi_margin_loss": (nn.multi_margin_loss, True),
    "multiclass_hinge_loss": (nn.multiclass_hinge_loss, True),
}  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, reduction, short_blocks):
    loss_of, takes_labels = LOSSES[name]
    model, x = nn.Linear(5, 4, seed=0), rows(5)
    t = rows(name="t", dtype="int64") if takes_labels else rows(4, name="t")
    loss = loss_of(model(x), t, reduction=reduction)
    updates = gc.optim.SGD(0.1).updates(gc.sum(loss), model.parameters())
    agrees("numpy", [x, t], loss, updates, sizes=(0, 1, 23))


def perceptron(*more):
    return nn.Sequential(nn.Linear(5, 6, seed=0), nn.Tanh(), *more, nn.Linear(6, 4, seed=1))


@pytest.mark.parametrize("optimiser", [gc.optim.SGD(0.1), gc.optim.Adam(0.01)], ids=["SGD", "Adam"])
def test_training_steps(optimiser, backend):
    model, x, t = perceptron(), rows(5), rows(name="t", dtype="int64")
    scores = model(x)
    loss = nn.cross_entropy(scores, t)
    updates = optimiser.updates(loss, model.parameters())
    outputs = [loss, scores, nn.accuracy(scores, t)]
    agrees(backend, [x, t], outputs, updates, sizes=(0, *SIZES), rtol=2e-4, calls=3)


@pytest.mark.parametrize(
    "more", [(), (lambda: nn.Dropout(0.5, seed=1),), (lambda: nn.BatchNorm1d(6), lambda: nn.Dropout(0.5, seed=1))],
    ids=["plain", "dropout", "batch norm and dropout"],
)  # fmt: skip
def test_checkpoints(more, backend, short_blocks):
    model, x = perceptron(*(build() for build in more)), rows(5)
    y = gc.checkpoint(lambda x: model(x, training=True), x)
    loss = gc.sum(gc.sin(y)) / 7
    agrees(backend, [x], [loss, y], gc.optim.SGD(0.1).updates(loss, model.parameters()), sizes=(2, 5, 23))


def test_a_checkpoint_of_two_dimensions(backend, short_blocks):
    x, y, w = rows(3), gc.input("y", ("M", 3)), gc.param("w", (3, 4), init=gc.init.he_normal(seed=0))
    dropout = nn.Dropout(0.5, seed=1)
    one, other = gc.checkpoint(
        lambda x, y: (dropout(gc.tanh(x @ w), training=True), dropout(gc.tanh(y @ w), training=True)), x, y
    )
    loss = gc.mean(one**2) * gc.mean(other**3)
    sizes = [{"N": n, "M": m} for n, m in ((1, 1), (5, 23), (17, 2))]
    agrees(backend, [x, y], loss, gc.optim.SGD(0.1).updates(loss, [w]), sizes, ("N", "M"))


# --- Sums over rows ---------------------------------------------------------------------------------------------------


def test_all_totals(backend):
    x, i, j, b = rows(3), rows(2, name="i", dtype="int64"), rows(name="j", dtype="int32"), rows(3, name="b", dtype="bool")
    d = rows(name="d", dtype="float64")
    outputs = [gc.prod(2 * x, 0), gc.sum(x, 0), gc.sum(x)]
    outputs += [gc.prod(i + 1, 0), gc.sum(i, 0), gc.sum(j), gc.sum(b, 0), gc.any(b, 0), gc.all(b, 0), gc.all(~b)]
    outputs += [gc.prod(d), gc.sum(d), gc.sum(gc.one_hot(i, 4), 0)]
    agrees(backend, [x, i, j, b, d], outputs, sizes=(0, 1, 3, 16, 65, 300))
    outputs = [gc.max(x, 0), gc.min(x), gc.max(i, 0), gc.min(i - 7, 0), gc.max(j), gc.min(-j), gc.max(d), gc.min(d)]
    agrees(backend, [x, i, j, b, d], [*outputs, gc.mean(x, 0), gc.std(d), gc.var(x, 0)], sizes=(0, 1, 5, 16, 65))


def test_not_a_number_is_the_maximum_and_the_minimum(backend, short_blocks):
    x = rows(2)
    function = gc.compile([x], [gc.max(x, 0), gc.min(x, 0)], backend=backend, dynamic=["N"])
    for at in (0, 15, 16, 20, 22):
        given = np.ones((23, 2), "float32")
        given[at, 1] = np.nan
        for found in function(given):
            np.testing.assert_array_equal(found, [1, np.nan])


def test_sums_behind_each_other(backend, short_blocks):
    x = rows(3)
    shares = gc.softmax(x, axis=0)
    standard = (x - gc.mean(x, 0)) / gc.std(x, 0)
    chain = x - gc.sum(x * gc.max(x, 0), 0) / gc.sum(x * gc.max(x, 0))
    outputs = [shares, gc.sum(standard**4, 0), standard, gc.sum(gc.exp(x - gc.max(x, 0)), 0), chain, gc.sum(chain**2)]
    agrees(backend, [x], [*outputs, gc.grad(gc.sum(shares * chain), x)], sizes=(0, 1, 2, 4, 17, 64), rtol=1e-3)


def test_two_dimensions(backend, short_blocks):
    x, y = rows(3), gc.input("y", ("M", 3))
    outputs = [2 * x, gc.sin(y), gc.sum(x, 0), gc.sum(y), x - gc.sum(y, 0), y * gc.sum(gc.exp(x - gc.sum(y, 0)), 0)]
    sizes = [{"N": n, "M": m} for n in (0, 1, 23) for m in (0, 1, 16)]
    agrees(backend, [x, y], outputs, sizes=sizes, dynamic=("N", "M"), rtol=1e-3)
    agrees("numpy", [x, y], [*outputs, x @ y.T], sizes=sizes, dynamic=("N",), rtol=1e-3)
    agrees("numpy", [x, y], [*outputs, x @ y.T @ y], sizes=sizes, dynamic=("M",), rtol=1e-3)


# --- Inputs and outputs -----------------------------------------------------------------------------------------------


def test_outputs_of_every_kind(backend, short_blocks):
    x, w = rows(3), gc.param("w", (3,), init=np.arange(3.0))
    y = gc.exp(x)
    total = gc.sum(y)
    outputs = [x, x, y, y, gc.reshape(y, (-1,)), total, total, y / total, w, gc.constant(np.ones(2)), w * 2, 2 * y]
    agrees(backend, [x], outputs, {w: w + gc.sum(x, 0)}, sizes=(0, 1, 4, 23))


@pytest.mark.parametrize("build", [lambda x: gc.tanh(x) @ gc.constant(np.eye(3, dtype="float32")), lambda x: x + 1])
def test_sizes_around_the_lengths_of_blocks(build, backend):
    x = rows(3)
    agrees(backend, [x], build(x), sizes=(0, *SIZES, 4095, 4096, 4097, 5000), calls=1)


def test_random_numbers_of_a_row_do_not_depend_on_blocks(backend, short_blocks):
    """They are those of the static function, bit for bit, and the counter moves on by one at each call."""
    x = rows(3)
    draws = [gc.random.uniform(x.shape, seed=3), nn.Dropout(0.5, seed=1)(x, training=True)]
    static, dynamic = (gc.compile([x], draws, backend=backend, dynamic=names) for names in ((), ("N",)))
    for size in (1, 16, 23, 66):
        given = np.ones((size, 3), "float32")
        for one, other in zip(outcome(dynamic, [given], 3), outcome(static, [given], 3), strict=True):
            np.testing.assert_array_equal(one, other)


def test_too_few_rows_are_refused_as_by_a_static_function(backend):
    x = rows(5)
    for y, least in ((nn.BatchNorm1d(5)(x, training=True), 2), (gc.max(x, 0), 1), (gc.mean(x), 1), (gc.min(x, 0), 1)):
        static, dynamic = (gc.compile([x], y, backend=backend, dynamic=names, name="f") for names in ((), ("N",)))
        for function in (dynamic, static):
            with pytest.raises(ArgumentError) as caught:
                function(np.ones((least - 1, 5), "float32"))
            words = str(caught.value) if function is dynamic else words
        assert str(caught.value) == words
        np.testing.assert_allclose(*(f(np.ones((least, 5), "float32")) for f in (static, dynamic)))


@pytest.mark.parametrize("size", [1, 16, 23])
def test_a_label_outside_its_classes_changes_nothing(size, backend, short_blocks):
    model, x, t = perceptron(nn.BatchNorm1d(6), nn.Dropout(0.5, seed=0)), rows(5), rows(name="t", dtype="int64")
    loss = nn.cross_entropy(model(x, training=size > 1), t)
    step = gc.compile(
        [x, t], loss, gc.optim.Adam(0.1).updates(loss, model.parameters()), backend=backend, dynamic=["N"], name="step"
    )
    labels = np.zeros(size, "int64")
    labels[-1] = 4
    before = [variable.value for variable in step._forms.variables]
    with pytest.raises(ArgumentError, match=r"step: cross_entropy at .*test_dynamic.py:\d+: label 4 is outside the 4 cl"):
        step(np.ones((size, 5), "float32"), labels)
    assert all((v.value == old).all() for v, old in zip(step._forms.variables, before, strict=True))
    step(np.ones((size, 5), "float32"), labels - labels)
    assert not all((v.value == old).all() for v, old in zip(step._forms.variables, before, strict=True))


def test_an_index_outside_a_table(backend, short_blocks):
    table, i = nn.Embedding(4, 3, seed=0), rows(name="i", dtype="int64")
    function = gc.compile([i], [table(i)], backend=backend, dynamic=["N"])
    with pytest.raises(ArgumentError, match="embedding, take at .*index 7 is outside an axis of 4"):
        function(np.append(np.zeros(22, "int64"), 7))


def test_results_stay_as_they_are(backend, short_blocks):
    x = rows(600)
    function = gc.compile([x], [2 * x, gc.sum(x, 0)], backend=backend, dynamic=["N"])
    kept = [(n, function(np.full((n, 600), n, "float32"))) for n in (3, 23, 3, 20, 23, 3)]
    for n, (twice, total) in kept:
        assert twice.shape == (n, 600) and (twice == 2 * n).all() and (total == n * n).all()


# --- The function -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", ["N", None, 5, [5], [None]])
def test_what_is_no_list_of_names(dynamic):
    x = rows(3)
    with pytest.raises(ArgumentError, match=r'compile: dynamic is a list of names, such as \["N"\], not '):
        gc.compile([x], x, backend="numpy", dynamic=dynamic)


def test_an_unknown_name():
    x = rows(3)
    with pytest.raises(ArgumentError, match=r"compile: dynamic: there is no dimension 'K'; there are: N \(.*dynamic.py"):
        gc.compile([x], x, backend="numpy", dynamic=["N", "K"])
    with pytest.raises(ArgumentError, match="there are: none"):
        gc.compile([y := gc.input("y", (3,))], y, backend="numpy", dynamic=["N"])


def test_a_name_twice_and_no_name():
    x = rows(3)
    given = np.ones((5, 3), "float32")
    for dynamic in (["N", "N"], ("N",), [], {"N"}):
        assert (gc.compile([x], 2 * x, backend="numpy", dynamic=dynamic)(given) == 2).all()


def test_memory_does_not_grow_with_the_number_of_sizes(backend):
    x = rows(1000)
    function = gc.compile([x], [2 * x, gc.sum(x)], backend=backend, dynamic=["N"])
    calls = gc.compiler.calls.Calls(function._forms, False)
    for size in range(1, 10 * MOST_SIZES):
        calls.call(np.zeros((size, 1000), "float32"))
    assert len(function._forms._found) == len(calls._ready) == MOST_SIZES and len(function._forms._open) == 1
    assert np.asarray(calls.call(np.ones((1, 1000), "float32"))[1]) == 1000  # forgotten, and soon made again
    native = getattr(function.specialised().executable, "_native", None)
    if native is not None:
        assert len(native.results._kept) <= 64


def test_calls_from_several_threads(backend, short_blocks):
    x = rows(40)
    y = gc.softmax(gc.tanh(x), axis=0)
    function = gc.compile([x], [y, gc.sum(y * x, 0)], backend=backend, dynamic=["N"], threads=2)
    given = np.random.default_rng(1).normal(size=(30, 40)).astype("float32")
    static = gc.compile([x], [y, gc.sum(y * x, 0)], backend="numpy")
    expected = {size: static(given[:size]) for size in range(1, 30)}
    wrong = []

    def work(seed):
        for size in np.random.default_rng(seed).integers(1, 30, 60):
            for one, other in zip(function(given[:size]), expected[size], strict=True):
                if not np.allclose(one, other, rtol=1e-4, atol=1e-6):
                    wrong.append(size)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_there_is_to_look_at(backend, short_blocks):
    x = rows(3)
    function = gc.compile([x], gc.softmax(x, axis=0), backend=backend, dynamic=["N"], name="shares")
    assert function.dimensions == ("N",) and "shares(x: float32(N, 3))" in repr(function)
    assert isinstance(function.specialised(N=5).program, PhasedProgram)
    assert function.specialised(N=5).stats.output_bytes == 5 * 3 * 4
    for look in (
        function.memory, function.program_for, lambda: function.program, lambda: function.profile(np.ones((2, 3)))
    ):  # fmt: skip
        with pytest.raises(CompileError, match=r"shares: N is dynamic, so that there is no one program; compile without "):
            look()
    assert str(function.source("program")).startswith("program shares(x) for any N\n")
    assert "float32(N, 3)" in function.source("graph") and "softmax" in function.source("latex")
    assert "def " in function.source("numpy")
    if "llvm" in available():
        assert "define" in function.source("llvm") and function.source("llvm") == function.source("llvm", N=70)
        assert ".text" in function.source("asm")
    assert "shares" in function._repr_html_()


@pytest.mark.skipif("llvm" not in available(), reason="the llvm backend is not installed")
def test_the_disk_cache_has_one_code_for_all_sizes(tmp_path, monkeypatch, short_blocks):
    disk = use_disk(tmp_path, monkeypatch)
    results = []
    for _ in range(2):
        x, w = rows(3), gc.param("w", (3,), init=np.ones(3))
        step = gc.compile([x], gc.softmax(x * w, axis=0), {w: w + gc.max(x, 0)}, backend="llvm", dynamic=["N"])
        results.append([step(draw(x, {"N": size})) for size in (1, 16, 23, 40)])
    assert disk.compiled == 1
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
