"""Exported programs of several kinds give the bits that Python gives, and pass their own self-test."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc_llvm.export_elf import with_data
from tests.backends.llvm.export_support import loaded

rng = np.random.default_rng(3)


def conv_net():
    x = gc.input("x", (2, 3, 12, 12))
    conv = gc.nn.Conv2d(3, 8, 3, padding=1, seed=0)
    return [x], [gc.max_pool2d(gc.relu(conv(x)), 2)], {}


def functions():
    x = gc.input("x", (7, 9), dtype="float64")
    return [x], [gc.sin(x), gc.exp(x) + gc.tanh(x), gc.log(x * x + 1.0), x > 0.5], {}


def gather():
    table = gc.input("table", (6, 4))
    rows = gc.input("rows", (5,), dtype="int64")
    return [table, rows], [gc.take(table, rows, axis=0), gc.argmax(table, axis=1)], {}


def recurrent():
    x = gc.input("x", (6, 2, 3))
    return [x], [gc.nn.GRU(3, 4, seed=0)(x)[0]], {}


def dropped():
    x = gc.input("x", (8, 8))
    return [x], [gc.nn.Dropout(0.5, seed=1)(x, training=True)], None


def many_constants():
    x = gc.input("x", (4, 3))
    return [x], [x @ np.arange(12, dtype="float32").reshape(3, 4), gc.sum(x)], {}


def nothing_in_it():
    x = gc.input("x", (0, 3))
    return [x], [gc.sum(x, axis=0), x * 2.0], {}


CASES = [conv_net, functions, gather, recurrent, dropped, many_constants, nothing_in_it]


def argument(tensor):
    shape = tensor.shape
    if tensor.dtype == "int64":
        return rng.integers(0, 6, shape)
    return rng.normal(size=shape).astype(tensor.dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_python_without_graphc_gets_the_same_bits(case, tmp_path):
    inputs, outputs, updates = case()
    function = gc.compile(inputs, outputs, **({} if updates is None else {"updates": updates}), backend="llvm")
    exported = function.export(tmp_path / "made", weights="pass", loader="python")
    module = loaded(exported[-1])
    module.selftest()
    params = {}
    for name in module.TENSORS["params"]:
        title = module.TENSORS["params"][name][0]
        variable = next(v for v in function._forms.variables if v.name == title)
        params[name] = np.array(variable.value)
    arguments = [argument(tensor) for tensor in inputs]
    found = module.run(*arguments, **params)
    expected = function(*arguments)
    found = found if isinstance(found, tuple) else (found,)
    for got, want in zip(found, expected, strict=True):
        assert np.asarray(got).tobytes() == want.tobytes()
    for name, array in params.items():
        title = module.TENSORS["params"][name][0]
        variable = next(v for v in function._forms.variables if v.name == title)
        assert array.tobytes() == variable.value.tobytes(), name


def test_training_step_learns_as_in_python(tmp_path):
    x, t = gc.input("x", (8, 5)), gc.input("t", (8,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(5, 6, seed=0), gc.nn.Tanh(), gc.nn.Linear(6, 3, seed=1))
    loss = gc.nn.cross_entropy(model(x), t)
    updates = gc.optim.Adam(lr=1e-2).updates(loss, model.parameters())
    step = gc.compile([x, t], [loss.named("loss")], updates=updates, backend="llvm")
    module = loaded(step.export(tmp_path / "step", loader="python")[-1])
    titles = {name: facts[0] for name, facts in module.TENSORS["params"].items()}
    values = {variable.name: variable for variable in step._forms.variables}
    params = {name: np.array(values[title].value) for name, title in titles.items()}
    xs, ts = rng.normal(size=(8, 5)).astype("float32"), rng.integers(0, 3, 8)
    for _ in range(5):
        assert np.asarray(module.run(xs, ts, **params)).tobytes() == step(xs, ts)[0].tobytes()
    for name, title in titles.items():
        assert params[name].tobytes() == values[title].value.tobytes(), title


def test_embedded_weights_are_those_of_the_moment(tmp_path):
    x, w = gc.input("x", (3,)), gc.param("w", (3,), init=1.0)
    double = gc.compile([x], (x * w).named("y"), backend="llvm")
    w.value = np.array([1, 2, 3], "float32")
    module = loaded(double.export(tmp_path / "double_it", loader="python")[-1])
    w.value = np.zeros(3, "float32")
    assert list(module.run(np.ones(3, "float32"))) == [1, 2, 3]
    assert not module.TENSORS["params"]


@pytest.mark.parametrize("target", [None, "armv7-linux", "riscv64-linux", "wasm32"])
def test_large_weights_are_in_the_object(target, tmp_path):
    x, model = gc.input("x", (1, 300)), gc.nn.Linear(300, 200, seed=0)  # 240 kB: put in after it is compiled
    function = gc.compile([x], model(x), backend="llvm")
    loader = {None: "python", "wasm32": "javascript"}.get(target)
    written = function.export(tmp_path / "large", formats=[], loader=loader, target=target)
    for path in written:
        if path.endswith((".o", ".so", ".wasm")):
            with open(path, "rb") as file:
                assert file.read().count(model.weight.value.tobytes()) == 1
    if target is None:
        values = rng.normal(size=(1, 300)).astype("float32")
        assert np.asarray(loaded(written[-1]).run(values)).tobytes() == function(values).tobytes()


def test_no_room_for_data():
    with pytest.raises(ValueError, match="no room for other"):
        with_data(b"no object", {"other": b"1"})


def test_selftest_notices_a_changed_weight(tmp_path):
    x = gc.input("x", (1, 64))
    model = gc.nn.Linear(64, 10, seed=0)
    function = gc.compile([x], model(x), backend="llvm", name="digits")
    path = function.export(tmp_path / "digits", loader="python")[-1]
    loaded(path).selftest()
    content = (tmp_path / "libdigits.so").read_bytes()
    weights = model.weight.value[:4].tobytes()
    assert content.count(weights) == 1
    again = tmp_path / "again"  # the first library is loaded, and may not be written to
    again.mkdir()
    (again / "libdigits.so").write_bytes(content.replace(weights, np.roll(model.weight.value[:4], 1).tobytes()))
    (again / "digits.py").write_bytes((tmp_path / "digits.py").read_bytes())
    with pytest.raises(RuntimeError, match="something else than what was recorded"):
        loaded(again / "digits.py").selftest()


def test_selftest_of_a_program_that_every_index_breaks(tmp_path):
    x, i = gc.input("x", (0, 3)), gc.input("i", (2,), dtype="int64")
    function = gc.compile([x, i], gc.take(x, i, axis=0), backend="llvm")
    loaded(function.export(tmp_path / "broken", loader="python")[-1]).selftest()
