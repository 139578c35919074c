"""Backends are found by entry point, a third party's like our own."""

from __future__ import annotations

import ast
import inspect
from importlib.metadata import entry_points

import numpy as np
import pytest

import graphc as gc
from graphc import backend as backends
from graphc.backend import available
from graphc.errors import BackendError

TOY = '''
"""A backend that interprets the stages of a Program one by one."""
import numpy as np
from graphc.errors import BackendError
from graphc.ir.interp import evaluate_generic
from graphc.ir.node import Generic
from graphc.ir.opaque import REFERENCE

class Toy:
    name = "toy"

    def compile(self, program, options):
        return Interpreted(program)

class Interpreted:
    def __init__(self, program):
        self.program = program

    def run(self, arrays):
        memory = dict(zip(self.program.inputs, arrays, strict=True))
        memory |= {b.name: b.value for b in self.program.buffers if b.value is not None}
        root = lambda name: self.program.root(name).name
        read = lambda name: memory[root(name)].reshape(self.program.by_name[name].shape)
        with np.errstate(all="ignore"):
            for stage in self.program.stages():
                node, values = stage.node, [read(name) for name in stage.reads]
                is_generic = isinstance(node, Generic)
                value = evaluate_generic(node, values) if is_generic else REFERENCE[node.op](node, values)
                at = root(stage.write)  # the parts of a Join add up: each is 0 where it does not write
                is_part = len([s for s in self.program.stages() if s.write == stage.write]) > 1
                memory[at] = value + memory[at] if is_part and at in memory else value
        for source, target in self.program.updates:
            memory[target][...] = read(source)
        return [np.array(read(name)) for name in self.program.outputs]

    def source(self, kind):
        raise BackendError(f"the toy backend has no source {kind!r}")

backend = Toy()
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install("toy = module:attribute", "module", text)` puts a distribution with this entry point on the path."""
    caches = (backends._found, backends.load)

    def write(entry_point, module="", text=""):
        info = tmp_path / "toy-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(f"[graphc.backends]\n{entry_point}\n")
        if module:
            (tmp_path / f"{module}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        for cache in caches:
            cache.cache_clear()

    yield write
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


def test_our_own_backends_are_installed():
    assert {"llvm", "numpy"} <= set(available())


def test_the_quick_look_agrees_with_importlib(install):
    for point in entry_points(group=backends.ENTRY_POINT_GROUP):
        assert backends._quickly(point.name) == point.value
    assert backends._quickly("none") is None
    install("a.b= module.part : attribute.of_it \n[other]\nc = module")
    assert backends._quickly("a.b") == "module.part : attribute.of_it"
    assert backends._quickly("c") is None


def test_what_only_importlib_finds_is_loaded(install, monkeypatch):
    install("toy = toy_backend_c:backend", "toy_backend_c", TOY)
    monkeypatch.setattr(backends, "_quickly", lambda name: None)
    assert backends.load("toy").name == "toy"


def test_the_toy_has_at_most_forty_lines():
    assert len(TOY.strip().splitlines()) <= 40


def test_the_toy_imports_what_a_backend_may_see():
    modules = {node.module for node in ast.walk(ast.parse(TOY)) if isinstance(node, ast.ImportFrom)}
    assert {module.split(".")[1] for module in modules} <= {"errors", "ir", "program", "backend"}


def test_a_third_party_backend_is_listed_and_runs(install):
    install("toy = toy_backend_a:backend", "toy_backend_a", TOY)
    assert available() == ("llvm", "numpy", "toy")
    x = gc.input("x", ("N", 3))
    double = gc.compile([x], [2 * x, gc.softmax(x)], backend="toy")
    image = np.arange(6, dtype=np.float32).reshape(2, 3)
    doubled, soft = double(image)
    np.testing.assert_array_equal(doubled, 2 * image)
    np.testing.assert_allclose(soft, gc.evaluate(gc.softmax(x), {x: image}), rtol=1e-6)


def model(seed):
    """A convolution with stride (its gradient is a Join), a hidden layer, an embedding; one step of descent."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return gc.param(f"w{len(shape)}", shape, init=(rng.normal(size=shape) / 3).astype(np.float32))

    x, labels = gc.input("x", ("N", 1, 7, 7)), gc.input("labels", ("N",), dtype="int64")
    kernel, dense, table = weights(3, 1, 3, 3), weights(27, 4), weights(4)
    hidden = gc.relu(gc.conv2d(gc.tanh(x), kernel, stride=2))
    scores = gc.flatten(hidden) @ dense + gc.take(table, labels)[:, None]
    loss = -gc.mean(gc.sum(gc.one_hot(labels, 4) * gc.log_softmax(scores), axis=1)) + gc.sum(scores**2) * 0.01
    params = [kernel, dense, table]
    to_x = gc.grad(loss, x)
    updates = {p: p - 0.1 * g for p, g in zip(params, gc.grad(loss, params), strict=True)}
    return [x, labels], [loss, to_x], updates, params


def test_a_third_party_backend_trains_a_model(install):
    install("toy = toy_backend_b:backend", "toy_backend_b", TOY)
    rng = np.random.default_rng(5)
    images, labels = rng.normal(size=(6, 1, 7, 7)).astype(np.float32), np.arange(6) % 4
    results = {}
    for name in available():
        inputs, outputs, updates, params = model(seed=1)
        step = gc.compile(inputs, outputs, updates=updates, backend=name)
        losses = [step(images, labels) for _ in range(3)]
        assert losses[2][0] < losses[0][0]
        results[name] = [*losses[-1], *(p.value for p in params)]
    for name, values in results.items():
        for found, expected in zip(values, results["toy"], strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-6, err_msg=name)


@pytest.mark.parametrize(
    ("entry_point", "text", "words"),
    [
        ("broken = toy_absent_module:backend", "", "toy_absent_module"),
        ("broken = toy_raising:backend", "raise RuntimeError('no licence')", "no licence"),
        ("broken = toy_empty:backend", "x = 1", "backend"),
        ("broken = toy_number:backend", "backend = 3", "`name` and `compile`"),
        (
            "broken = toy_nameless:backend",
            "class B:\n    def compile(self): ...\nbackend = B()",
            "`name` and `compile`",
        ),
    ],
    ids=["no module", "raises", "no attribute", "a number", "no name"],
)
def test_a_broken_backend_is_named(install, entry_point, text, words):
    module = entry_point.split(" = ")[1].split(":")[0]
    install(entry_point, module if text else "", text)
    x = gc.input("x", (3,))
    with pytest.raises(BackendError) as caught:
        line = inspect.currentframe().f_lineno + 1
        gc.compile([x], 2 * x, backend="broken")
    assert "'broken'" in caught.value.message and words in caught.value.message
    assert caught.value.where == f"{__file__}:{line}"
    assert gc.compile([x], 2 * x, backend="numpy")(np.ones(3, np.float32)).tolist() == [2, 2, 2]


def test_a_broken_backend_does_not_hide_the_others(install):
    install("broken = toy_absent_module:backend")
    with pytest.raises(BackendError, match="broken, llvm, numpy"):
        backends.load("nope")
