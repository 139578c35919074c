"""Passes in words and as pictures: the texts, and that a picture shows both graphs and nothing else."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.cli.spec import load
from graphc.errors import ArgumentError
from graphc.ir.graph import Graph
from graphc.passes.compare import pass_names
from graphc.render.difference import picture as difference_picture
from graphc.render.difference.difference import difference_of
from graphc.render.dot import dot_of_picture
from graphc.render.layout import lay_out
from graphc.render.picture import KINDS
from tests.conformance.test_random_graphs import models

MODEL = """
import graphc as gc, numpy as np
x = gc.input("x")
y = gc.log(1 + gc.exp(x))
w0, x0, w1, x1, w2 = (gc.input(name) for name in ("w0", "x0", "w1", "x1", "w2"))
f = 1 / (1 + gc.exp(-(w0*x0 + w1*x1 + w2)))
A, B, v = gc.input("A", (1000, 1000)), gc.input("B", (1000, 1000)), gc.input("v", (1000, 2))
z = (A @ B) @ v
t = v.T @ (B @ A).T
k = gc.input("k", (3,))
c = k * (gc.exp(gc.constant(np.array([1., 2., 3.], "float32"))) * 2)
total = gc.sum(gc.exp(gc.sin(k)))
one = gc.exp(k)
both = gc.sin(one) + gc.exp(k)
batch = gc.input("batch", ("N", 3))
rows = gc.exp(batch * 1)
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "model.py"
    path.write_text(MODEL)
    return cache(lambda name: load(f"{path}:{name}").graph)


def graph_of(*tensors):
    return Graph(tuple(tensor.node for tensor in tensors))


# --- Text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pass_name", "text"),
    [
        ("y", "stabilise", """
stabilise: 4 nodes before, 2 after
rewritten: log1p: log(1 + x) -> log1p(x)  y = log  model.py:4  (1 + x loses a small x)
rewritten: softplus: log1p(exp(x)) -> softplus(x)  y = log  model.py:4  (exp overflows from 89 on in float32)
"""),
        ("f", "stabilise", """
stabilise: 13 nodes before, 11 after
rewritten: sigmoid of negated: 1 / (1 + exp(x)) -> sigmoid(-x)  f = divide  model.py:6  \
(exp overflows, and its gradient is inf/inf)
"""),
        ("z", "order_chains", """
order_chains: 5 nodes before, 5 after
reordered: (A B) v -> A (B v), 1.0e9 -> 4.0e6 multiply-adds  model.py:8
"""),
        ("t", "order_chains", """
order_chains: 5 nodes before, 5 after
reordered: v' (B A)' -> (v' A') B', 1.0e9 -> 4.0e6 multiply-adds  model.py:9
"""),
        ("c", "fold_constants", """
fold_constants: 5 nodes before, 3 after
folded, 2 times: constants: what depends on constants alone is a constant  (it is computed once, now)
    exp  model.py:11
    multiply -> [5.437, 14.78, 40.17]  model.py:11
"""),
        ("total", "fuse", """
fuse: 4 nodes before, 2 after
fused, 2 times: read once: a map is computed where it is read  (its result needs no array)
    sin into exp  model.py:12
    exp into total = sum (one kernel reads k)  model.py:12
"""),
        ("both", "drop_markers", """
drop_markers: 4 nodes before, 4 after
drop_markers changes nothing here
shared: one = exp  asked for by model.py:13, model.py:14
"""),
    ],
    ids=["softplus", "neuron", "chain", "transposed chain", "constants", "fuse", "shared"],
)  # fmt: skip
def test_text(spec, name, pass_name, text):
    assert str(difference_of(spec(name), pass_name)) == text.strip("\n")


def test_many_rows_of_one_rule_are_counted():
    x = gc.input("x", (4,))
    loss = sum(gc.sum(gc.exp(gc.input(f"x{k}", (4,)) + gc.sin(x * k))) for k in range(2, 11))
    text = str(difference_of(graph_of(loss), "fuse"))
    (title,) = [line for line in text.splitlines() if ": read once:" in line]
    count = int(re.match(r"fused, (\d+) times: ", title)[1])
    shown = text.split(title)[1].split("\nfused")[0].strip("\n").splitlines()
    told = sum(int(match[1]) if (match := re.search(r"\((\d+) times\)$", line)) else 1 for line in shown[:-1])
    assert count > 20 and count > told and shown[-1] == f"    … and {count - told} more"


