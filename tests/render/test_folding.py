"""What folds into one box: scopes by depth, ops made of others, equal blocks; and how large models stay readable."""

from __future__ import annotations

import pytest

import graphc as gc
from graphc import nn
from graphc.errors import ArgumentError
from graphc.render import picture_of
from graphc.render.fitting import MOST_BOXES, MOST_BOXES_IF_FEW
from graphc.render.fold import fold
from graphc.render.picture import Box, Picture


def titles(drawn: Picture, half: str = "forward") -> list[str]:
    """The first line of each box, of those that are no leaves."""
    return [box.lines[0].text for box in drawn.boxes if box.half == half and box.kind in ("op", "block", "output")]


def loss_of(model: nn.Module, shape: tuple[int, ...]) -> gc.Tensor:
    x, t = gc.input("x", ("N", *shape)), gc.input("t", ("N",), dtype="int64")
    return nn.cross_entropy(model(x), t).named("L")


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def test_ops_made_of_others_are_one_box_unless_a_depth_below_the_scopes_is_asked_for() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    loss = loss_of(model, (4,))
    assert titles(fold(picture_of(loss))) == ["matmul_transposed", "add", "cross_entropy"]
    assert titles(fold(picture_of(loss, depth=0))) == ["Linear(4, 3)", "cross_entropy"]
    assert "log" in titles(fold(picture_of(loss, depth=2)))


def test_the_depth_counts_scopes() -> None:
    x = gc.input("x", (3,))
    with gc.scope("a"):
        h = gc.exp(x)
        with gc.scope("b"):
            h = gc.cos(gc.sin(h))
    loss = gc.sum(h)
    assert titles(fold(picture_of(loss, depth=0))) == ["a", "sum"]
    assert titles(fold(picture_of(loss, depth=1))) == ["exp", "b", "sum"]
    assert titles(fold(picture_of(loss, depth=2))) == ["exp", "sin", "cos", "sum"]
    with pytest.raises(ArgumentError, match="from 0 up"):
        picture_of(loss, depth=-1)


def test_equal_blocks_that_follow_one_another_are_one_with_a_count() -> None:
    model = nn.Sequential(*[nn.TransformerEncoderLayer(8, 2) for _ in range(6)])
    loss = gc.sum(model(gc.input("x", (2, 5, 8))))
    whole = picture_of(loss, backward=True, depth=0)
    (block,) = [box for box in fold(whole).boxes if box.kind == "block"]
    texts = [line.text for line in block.lines]
    assert texts[0].startswith("TransformerEncoderLayer") and "× 6" in texts
    assert texts[-1] == f"{sum(p.value.size for p in model.parameters()):,} parameters"
    opened = fold(picture_of(loss, depth=1))
    rest = [box for box in opened.boxes if box.lines[0].text == "the same 5 times more"]
    assert len(rest) == 1 and len(opened.boxes) > 10


def test_blocks_that_differ_are_not_counted_as_equal() -> None:
    layers = [nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 9), nn.Tanh(), nn.Linear(9, 8)]
    model = nn.Sequential(*layers, *[nn.Tanh() for _ in range(30)])
    found = titles(fold(picture_of(gc.sum(model(gc.input("x", (2, 8)))), depth=0)))
    assert found[0] == "Linear(8, 8) → tanh" and found[1:4] == ["Linear(8, 9)", "tanh", "Linear(9, 8)"]
    tails = [gc.exp(gc.input(f"y{n}", (3,))) for n in range(30)]  # equal, but none reads another
    assert not any("×" in line.text for box in fold(picture_of(gc.stack(tails))).boxes for line in box.lines)


def test_a_layer_that_is_used_twice_is_two_blocks_with_one_set_of_params() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    drawn = fold(picture_of(gc.sum(model(gc.input("x", (2, 4)))), depth=0))
    assert titles(drawn) == ["Linear(4, 4)", "tanh", "Linear(4, 4)", "sum"]
    assert sorted(box.nodes[0].name for box in drawn.boxes if box.kind == "param") == ["0.bias", "0.weight"]


