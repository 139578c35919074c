"""What a pass did: every node that is gone or new is explained by a rule, and every rule is seen at work."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.errors import ArgumentError
from graphc.ir import changes, node
from graphc.ir import graph as ir_graph
from graphc.ir import scalar as sc
from graphc.ir.changes import Reason, carried, note, recording
from graphc.ir.graph import Graph
from graphc.ir.node import Generic
from graphc.passes import (
    chain,
    compare,
    disjoint,
    fold,
    fuse,
    gather,
    markers,
    masks,
    reciprocal,
    residues,
    taps,
    waits,
)
from graphc.passes.pipeline import PIPELINE
from graphc.rules import simplify, simplify_scalar, stable
from tests.conformance.test_random_graphs import models

X = gc.input("x", (3, 4), "float64")
V = gc.input("v", (4,), "float64")
COLUMN = gc.input("column", (3, 1), "float64")
LONG = gc.input("long", (64, 3), "float64")
IMAGE, KERNEL = gc.input("image", (2, 3, 11, 11), "float64"), gc.input("kernel", (4, 3, 3, 3), "float64")
WEIGHTS = [gc.param(f"w{k}", (8, 8), init=gc.init.he_normal(seed=k), dtype="float64") for k in range(3)]
ROWS = gc.input("rows", (8, 8), "float64")


def graph_of(*tensors):
    return Graph(tuple(tensor.node for tensor in tensors))


def assert_explained(found):
    """Each node that is gone or new is in a row; rows name nodes of the two graphs; what is kept is the same op."""
    rows = found.rows_of()
    for one in (*found.gone, *found.new):
        assert rows.get(one), f"no rule explains {one}"
    before, after = set(found.before.nodes), set(found.after.nodes)
    for row in found.rows:
        assert {*row.before, *row.unread} <= before and {*row.after} <= after
        assert row.reason.kind and row.reason.name and row.reason.text
        assert len(set(row.before)) == len(row.before)
    assert len({(row.reason, row.before, row.after) for row in found.rows}) == len(found.rows)
    assert len(set(found.kept.values())) == len(found.kept)
    for one, other in found.kept.items():
        assert one in before and other in after
        assert type(one) is type(other) and one.shape == other.shape and one.dtype == other.dtype
        if isinstance(one, Generic):
            assert one.domain == other.domain and one.reducer == other.reducer
            assert sc.ops_of(one.body) == sc.ops_of(other.body)


def assert_all_passes_explained(graph):
    now = graph
    for step, name in zip(PIPELINE, compare.pass_names(), strict=True):
        found = compare.compare(graph, name)
        assert found.before.outputs == now.outputs, name
        now = step(now)
        assert found.after.outputs == now.outputs, f"recording changes what {name} does"
        assert_explained(found)
        assert all(row.before for row in found.rows)
    whole = compare.compare(graph, "all")
    assert (whole.before, whole.after.outputs) == (graph, now.outputs)
    assert_explained(whole)


# --- Recording ------------------------------------------------------------------------------------------------------

EXAMPLE = Reason("rewritten", "example", "x -> y", "a test")


def test_nothing_is_kept_outside_recording():
    assert note(EXAMPLE, X.node, V.node) is V.node
    with recording() as found:
        pass
    assert note(EXAMPLE, X.node, V.node) is V.node and not found.notes and not found.images


def test_an_inner_recording_hides_the_outer_one():
    with recording() as outer:
        note(EXAMPLE, X.node, V.node)
        with recording() as inner:
            note(EXAMPLE, V.node, X.node)
        carried({X.node: V.node})
        note(EXAMPLE, X.node, X.node)
    assert [(one.before, one.after) for one in outer.notes] == [(X.node, V.node)]
    assert [(one.before, one.after) for one in inner.notes] == [(V.node, X.node)]
    assert outer.images == {X.node: V.node} and not inner.images


def test_recording_ends_with_an_error():
    with pytest.raises(RuntimeError), recording():
        raise RuntimeError
    assert changes._changes.get() is None


# --- Each rule ------------------------------------------------------------------------------------------------------


def loop_with_a_log():
    total, _ = gc.scan(lambda s, x: (gc.log(1 + gc.exp(s + x)), s), V, X)
    return total


def checkpointed():
    h = ROWS
    for w in WEIGHTS:
        h = gc.checkpoint(lambda x, w=w: gc.tanh(x @ w), h) * 2
    loss = gc.sum(h)
    return [loss, *gc.grad(loss, WEIGHTS)]


def waited_for():
    loss = gc.sum(gc.checkpoint(lambda h: gc.tanh(h @ WEIGHTS[0]), ROWS) ** 2)
    return [loss, gc.grad(loss, ROWS)]


def gates():
    h = gc.input("h", (6, 12), "float64")
    parts = gc.exp(h[:, :4]) + gc.sin(h[:, 4:8]) * gc.cos(h[:, 8:])
    return gc.grad(gc.sum(parts), h)


def masked():
    h = gc.relu(ROWS @ WEIGHTS[0] + WEIGHTS[2][0])
    loss = gc.sum(h @ WEIGHTS[1])
    return [loss, *gc.grad(loss, WEIGHTS[:2])]


def window_gradient(kernel):
    y = gc.conv2d(IMAGE, kernel, stride=2)
    return gc.vjp(y, IMAGE, gc.input("dy", y.shape, "float64"))


CASES = {
    simplify.REINDEX: ("simplify", lambda: gc.exp(X.T)),
    simplify.VIEW: ("simplify", lambda: gc.exp(X[:, None]) * 2 + gc.sin(X[:, None])),
    simplify.FILL: ("simplify", lambda: X + gc.ones((3, 4), "float64")),
    simplify.CONSTANT: ("simplify", lambda: X + gc.constant(np.array([2.0]))),
    simplify.DELTA: ("simplify", lambda: gc.define("y[i] = sum[k] where(k == i, v[k], 0)", v="K", i="3")(V)),
    simplify.UNIT_AXIS: ("simplify", lambda: gc.exp(gc.sum(gc.input("u", (3, 1, 4), "float64"), 1))),
    simplify.UNIT_COPY: ("simplify", lambda: gc.broadcast_to(V[None], (1, 4)) * 1),
    simplify.UNIT_OUTPUT: ("simplify", lambda: gc.grad(gc.sum(gc.exp(X * COLUMN)), COLUMN)),
    simplify.UNIT_MAP: ("simplify", lambda: X - gc.sqrt(gc.mean(X, axis=1, keepdims=True) + 1)),
    simplify.UNUSED_AXIS: ("simplify", lambda: gc.sum(gc.broadcast_to(V, (3, 4)), 0)),
    stable.STEP: ("stabilise", loop_with_a_log),
    stable.LOG_SUM_EXP: ("stabilise", lambda: gc.log(gc.sum(gc.exp(X), 1))),
    stable.VARIANCE: ("stabilise", lambda: gc.mean(X * X, 1) - gc.mean(X, 1) ** 2),
    fold.FOLDED: ("fold_constants", lambda: V * gc.exp(gc.constant(np.arange(4.0)))),
    ir_graph.ADDED_PARTS: ("fold_constants", lambda: gc.concatenate([gc.constant(np.ones(4)), V])),
    markers.MARKER: ("drop_markers", lambda: gc.stop_gradient(X) * 2),
    chain.REORDERED: ("order_chains", lambda: (ROWS @ WEIGHTS[0]) @ gc.input("narrow", (8, 1), "float64")),
    disjoint.JOINED: ("join_parts", gates),
    gather.GATHERED: ("gather", lambda: window_gradient(KERNEL)),
    residues.RESIDUES: ("gather", lambda: window_gradient(gc.input("even", (4, 3, 4, 4), "float64"))),
    taps.WRITTEN_OUT: ("gather", lambda: gc.grad(gc.sum(gc.avg_pool2d(IMAGE, 3, stride=2) ** 2), IMAGE)),
    reciprocal.RECIPROCAL: ("multiply_by_reciprocals", lambda: LONG / gc.sqrt(gc.mean(LONG * LONG, 0))),
    masks.BY_RESULT: ("mask_by_result", masked),
    fuse.FUSED: ("fuse", lambda: gc.exp(gc.sin(X))),
    fuse.CHEAP: ("fuse", lambda: [gc.exp(X + 1), gc.sum(X + 1)]),
    fuse.INTO_PARTS: ("fuse", lambda: gc.exp(gc.concatenate([gc.sin(V), gc.cos(V)]))),
    waits.TRIMMED: ("trim_waits", waited_for),
    compare.MERGED: ("simplify", lambda: [gc.exp(X * 1), gc.sin(gc.exp(X * 1)), gc.cos(gc.exp(X))]),
    compare.NORMAL_FORM: ("simplify", lambda: gc.grad(gc.sum(gc.exp(X * V.reshape(1, 4))), V)),
}


@pytest.mark.parametrize("reason", CASES, ids=lambda reason: reason.name)
def test_each_rule_is_named_where_it_works(reason):
    name, made = CASES[reason]
    tensors = made()
    graph = graph_of(*(tensors if isinstance(tensors, (list, tuple)) else [tensors]))
    found = compare.compare(graph, name)
    assert reason in {row.reason for row in found.rows}, [str(row.reason) for row in found.rows]
    assert_explained(found)


def test_a_view_of_a_constant_is_folded():
    found = compare.compare(graph_of(X * gc.constant(np.arange(12.0)).reshape(3, 4)), "fold_constants")
    assert [row.reason for row in found.rows] == [fold.FOLDED]


def test_every_rule_has_a_case():
    modules = [chain, compare, disjoint, fold, fuse, gather, markers, masks, reciprocal, residues, taps, waits]
    modules += [simplify, simplify_scalar, stable, ir_graph, node]
    named = {value for module in modules for value in vars(module).values() if isinstance(value, Reason)}
    elsewhere = {
        simplify.ALGEBRA,  # rows name what it consists of: the next tests
        simplify_scalar.CAST_BACK,
        simplify_scalar.KNOWN_CONDITION,
    }
    assert named - elsewhere == set(CASES)
    rules = (*named, *(rule.reason for rule in (*stable.RULES, *simplify_scalar.RULES, simplify.MASK_PRODUCT)))
    assert len({reason.name for reason in rules}) == len(rules), "two rules of one name"


def test_a_body_names_the_rows_that_made_it_simple():
    x, p = sc.Arg(0, "float32"), sc.Arg(0, "bool")
    zero, one = sc.literal(0, "float32"), sc.literal(1, "float32")
    body = sc.apply("mul", sc.apply("neg", sc.apply("neg", sc.apply("add", x, zero))), one)
    for _ in range(2):  # also when the result is known already
        assert simplify_scalar.simplify_scalar(body) is x
        names = [reason.name for reason in simplify_scalar.reasons_for(body)]
        assert sorted(names) == ["add zero", "double negation", "multiply by one"]
    assert simplify_scalar.reasons_for(sc.apply("and", p, sc.TRUE)) == [simplify_scalar.KNOWN_CONDITION]
    widened = sc.cast(sc.cast(x, "float64"), "float32")
    assert simplify_scalar.reasons_for(widened) == [simplify_scalar.CAST_BACK]


def test_rules_that_follow_one_another_are_all_named():
    found = compare.compare(graph_of(gc.log(1 + gc.exp(X))), "stabilise")
    assert [row.reason.name for row in found.rows] == ["log1p", "softplus"]
    assert found.rows[0].before == (found.before.outputs[0],) and found.rows[0].after == found.after.outputs
    assert set(found.rows[0].unread) == set(found.gone) - set(found.before.outputs)
    assert found.kept == {X.node: X.node}


def test_equal_terms_are_told_of_once():
    found = compare.compare(graph_of(gc.exp((X * 1).T), gc.sin(gc.exp(X.T))), "simplify")
    reindexed = [row for row in found.rows if row.reason is simplify.REINDEX]
    assert len({row.before for row in reindexed}) == len(reindexed) == 2
    assert len({row.result for row in reindexed}) == 1
    assert_explained(found)


def test_what_becomes_the_node_that_it_read_is_named_once():
    found = compare.compare(graph_of(gc.sum(V[None][:, ::-1], 0)), "simplify")
    assert {row.reason for row in found.rows} >= {simplify.REINDEX, simplify.UNIT_AXIS}
    assert_explained(found)


def test_of_all_passes_a_rule_names_what_the_last_one_left():
    found = compare.compare(graph_of(gc.sin(gc.log(1 + gc.exp(X)))), "all")
    by_name = {row.reason.name: row for row in found.rows}
    assert by_name["softplus"].result is by_name["read once"].result is found.after.outputs[0]
    assert by_name["read once"].before[0] is found.before.outputs[0]
    assert by_name["read once"].before[1] is by_name["softplus"].before[0]


def test_what_only_reads_something_new_is_kept():
    y = gc.sqrt(gc.abs(gc.log(1 + gc.exp(X))))
    found = compare.compare(graph_of(y), "stabilise")
    assert found.kept[y.node] is found.after.outputs[0] is not y.node
    assert y.node not in found.gone and found.after.outputs[0] not in found.new


# --- The passes by name ---------------------------------------------------------------------------------------------


def test_a_pass_that_occurs_again_has_a_number():
    names = compare.pass_names()
    assert len(set(names)) == len(names) == len(PIPELINE)
    first, second = names.index("simplify"), names.index("simplify-2")
    assert PIPELINE[first] is PIPELINE[second] and first < names.index("gather") < second


def test_an_unknown_pass_lists_the_passes():
    with pytest.raises(ArgumentError, match=r"no pass 'fusion'; the passes are stabilise, .*, trim_waits, and all for"):
        compare.compare(graph_of(X), "fusion")


# --- Every node is explained ----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(models("float64", sizes=st.sampled_from([1, 2, 3, 8])), st.booleans())
def test_random_graphs_are_explained(model, with_gradients):
    values, tensor = model
    tensors = [tensor]
    if with_gradients:
        tensors += gc.grad(gc.sum(tensor), list(values))
    assert_all_passes_explained(graph_of(*tensors))


def convolutions():
    x, t = gc.input("x", (4, 1, 9, 9)), gc.input("t", (4,), dtype="int64")
    net = gc.nn.Sequential(
        gc.nn.Conv2d(1, 3, 3, stride=2, padding=1), gc.nn.BatchNorm2d(3), gc.nn.ReLU(), gc.nn.MaxPool2d(2),
        gc.nn.Flatten(), gc.nn.Linear(12, 5),
    )  # fmt: skip
    return gc.nn.cross_entropy(net(x, training=True), t), net.parameters()


def attention():
    x = gc.input("x", (2, 5, 8))
    layer = gc.nn.MultiheadAttention(8, 2)
    found = layer(x, x, x)
    return gc.mean((found[0] if isinstance(found, tuple) else found) ** 2), layer.parameters()


def recurrent():
    layer = gc.nn.LSTM(3, 4)
    found, *_ = layer(gc.input("x", (5, 2, 3)))
    return gc.mean(found**2), layer.parameters()


@pytest.mark.parametrize("model", [convolutions, attention, recurrent], ids=lambda model: model.__name__)
def test_models_are_explained(model):
    loss, parameters = model()
    assert_all_passes_explained(graph_of(loss, *gc.grad(loss, list(parameters))))


def test_a_checkpointed_model_is_explained():
    assert_all_passes_explained(graph_of(*checkpointed()))