def test_all_compares_the_first_graph_with_the_last(spec):
    found = difference_of(spec("f"), "all")
    assert str(found).startswith("all passes: 13 nodes before, 6 after\nrewritten: sigmoid of negated: ")
    assert found.before.outputs == spec("f").outputs
    assert {row.reason.kind for row in found.rows} == {"rewritten", "fused"}


def test_named_dimensions_need_sizes(spec):
    with pytest.raises(ArgumentError, match="sizes for N"):
        difference_of(spec("rows"), "simplify")
    found = difference_of(spec("rows"), "simplify", {"N": 5})
    assert found.after.outputs[0].shape == (5, 3)
    whole = str(difference_of(spec("rows"), "all", {"N": 5}))
    assert whole.startswith("all passes (N = 5): 3 nodes before, 2 after\n") and "x * 1 -> x" in whole


def test_an_unknown_pass_is_an_error_in_words(spec):
    with pytest.raises(ArgumentError, match=r"no pass 'fold'; the passes are stabilise, .*fold_constants"):
        difference_of(spec("y"), "fold")


def test_what_is_shared_is_what_the_user_wrote_twice_not_what_a_pass_put_together(spec):
    for name in pass_names():
        assert "shared" not in str(difference_of(spec("total"), name))


# --- Picture --------------------------------------------------------------------------------------------------------


def assert_shows(found):
    """Both graphs as far as they are drawn: each node is one box, each read between two boxes is one arrow."""
    picture = found.picture()
    boxes = {box.id: box for box in picture.boxes}
    assert len(boxes) == len(picture.boxes) and all(re.fullmatch(r"\w+", name) for name in boxes)
    assert {group.key for group in picture.groups} == {"before", "after"}
    edges = set()
    for key, graph in (("before", found.before), ("after", found.after)):
        own = {box.nodes[0]: box for box in picture.boxes if box.group == key}
        assert set(own) <= set(graph.nodes)
        assert list(own) == [node for node in graph.nodes if node in own]
        edges |= {(own[o].id, own[n].id) for n in own for o in n.operands if o in own}
        changed = found.comparison.gone if key == "before" else found.comparison.new
        kind = "removed" if key == "before" else "added"
        assert {node for node, box in own.items() if box.kind == kind} == set(changed) & set(own)
        rest = [int(n) for note in picture.notes for n in re.findall(rf"^… {key}: (\d+) ", note.text)]
        assert len(own) + sum(rest) == len(graph.nodes)
        for node, box in own.items():
            assert box.kind in KINDS and box.half == "forward" and box.details["equation"]
            assert node not in changed or "rule" in box.details
            assert box.owner is None or (key == "after" and boxes[box.owner].group == "before")
        if key == "after":
            back = {image: node for node, image in found.comparison.kept.items()}
            for node, box in own.items():
                if node in back and box.owner is not None:
                    assert boxes[box.owner].nodes == (back[node],)
    assert {(arrow.source, arrow.target) for arrow in picture.arrows} == edges
    assert len(picture.arrows) == len(edges)
    return picture


def lines_of(picture, kind):
    return {tuple(line.text for line in box.lines) for box in picture.boxes if box.kind == kind}


def test_a_picture_names_the_rule_and_the_failure_it_prevents(spec):
    picture = assert_shows(difference_of(spec("y"), "stabilise"))
    assert [group.title for group in picture.groups] == ["after stabilise: 2 nodes", "before: 4 nodes"]
    assert lines_of(picture, "added") == {("softplus(x)", "y", "log1p, softplus")}
    (made,) = [box for box in picture.boxes if box.kind == "added"]
    (old,) = [box for box in picture.boxes if box.id == made.owner]
    assert old.kind == "removed" and [line.text for line in old.lines] == ["log", "y", "log1p, softplus"]
    assert made.details["rule"] == (
        "rewritten: log1p: log(1 + x) -> log1p(x)", "rewritten: softplus: log1p(exp(x)) -> softplus(x)",
    )  # fmt: skip
    assert made.details["why"] == ("1 + x loses a small x", "exp overflows from 89 on in float32")
    assert made.details["equation"] == ("y: float32() = softplus(x)",)
    assert made.details["source"][0].endswith("model.py:4")


