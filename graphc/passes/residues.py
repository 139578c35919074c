"""A strided scatter as one gathering sum: the residues of each output index become an axis.

The gradient of a window read with stride s writes  out[s*i + p - a] += ...  With u = out's index + a, write
u = s*v + r and p = s*p' + r: then i = v - p', for every residue r alike. The sum is computed as an array with the axes
(v, r) in place of u, which in row-major order is the array over u; a view and a crop give the output.

Taps p' that reach past the window's extent read 0. `gather` uses this form where few taps do (an 11 x 11 window with
stride 4: 144 against 121), and one Generic for each residue otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine, AffineMap, affine, axis_row
from graphc.ir.changes import Reason, note
from graphc.ir.node import INSIDE, SKIP, ZERO, Generic, Node, generic, view

MOST_WASTE = 1.25  # taps with those that read 0, over taps
RESIDUES = Reason("gathered", "residues", "out[s*i + p] += f(i, p) -> out[v, r] = sum f(...)", "one writer an element")


@dataclass(frozen=True)
class Window:
    """An output row  step * pivot + tap - shift."""

    pivot: int
    tap: int
    step: int
    shift: int


def gather_residues(node: Generic) -> Node | None:
    """The same value in the form of the module's text; None where that does not apply or would waste too much."""
    body = node.body
    if node.reducer != "sum" or len(node.operands) != 2 or not isinstance(body, sc.Apply) or body.op != "mul":
        return None
    if not all(isinstance(factor, sc.Arg) for factor in body.args):
        return None
    windows: dict[int, Window] = {}
    for position, row in enumerate(node.out_map.rows):
        if row.single_axis is not None and node.domain[row.single_axis] == node.shape[position]:
            continue
        window = _window(row)
        if window is None:
            return None
        windows[position] = window
    return note(RESIDUES, node, _rewritten(node, windows)) if windows and _is_worth_it(node, windows) else None


def _window(row: Affine) -> Window | None:
    if len(row.terms) != 2 or not isinstance(row.const, int) or row.const > 0:
        return None
    (one, first), (other, second) = row.terms
    if second == 1 and first > 1:
        return Window(one, other, first, -row.const)
    if first == 1 and second > 1:
        return Window(other, one, second, -row.const)
    return None


def _is_worth_it(node: Generic, windows: dict[int, Window]) -> bool:
    """Each axis of a window is in its row alone, is read by itself where that decides what is inside, and few taps are
    added."""
    waste = 1.0
    used = [axis for row in node.out_map.rows for axis, _ in row.terms]
    for window in windows.values():
        pixels, taps = node.domain[window.pivot], node.domain[window.tap]
        assert isinstance(taps, int)
        if used.count(window.pivot) != 1 or used.count(window.tap) != 1:
            return False
        if _reader(node, window.pivot) is None or _reader(node, window.tap) is None:
            return False
        if not isinstance(pixels, int) or pixels * window.step < taps:  # a dilated window rather than a strided one
            return False
        waste *= -(-taps // window.step) * window.step / taps
    return waste <= MOST_WASTE


def _reader(node: Generic, axis: int) -> int | None:
    """The one operand that reads at the axis, if it does so over an axis of the same extent: it is outside exactly
    when the axis is."""
    readers = [j for j, index_map in enumerate(node.maps) if axis in index_map.axes]
    if len(readers) != 1 or node.modes[readers[0]] != INSIDE:
        return None
    j = readers[0]
    rows = [row for row in node.maps[j].rows if row.coefficient(axis)]
    place = node.maps[j].rows.index(rows[0])
    alone = len(rows) == 1 and rows[0].single_axis == axis
    return j if alone and node.operands[j].shape[place] == node.domain[axis] else None


def _rewritten(node: Generic, windows: dict[int, Window]) -> Node:
    rank = len(node.domain) + len(windows)
    domain = [*node.domain]
    rows = [axis_row(axis) for axis in range(len(node.domain))]
    modes = list(node.modes)
    out_rows: list[Affine] = []
    shape: list[int] = []
    padded: list[int] = []
    crop: list[Affine] = []
    for position, extent in enumerate(node.shape):
        assert isinstance(extent, int)
        window = windows.get(position)
        if window is None:
            (axis, _), = node.out_map.rows[position].terms
            out_rows.append(axis_row(axis))
            shape.append(extent)
            padded.append(extent)
            crop.append(axis_row(position))
            continue
        residue, step = len(domain), window.step
        taps = node.domain[window.tap]
        assert isinstance(taps, int)
        blocks = -(-(extent + window.shift) // step)
        domain.append(step)
        domain[window.pivot], domain[window.tap] = blocks, -(-taps // step)
        rows[window.pivot] = affine({window.pivot: 1, window.tap: -1})
        rows[window.tap] = affine({window.tap: step, residue: 1})
        for axis, mode in ((window.tap, ZERO), (window.pivot, SKIP)):
            j = _reader(node, axis)
            assert j is not None
            modes[j] = SKIP if modes[j] == SKIP else mode
        out_rows += [axis_row(window.pivot), axis_row(residue)]
        shape += [blocks, step]
        padded.append(blocks * step)
        crop.append(affine({position: 1}, window.shift))
    inner = AffineMap(rank, tuple(rows))
    maps = [index_map.compose(inner) for index_map in node.maps]
    body = sc.move_axes(node.body, rows, rank)
    out_map = AffineMap(rank, tuple(out_rows))
    whole = generic(tuple(domain), tuple(shape), out_map, node.operands, maps, modes, body, "sum")
    flat = view(whole, tuple(padded))
    copy = AffineMap(len(crop), tuple(crop))
    identity = AffineMap(len(crop), tuple(axis_row(axis) for axis in range(len(crop))))
    return generic(node.shape, node.shape, identity, [flat], [copy], [ZERO], sc.Arg(0, node.dtype), None)
