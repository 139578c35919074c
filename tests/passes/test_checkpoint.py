"""gc.checkpoint: the derivatives of the plain function, a smaller arena, and each value computed once more at most."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.backend import available
from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.ir.graph import Graph
from graphc.ir.interp import interpret
from graphc.ir.node import Input, Opaque
from graphc.lang.tensor import variables
from graphc.passes.pipeline import run_passes
from graphc.passes.waits import trim_waits
from tests.passes.support import keeps_meaning

D = "float64"
RNG = np.random.default_rng(0)
X, Y = gc.input("x", (5, 4), D), gc.input("y", (5, 4), D)
LABELS = gc.input("labels", (5,), "int64")
W = [gc.param(f"w{k}", (4, 4), init=RNG.normal(size=(4, 4)), dtype=D) for k in range(3)]
COUNT = gc.state("count", (), init=3.0, dtype=D)


def plain(function, *inputs, **options):
    return function(*inputs, **options)


def draws(h):
    """Ones and zeros that a counter decides, as dropout's are."""
    u = gc.sin(gc.arange(20, dtype=D).reshape((5, 4)) * 12.9898 + COUNT * 78.233) * 43758.5453
    return gc.where(u - gc.floor(u) > 0.4, h, 0)


def normalised(h):
    mean, var = gc.mean(h, axis=(0, 2, 3), keepdims=True), gc.var(h, axis=(0, 2, 3), keepdims=True)
    return (h - mean) / gc.sqrt(var + 1e-5)


def layers(ck):
    h = X
    for w in W:
        h = ck(lambda h, w: gc.relu(gc.tanh(h @ w)) + 0.1 * h, h, w)
    return gc.mean(h**2)


def two_outputs(ck):
    def part(a, b, labels):
        h = gc.tanh(a @ W[0])
        return h, [gc.sin(h * b)][0], gc.clip(labels + gc.argmax(b, axis=1), 0, 3)

    h, s, picks = ck(part, X, Y, LABELS)
    return gc.sum(h * s) + gc.sum(gc.take(h, picks, axis=1)) ** 2


def nested(ck):
    def inner(h):
        return gc.tanh(gc.exp(gc.sin(h @ W[1])) @ W[2])

    def outer(h):
        return gc.tanh(ck(inner, gc.tanh(h @ W[0])) * h)

    return gc.mean(ck(outer, ck(outer, X)) ** 2)


def overlapping(ck):
    def part(a):
        return gc.exp(gc.tanh(a @ W[0]))

    u = ck(part, X)
    return gc.mean(u * ck(lambda a: gc.sin(part(a)) * u, X))


def with_custom_rule(ck):
    op = gc.custom_vjp(lambda a, b: gc.tanh(a) * b, lambda g, o, a, b: [g * o * gc.cos(a), g * gc.tanh(a)])
    return gc.mean(ck(lambda h: gc.sin(op(gc.tanh(h @ W[0]), h)), X) ** 2)


def convolution(ck):
    kernel = gc.reshape(W[0][:3], (2, 1, 3, 2))
    first = ck(lambda v: gc.relu(normalised(gc.conv2d(v, kernel, stride=2, padding=1))), gc.reshape(X, (1, 1, 5, 4)))
    return gc.mean(ck(lambda v: gc.exp(gc.max_pool2d(v, 2)), first) ** 2)


def capturing(ck):
    """What is captured stands before what is computed inside, and behind its copy: a product puts the one first."""
    captured = gc.tanh(gc.tanh(gc.tanh(Y @ W[0]) @ W[1]) @ W[2])
    return gc.mean(ck(lambda h: gc.exp(gc.sin(h) * captured) - captured, X) ** 2)


def capturing_within(ck):
    def outer(h):
        inside = gc.tanh(h @ W[0])
        return gc.tanh(ck(lambda u: gc.exp(gc.sin(u @ W[1])) * inside, 2 * h) @ W[2])

    return gc.mean(ck(outer, X) ** 2)