def test_what_took_the_place_of_another_without_being_new_says_so():
    x = gc.input("x", (3,))
    already = gc.softplus(x)
    picture = assert_shows(difference_of(graph_of(gc.log(1 + gc.exp(x)), gc.sin(already)), "stabilise"))
    assert not lines_of(picture, "added")
    assert ("softplus(x)", "already", "log1p, softplus") in lines_of(picture, "output")


def test_the_parts_of_a_gradient_stand_before_their_join():
    x, w = gc.input("x", (1, 1, 7, 7)), gc.input("w", (2, 1, 3, 3))
    gradient = gc.grad(gc.sum(gc.conv2d(x, w, stride=2) ** 2), x)
    picture = assert_shows(difference_of(graph_of(gradient), "gather"))
    made = [box for box in picture.boxes if box.kind == "added"]
    assert [box.lines[0].text for box in made] == ["conv2d"] * 4 + ["join"]
    assert [box.owner is None for box in made] == [True] * 4 + [False]
    assert all(box.lines[-1].text == "gathered: pivot" for box in made)


def test_a_shared_term_is_marked_before_the_pass(spec):
    picture = assert_shows(difference_of(spec("both"), "drop_markers"))
    assert [(box.group, box.lines[0].text) for box in picture.boxes if box.is_shared] == [("before", "exp")]
    assert picture.notes[0].text == "drop_markers changes nothing here"


def test_of_a_large_graph_only_what_changed_is_drawn():
    x = gc.input("x", (4,))
    for _ in range(40):
        x = gc.sqrt(gc.sin(x))
    found = difference_of(graph_of(gc.sqrt(gc.sqrt(gc.log(1 + gc.exp(x))))), "stabilise")
    picture = assert_shows(found)
    assert len(found.before.nodes) > difference_picture.LARGEST
    drawn = {key: [box.lines[0].text for box in picture.boxes if box.group == key] for key in ("before", "after")}
    assert drawn == {"before": ["sqrt", "exp", "add", "log", "sqrt"], "after": ["sqrt", "softplus(x)", "sqrt"]}
    assert [note.text for note in picture.notes] == [
        "… before: 81 unchanged nodes are not drawn", "… after: 81 unchanged nodes are not drawn",
    ]  # fmt: skip


def test_of_very_many_changes_each_rule_is_shown():
    x = gc.input("x", (4,))
    loss = sum(gc.sum(gc.exp(gc.sin(x * k))) for k in range(2, 40))
    last = gc.tanh(loss)
    found = difference_of(graph_of(last, gc.exp(last + 1), gc.sin(last + 1)), "fuse")
    assert {row.reason.name for row in found.rows} == {"read once", "computed again"}
    picture = assert_shows(found)
    assert any("more changed nodes are not drawn" in note.text for note in picture.notes)
    assert len(picture.boxes) < 2 * 4 * difference_picture.MOST_CHANGED
    names = " ".join(line.text for box in picture.boxes for line in box.lines if line.style == "quiet")
    assert all(row.reason.name in names for row in found.rows)


def test_a_picture_can_be_laid_out_whatever_the_names_are():
    x = gc.input('<b>"x"\\&{}|\n</b>', (3,))
    picture = assert_shows(difference_of(graph_of(gc.exp(x * 1)), "simplify"))
    assert b"<svg" in lay_out(dot_of_picture(picture), "svg")


@settings(max_examples=15)
@given(models("float64", sizes=st.sampled_from([1, 2, 3])), st.sampled_from([*pass_names(), "all"]))
def test_pictures_of_random_graphs_show_both_graphs(model, name):
    values, tensor = model
    found = difference_of(graph_of(tensor, *gc.grad(gc.sum(tensor), list(values))), name)
    assert_shows(found)
    assert str(found).splitlines()[0] == found.picture().title