def test_gradients_stand_beside_their_layers() -> None:
    drawn = fold(picture_of(loss_of(lenet(), (1, 28, 28)), backward=True, depth=0))
    boxes = {box.id: box for box in drawn.boxes}
    assert len(boxes) <= MOST_BOXES
    pairs: list[tuple[str, str]] = []
    for box in drawn.boxes:
        if box.kind == "gradients" and box.owner is not None:
            pairs.append((first(boxes[box.owner]), box.lines[-1].text))
    assert ("Conv2d(6, 16, 5)", "Conv2d(6, 16, 5), backward") in pairs
    assert ("Linear(84, 10)", "Linear(84, 10), backward") in pairs
    (conv,) = [box for box in drawn.boxes if box.lines[-1].text == "Conv2d(6, 16, 5), backward"]
    assert {"∂L/∂(max_pool2d)", "∂L/∂bias, ∂L/∂weight"} == {line.text for line in conv.lines[:-1]}


def first(box: Box) -> str:
    return box.lines[0].text


def test_the_page_of_a_deep_model_stays_short() -> None:
    layers: list[nn.Module] = []
    before = 3
    for repeats, channels in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):  # VGG-19
        for _ in range(repeats):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        layers.append(nn.MaxPool2d(2))
    classify = nn.Sequential(nn.Linear(25088, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000))
    model = nn.Sequential(nn.Sequential(*layers), nn.Flatten(), classify)
    drawn = fold(picture_of(loss_of(model, (3, 224, 224)), backward=True))
    found = [line.text for box in drawn.boxes for line in box.lines]
    assert len(drawn.boxes) <= MOST_BOXES_IF_FEW and drawn.direction == "TB"
    assert "Conv2d(512, 512, 3, padding=1) → relu" in found and "× 4" in found


def test_a_circle_of_blocks_is_drawn() -> None:
    """A block that is left and entered again reads and is read by what is between."""
    x = gc.input("x", (3,))
    with gc.scope("a"):
        first_half = gc.sin(x)
    between = gc.exp(first_half)
    block = gc.scope("a")
    with block:
        last = gc.cos(between) * first_half
    drawn = picture_of(gc.sum(last), depth=0)
    assert titles(fold(drawn)) == ["exp", "a", "sum"]


def test_an_arrow_for_several_says_only_what_all_of_them_say() -> None:
    x = gc.input("x", (3,))
    with gc.scope("block"):
        a = gc.sin(x)
        b = gc.sum(a)
    loss = gc.sum(a * b)
    (arrow,) = [arrow for arrow in fold(picture_of(loss, depth=0)).arrows if arrow.source.startswith("g")]
    assert len(arrow.reads) == 2 and not arrow.above  # of shapes (3,) and ()
    opened = picture_of(loss, depth=1)
    assert {line.text for arrow in opened.arrows for line in arrow.above} == {"(3,)"}


def test_a_folded_box_has_one_step_when_all_in_it_is_known() -> None:
    x = gc.input("x", (3,))
    with gc.scope("block"):
        h = gc.cos(gc.sin(gc.exp(x)))
    drawn = fold(picture_of(gc.sum(h).named("L"), depth=0))
    assert [box for step in drawn.steps for box in step.boxes] == [box.id for box in drawn.boxes]
    assert [step.caption.split(" = ")[0] for step in drawn.steps] == ["given: x", "h", "L"]


def test_the_twelfth_drawing_of_a_model_is_folded_as_the_first() -> None:
    """Gradients that need no value, such as that of a mean, are the same nodes for both."""
    drawn = [fold(picture_of(loss_of(nn.Sequential(nn.Linear(4, 3)), (4,)), backward=True)) for _ in range(12)]
    texts = [[[line.text for line in box.lines] for box in one.boxes] for one in drawn]
    assert all(one == texts[0] for one in texts)


def test_what_two_losses_share_belongs_to_the_one_that_is_drawn() -> None:
    t = gc.input("t", ("N",), dtype="int64")
    drawn: list[Picture] = []
    for width in (4, 5):
        scores = nn.Linear(width, 3)(gc.input("x", ("N", width)))
        drawn.append(fold(picture_of(nn.cross_entropy(scores, t).named("L"))))
    one, two = drawn
    assert [box.kind for box in one.boxes] == [box.kind for box in two.boxes]
    assert titles(two)[-1] == "cross_entropy" and titles(two).count("cross_entropy") == 1