MODELS = {
    "capturing": capturing,
    "capturing within": capturing_within,
    "layers": layers,
    "two outputs": two_outputs,
    "nested": nested,
    "overlapping": overlapping,
    "custom rule": with_custom_rule,
    "convolution": convolution,
    "dropout": lambda ck: gc.mean(ck(lambda h: gc.tanh(draws(h @ W[0])), ck(lambda h: draws(h) ** 2, X)) ** 2),
    "one input twice": lambda ck: gc.mean(ck(lambda a, b: gc.tanh(a * b + X), X, X) ** 3),
    "nothing inside": lambda ck: gc.mean(ck(lambda a, b: (b, a), gc.sin(X), Y)[0] ** 3 * X),
    "constant inside": lambda ck: gc.sum(ck(lambda h: gc.stop_gradient(gc.exp(h)) * gc.softmax(h @ W[0]), X)),
}


def value(leaf):
    if leaf in variables:
        return variables[leaf].value
    rng = np.random.default_rng(len(leaf.name))
    return rng.integers(0, 3, leaf.shape) if leaf.dtype == "int64" else rng.normal(size=leaf.shape)


def computed(tensors, backend=None):
    """The values of tensors: by a backend, or by the interpreter."""
    graph = Graph(tuple(tensor.node for tensor in tensors))
    if backend is None:
        return interpret(graph, {leaf: value(leaf) for leaf in graph.inputs})
    inputs = [leaf for leaf in graph.inputs if leaf not in variables]
    return gc.compile([gc.Tensor(leaf) for leaf in inputs], tensors, backend=backend)(*map(value, inputs))


def derivatives(loss, orders=2):
    """The loss, its gradients, a tangent; of the second order the gradient of the gradients and a Hessian's product."""
    leaves = [X, Y, *W]
    first = gc.grad(loss, leaves)
    found = [loss, *first, gc.jvp(loss, leaves, [gc.cos(leaf) for leaf in leaves])]
    if orders == 2:
        found += gc.grad(sum(gc.sum(gc.sin(one)) for one in first), leaves)
        found += gc.hvp(loss, leaves, [0.3 * leaf for leaf in leaves])
    return found


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_derivatives_are_those_of_the_plain_function(name):
    expected = computed(derivatives(MODELS[name](plain)))
    found = derivatives(MODELS[name](gc.checkpoint))
    assert_close(computed(found), expected)
    for backend in available():
        assert_close(computed(found[:7], backend), expected[:7])


@pytest.mark.parametrize("name", MODELS)
def test_each_pass_keeps_the_meaning(name):
    leaves = [X, *W[:1]]
    loss = MODELS[name](gc.checkpoint)
    tensors = (loss, *gc.grad(loss, leaves))
    graph = Graph(tuple(tensor.node for tensor in tensors))
    given = {leaf: value(leaf) for leaf in graph.inputs}
    final = keeps_meaning(lambda graph: run_passes(graph, check=True), *tensors, values=given)
    assert not {node.op for node in final.nodes if isinstance(node, Opaque)} & {"checkpoint_in", "checkpoint_out"}
    keeps_meaning(trim_waits, *tensors, values=given)


OPS = (gc.tanh, gc.sin, gc.relu, lambda h: h @ W[0], lambda h: h * h, lambda h: gc.softmax(h @ W[1]), lambda h: h + X)
LAYERS = st.sampled_from(range(len(OPS)))
CHAINS = st.recursive(LAYERS, lambda inner: st.lists(inner, min_size=1, max_size=4), max_leaves=9)


def chain(ck, tree, h):
    if isinstance(tree, int):
        return OPS[tree](h)
    for part in tree:
        h = ck(lambda h, part=part: chain(ck, part, h), h)
    return h


