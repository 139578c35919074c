"""compile(dynamic=...): one code for any number of rows computes what code for that number of rows does."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.compiler.specialise import MOST_SIZES
from graphc.errors import ArgumentError, CompileError
from graphc.phased import PhasedProgram
from tests.backends.llvm.cached_support import use_disk
from tests.compiler.dynamic_support import agrees, draw, outcome, perceptron, rows

nn = gc.nn
SIZES = (1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000)


# --- Sums over rows ---------------------------------------------------------------------------------------------------


def test_all_totals(backend):
    x, i, j = rows(3), rows(2, name="i", dtype="int64"), rows(name="j", dtype="int32")
    b, d = rows(3, name="b", dtype="bool"), rows(name="d", dtype="float64")
    outputs = [gc.prod(2 * x, 0), gc.sum(x, 0), gc.sum(x)]
    outputs += [gc.prod(i + 1, 0), gc.sum(i, 0), gc.sum(j), gc.sum(b, 0), gc.any(b, 0), gc.all(b, 0), gc.all(~b)]
    outputs += [gc.prod(d), gc.sum(d), gc.sum(gc.one_hot(i, 4), 0)]
    agrees(backend, [x, i, j, b, d], outputs, sizes=(0, 1, 65, 300))
    outputs = [gc.max(x, 0), gc.min(x), gc.max(i, 0), gc.min(i - 7, 0), gc.max(j), gc.min(-j), gc.max(d), gc.min(d)]
    agrees(backend, [x, i, j, b, d], [*outputs, gc.mean(x, 0), gc.std(d), gc.var(x, 0)], sizes=(0, 1, 17, 300))


def test_not_a_number_is_the_maximum_and_the_minimum(backend, short_blocks):
    x = rows(2)
    function = gc.compile([x], [gc.max(x, 0), gc.min(x, 0)], backend=backend, dynamic=["N"])
    for at in (0, 15, 16, 20, 22):
        given = np.ones((23, 2), "float32")
        given[at, 1] = np.nan
        for found in function(given):
            np.testing.assert_array_equal(found, [1, np.nan])


def test_sums_behind_each_other(backend, short_blocks, verified):
    x = rows(3)
    shares = gc.softmax(x, axis=0)
    standard = (x - gc.mean(x, 0)) / gc.std(x, 0)
    greatest = gc.stop_gradient(gc.max(x, 0))
    chain = x - gc.sum(x * greatest, 0) / gc.sum(x * greatest)
    outputs = [shares, gc.sum(standard**4, 0), standard, gc.sum(gc.exp(x - gc.max(x, 0)), 0), chain, gc.sum(chain**2)]
    agrees(backend, [x], [*outputs, gc.grad(gc.sum(shares * chain), x)], sizes=(0, 1, 4, 23), rtol=1e-3)


def test_two_dimensions(backend, short_blocks):
    x, y = rows(3), gc.input("y", ("M", 3))
    outputs = [2 * x, gc.sin(y), gc.sum(x, 0), gc.sum(y), x - gc.sum(y, 0), y * gc.sum(gc.exp(x - gc.sum(y, 0)), 0)]
    sizes = [{"N": n, "M": m} for n, m in ((0, 0), (0, 23), (1, 0), (16, 1), (23, 17))]
    agrees(backend, [x, y], outputs, sizes=sizes, dynamic=("N", "M"), rtol=1e-3)
    agrees("numpy", [x, y], [*outputs, x @ y.T], sizes=sizes, dynamic=("N",), rtol=1e-3)
    agrees("numpy", [x, y], [*outputs, x @ y.T @ y], sizes=sizes, dynamic=("M",), rtol=1e-3)


# --- Inputs and outputs -----------------------------------------------------------------------------------------------


def test_outputs_of_every_kind(backend, short_blocks):
    x, w = rows(3), gc.param("w", (3,), init=np.arange(3.0))
    y = gc.exp(x)
    total = gc.sum(y)
    table, other = gc.constant(np.array([1, -2, 3], "float32")), gc.constant(np.array([5, 7, -6], "float32"))
    outputs = [x, x, y, y, gc.reshape(y, (-1,)), total, total, y / total, w, gc.constant(np.ones(2)), w * 2, 2 * y]
    outputs += [gc.sum(x * table, 0) * other, table]
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
    for y, least in ((nn.BatchNorm1d(5)(x, training=True), 2), (gc.max(x, 0), 1), (gc.min(2 * x), 1)):
        static, dynamic = (gc.compile([x], y, backend=backend, dynamic=names, name="f") for names in ((), ("N",)))
        words = []
        for function in (dynamic, static):
            with pytest.raises(ArgumentError) as caught:
                function(np.ones((least - 1, 5), "float32"))
            words.append(str(caught.value))
        assert words[0] == words[1]
        np.testing.assert_allclose(*(f(np.ones((least, 5), "float32")) for f in (static, dynamic)))


def test_a_label_outside_its_classes_changes_nothing(backend, short_blocks):
    model, x, t = perceptron(nn.BatchNorm1d(6), nn.Dropout(0.5, seed=0)), rows(5), rows(name="t", dtype="int64")
    loss = nn.cross_entropy(model(x, training=True), t)
    step = gc.compile(
        [x, t], loss, gc.optim.Adam(0.1).updates(loss, model.parameters()), backend=backend, dynamic=["N"], name="step"
    )

    def variables():
        return [variable.value for variable in step._forms.variables]

    for size in (2, 16, 23):
        given, labels, before = np.ones((size, 5), "float32"), np.zeros(size, "int64"), variables()
        labels[-1] = 4
        with pytest.raises(ArgumentError, match=r"step: cross_entropy at .*:\d+: label 4 is outside the 4 classes"):
            step(given, labels)
        assert all((new == old).all() for new, old in zip(variables(), before, strict=True))
        step(given, labels % 4)
        assert not all((new == old).all() for new, old in zip(variables(), before, strict=True))


def test_an_index_outside_a_table(backend, short_blocks):
    table, i = nn.Embedding(4, 3, seed=0), rows(name="i", dtype="int64")
    function = gc.compile([i], [table(i)], backend=backend, dynamic=["N"])
    with pytest.raises(ArgumentError, match=r"embedding, take at .*index 7 is outside an axis of 4"):
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
    with pytest.raises(ArgumentError, match=r"compile: dynamic: there is no dimension 'K'; there are: N \("):
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
        function.memory,
        function.program_for,
        lambda: function.program,
        lambda: function.profile(np.ones((2, 3), "float32")),
    ):
        with pytest.raises(CompileError, match="shares: N is dynamic, so that there is no one program; compile"):
            look()
    assert str(function.source("program")).startswith("program shares(x) for any N\n")
    assert "float32(N, 3)" in function.source("graph") and "aligned" in function.source("latex")
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