@given(CHAINS)
@settings(max_examples=20)
def test_any_nesting(tree):
    expected = computed(derivatives(gc.mean(chain(plain, tree, gc.sin(X)) ** 2), 1))
    found = derivatives(gc.mean(chain(gc.checkpoint, tree, gc.sin(X)) ** 2), 1)
    assert_close(computed(found), expected)
    assert_close(computed(found, "numpy"), expected)


def test_jacobian_and_hessian():
    def model(ck):
        return ck(lambda h: gc.tanh(h @ W[0]) * h, ck(lambda h: gc.exp(gc.sin(h @ W[1])), X[:2]))

    both = [[gc.jacobian(model(ck), X), gc.hessian(gc.mean(model(ck) ** 2), X)] for ck in (plain, gc.checkpoint)]
    assert_close(computed(both[1]), computed(both[0]))
    assert_close(computed(both[1], "numpy"), computed(both[0]))
    work = []
    for jacobian, _ in both:
        kernels = gc.compile([X], jacobian, backend="numpy").program.kernels
        work.append([stage.node.domain for kernel in kernels for stage in kernel.stages])
    assert sorted(work[0]) == sorted(work[1])  # nothing is computed again for each of the rows


def test_named_dimensions():
    x = gc.input("x", ("N", 4), D)
    loss = gc.mean(gc.checkpoint(lambda h: gc.exp(gc.tanh(h @ W[0]) @ W[1]), x) ** 2)
    same = gc.mean(gc.exp(gc.tanh(x @ W[0]) @ W[1]) ** 2)
    step, other = (gc.compile([x], gc.grad(one, [x, W[0]])) for one in (loss, same))
    for size in (1, 3, 8):
        array = np.random.default_rng(size).normal(size=(size, 4))
        assert_close(step(array), other(array))


# --- Memory and work ------------------------------------------------------------------------------------------------


def deep(every, layers=32, activation=gc.nn.ReLU, backend="numpy"):
    """A training step of a chain of layers with a checkpoint for each `every` of them; none for 0."""
    x, t = gc.input("x", (16, 16)), gc.input("t", (16,), "int64")
    stack = [gc.nn.Sequential(gc.nn.Linear(16, 16, seed=k), activation()) for k in range(layers)]
    head = gc.nn.Linear(16, 10, seed=99)
    h = x
    for start in range(0, layers, every or layers):
        part = gc.nn.Sequential(*stack[start : start + (every or layers)])
        h = gc.checkpoint(part, h) if every else part(h)
    loss = gc.nn.cross_entropy(head(h), t)
    parameters = [p for one in (*stack, head) for p in one.parameters()]
    return gc.compile([x, t], [loss], gc.optim.SGD(0.1).updates(loss, parameters), backend=backend), parameters


def contractions(function):
    return sum(kernel.kind == "contraction" for kernel in function.program.kernels)


@pytest.mark.parametrize("activation", [gc.nn.ReLU, gc.nn.SiLU])
def test_the_arena_of_a_chain_shrinks(activation):
    without, _ = deep(0, activation=activation)
    step, _ = deep(6, activation=activation)
    assert step.stats.arena_bytes <= 0.4 * without.stats.arena_bytes  # measured: 0.33 and 0.21
    assert contractions(without) < contractions(step) <= contractions(without) + 32


@pytest.mark.parametrize("backend", available())
def test_steps_learn_the_same(backend):
    rng = np.random.default_rng(1)
    data = rng.normal(size=(16, 16)).astype("float32"), rng.integers(0, 10, 16)
    losses, values = [], []
    for every in (0, 3):
        step, parameters = deep(every, layers=8, activation=gc.nn.Tanh, backend=backend)
        losses.append([float(step(*data)[0]) for _ in range(5)])
        values.append([parameter.value for parameter in parameters])
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    for one, other in zip(*values, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_inner_values_of_a_nest_are_computed_at_most_twice_more():
    def model(ck):
        inner = lambda h: gc.tanh(gc.tanh(h @ W[0]) @ W[1])  # noqa: E731
        h = ck(lambda h: ck(inner, ck(inner, h)), ck(lambda h: ck(inner, ck(inner, h)), X))
        return gc.compile([X], gc.grad(gc.mean(h**2), W[:2]), backend="numpy")

    assert contractions(model(plain)) == 8 + 15
    assert contractions(model(plain)) < contractions(model(gc.checkpoint)) <= 8 + 15 + 2 * 8


def test_again_has_no_kernel_and_no_memory_and_all_updates_stay_in_place():
    step, _ = deep(3, layers=9)
    program = step.program
    opaque = [node for node in step.specialised().graph.nodes if isinstance(node, Opaque)]
    markers = [node for node in opaque if node.op == "again"]
    assert {node.op for node in opaque} == {"again", "checked"}  # labels are checked
    assert [stage.node.op for kernel in program.kernels if kernel.kind == "opaque" for stage in kernel.stages] == [
        "checked"
    ]
    aliases = [buffer for buffer in program.buffers if buffer.name.startswith("again_checkpoint")]
    assert len(aliases) == len(markers) and all(buffer.alias and buffer.offset is None for buffer in aliases)
    assert all(program.root(source).kind == "update" for source, _ in program.updates)


def test_nothing_is_computed_again_before_its_cotangent_is_known():
    step, _ = deep(3, layers=9, activation=gc.nn.Tanh)
    kernels = step.program.kernels
    loss = next(place for place, kernel in enumerate(kernels) if step.program.outputs[0] in kernel.writes)
    again = [place for place, kernel in enumerate(kernels) if any("again_checkpoint" in name for name in kernel.reads)]
    assert loss < min(again)
    kept = [block for block in step.memory().blocks if block.first < loss and block.last > min(again)]
    assert len(kept) == 2  # the results from which the later two of the three checkpoints start


def test_a_part_with_several_results_waits_for_the_cotangents_of_all():
    def part(a):
        h = gc.tanh(a @ W[0])
        return gc.tanh(h @ W[1]), h

    last, first = gc.checkpoint(part, X)
    loss = gc.mean(gc.tanh(last @ W[2]) @ W[2] * gc.sin(first) ** 2)
    opaque = [node for node in Graph((gc.grad(loss, X).node,)).nodes if isinstance(node, Opaque)]
    assert [len(node.operands) for node in opaque if node.op == "again"] == [1 + 2]


def test_a_rule_of_the_users_reads_what_is_computed_again():
    op = gc.custom_vjp(lambda a, b: a * b, lambda g, o, a, b: [g * b, g * a])
    loss = gc.mean(gc.checkpoint(lambda h: op(h @ W[0], h @ W[1]), X) ** 3)
    assert contractions(gc.compile([X], gc.grad(loss, X), backend="numpy")) == 2 + 2 + 2


def test_a_cotangent_of_several_arrays_is_stored_so_that_these_need_not_be():
    x, y = gc.input("x", (64, 8)), gc.input("y", (64, 8))
    w = gc.param("w", (8, 8), init=0.1)
    h = gc.checkpoint(lambda h: gc.tanh(gc.exp(h @ w) @ w), x)
    step = gc.compile([x, y], gc.grad(gc.mean((h * gc.sin(y)) ** 2), w), backend="numpy")
    memory = step.memory()
    again = next(at for at, kernel in enumerate(step.program.kernels) if "again_checkpoint" in kernel.reads)
    assert sum(block.first < again <= block.last for block in memory.blocks) == 1


def idle(program):
    """Temporaries that no other kernel reads than the one that writes them."""
    read = {program.root(name).name for kernel in program.kernels for name in kernel.reads}
    named = {*program.outputs, *(source for source, _ in program.updates)}
    owned = [b.name for b in program.buffers if b.kind == "temporary" and b.alias is None]
    return [name for name in owned if name not in read | named]


def test_nothing_is_stored_to_be_waited_for_alone():
    x, y = gc.input("x", (64, 8)), gc.input("y", (64, 8))
    w = gc.param("w", (8, 8), init=0.1)
    squares = gc.checkpoint(lambda h: gc.tanh(gc.exp(h @ w) @ w), x)  # its cotangent is computed where it is read
    loss = gc.mean(squares**2)
    step = gc.compile([x], [loss, gc.grad(loss, w)], backend="numpy")
    assert not idle(step.program) and "again_exp" in step.program.by_name
    scaled = gc.checkpoint(lambda h: (gc.exp(h @ w) @ w) * gc.sin(y), x)  # its cotangent stays within a kernel
    loss = gc.mean(gc.tanh(scaled @ w) ** 2)
    assert not idle(gc.compile([x, y], gc.grad(loss, w), backend="numpy").program)


def test_what_an_inner_checkpoint_captures_of_the_outer_one_is_not_kept():
    loss = capturing_within(gc.checkpoint)
    step = gc.compile([X], [loss, gc.grad(loss, W[1])], backend="numpy")
    kernels = step.program.kernels
    value = next(place for place, kernel in enumerate(kernels) if step.program.outputs[0] in kernel.writes)
    again = [place for place, kernel in enumerate(kernels) if any("again_checkpoint" in name for name in kernel.reads)]
    kept = [block.name for block in step.memory().blocks if block.first <= value and block.last > min(again)]
    assert len(kept) <= 1, kept  # the cotangent


@pytest.mark.parametrize("backend", available())
def test_maps_of_one_kernel(backend):
    """A value and what reads it again are not in one kernel, although the same loop could compute both."""

    def model(ck):
        a = gc.exp(gc.sin(X))
        loss = gc.mean(gc.sin(ck(lambda h: gc.tanh(gc.sin(h)) * h, a) * Y) * a)
        return [loss, gc.grad(loss, X)]

    assert_close(computed(model(gc.checkpoint), backend), computed(model(plain)))


def test_a_mask_is_drawn_again():
    x, w = gc.input("x", (64, 4), D), W[0]
    count = gc.state("count", (), init=1.0, dtype=D)
    count.set_next(count + 1)

    def part(h):
        u = gc.sin(gc.arange(256, dtype=D).reshape((64, 4)) * 12.9898 + count * 78.233) * 43758.5453
        return gc.tanh(gc.where(u - gc.floor(u) > 0.5, h @ w, 0)) @ w

    losses = [gc.mean(ck(part, x) ** 2) for ck in (plain, gc.checkpoint)]
    array = RNG.normal(size=(64, 4))
    found = []
    for loss in losses:
        count.value = 1.0
        step = gc.compile([x], [loss, *gc.grad(loss, [x, w])], backend="numpy")
        found.append([step(array) for _ in range(3)])
        assert count.value == 4.0  # one step of the counter a call
    loss_at = next(at for at, kernel in enumerate(step.program.kernels) if step.program.outputs[0] in kernel.writes)
    kept = [block.name for block in step.memory().blocks if block.first < loss_at < block.last]
    assert kept == ["arange", "grad_power"]  # neither the draws nor the mask
    for one, other in zip(*found, strict=True):
        assert_close(one, other)
    assert not np.array_equal(found[0][0][1] == 0, found[0][1][1] == 0)  # another mask in each call


def test_statistics_move_once_a_step():
    x = gc.input("x", (8, 3, 4, 4), D)
    gain = gc.param("gain", (3, 1, 1), init=1.0, dtype=D)
    results = []
    for ck in (plain, gc.checkpoint):
        running = gc.state("running", (3,), init=0.0, dtype=D)

        def part(v, running=running):
            running.set_next(0.9 * running + 0.1 * gc.mean(v, axis=(0, 2, 3)))
            return gc.tanh(normalised(v) * gain + running[:, None, None])

        loss = gc.mean(ck(part, x) ** 2)
        step = gc.compile([x], [loss], gc.optim.SGD(0.1).updates(loss, [gain]), backend="numpy")
        gain.value = np.ones((3, 1, 1))
        for seed in range(3):
            step(np.random.default_rng(seed).normal(size=(8, 3, 4, 4)) + 1)
        results.append([running.value, gain.value])
    assert_close(*results)
    assert results[0][0].all()


# --- The function ---------------------------------------------------------------------------------------------------


def test_results_come_as_the_function_gives_them():
    assert isinstance(gc.checkpoint(gc.exp, X), gc.Tensor)
    assert [type(gc.checkpoint(lambda h, kind=kind: kind([h, h]), X)) for kind in (list, tuple)] == [list, tuple]
    found = gc.checkpoint(lambda h, power, *, sign: (sign * h**power, gc.argmax(h)), X, 3, sign=-1)
    assert [one.dtype for one in found] == [D, "int64"]
    np.testing.assert_allclose(gc.evaluate(found[0], {X: np.full((5, 4), 2.0)}), -8)


def test_a_module_and_its_training_flag():
    class Noise(gc.nn.Module):
        def forward(self, h, training):
            return h * 2 if training else h

    array = np.ones((5, 4))
    assert gc.evaluate(gc.checkpoint(Noise(), X, training=True), {X: array}).max() == 2
    assert gc.evaluate(gc.checkpoint(Noise(), X), {X: array}).max() == 1


def test_the_function_is_called_once():
    calls = []
    gc.grad(gc.sum(gc.checkpoint(lambda h: (calls.append(1), gc.exp(h))[1], X)), X)
    assert calls == [1]


def test_a_leaf_within_and_a_value_within_have_gradients():
    kept = []

    def part(h):
        kept.append(gc.tanh(h @ W[0]))
        return gc.exp(kept[-1])

    loss = gc.mean(gc.checkpoint(part, X) ** 2)
    same = gc.tanh(X @ W[0])
    assert_close(computed([gc.grad(loss, kept[0])]), computed([gc.grad(gc.mean(gc.exp(same) ** 2), same)]))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((lambda: X,), ArgumentError, r"no tensor is given.*gc\.checkpoint\(f, x\)"),
        ((X, X), ArgumentTypeError, "a function comes first, not Tensor"),
        ((lambda h: {"h": h}, X), ArgumentTypeError, "it gave dict"),
        ((lambda h: [h, 1], X), ArgumentTypeError, "it gave int"),
    ],
)
def test_errors_name_the_line(arguments, error, words):
    with pytest.raises(error, match=words) as caught:
        gc.checkpoint(*arguments)
    assert "test_checkpoint.py:" in str(caught.value)


def test_what_is_shown():
    h = gc.checkpoint(lambda h: gc.tanh(gc.exp(h @ W[0]) @ W[1]), X)
    loss = gc.mean(h**2)
    step = gc.compile([X], [loss, gc.grad(loss, W[0])], backend="numpy")
    assert "again(x, " in step.source("graph") and "again_checkpoint = x.reshape(5, 4)" in step.source("numpy")
    assert "again" not in step.source("latex")  # it is the same value
    assert str(gc.checkpoint(gc.sin, gc.input("s", (), D)).to_sympy()) == "sin(s)"


def test_two_checkpoints_on_one_value_stay_apart():
    """What one captures of the other is not computed again with it."""
    encoded = gc.checkpoint(lambda h: gc.tanh(gc.exp(h @ W[0]) @ W[0]), X)
    loss = gc.mean(gc.checkpoint(lambda h: gc.exp(h * encoded), X) ** 2)
    step = gc.compile([X], gc.grad(loss, X), backend="numpy")
    assert contractions(step) == 2 + 2 + 2
    assert all(not isinstance(node, Input) or node.name in ("x", "w0") for node in step.graph.nodes)
