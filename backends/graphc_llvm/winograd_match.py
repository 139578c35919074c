"""Which contractions are 3x3 convolutions of stride 1, with all that their addresses depend on.

The form that is recognised, in whatever order the domain has its axes, is

    y[n, k, h, w] = sum over c, r, s of  x[n, c, h + r - top, w + s - left] * g[k, c, r, s]

with r, s < 3 and zeros outside of x. The input gradient of such a convolution is one too: its r and s run backwards,
which the strides of g turn forwards again, and the channels have changed places.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine
from graphc.ir.classify import Contraction, classify
from graphc.ir.extent import ints
from graphc.ir.node import INSIDE, Generic
from graphc.program import Kernel, Program
from graphc_llvm.bodies import KINDS
from graphc_llvm.contraction_match import access, can_fuse_epilogue, tile_accesses
from graphc_llvm.schedule import Access

TAPS = 3  # rows and columns of a kernel


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution with all its addresses, in elements. An axis that the domain lacks is None, of extent 1."""

    dtype: str
    images: int
    channels: int
    outputs: int
    height: int
    width: int
    in_height: int
    in_width: int
    top: int  # rows of zeros above x; negative where rows of x are left out
    left: int
    axes: tuple[int | None, int | None, int, int]  # n, k, h, w in the domain
    x: str
    x_strides: tuple[int, int, int]  # n, c, row; a column is 1
    x_start: int
    g: str
    g_strides: tuple[int, int, int, int]  # k, c, r, s
    g_start: int
    accesses: tuple[tuple[tuple[int, int], Access], ...]  # of the epilogue, by (stage, operand; -1: the result)

    def offsets(self, one: Access) -> tuple[int, int, int, int]:
        """The strides of an access along n, k, h, w."""
        n, k, h, w = (0 if axis is None else one.strides[axis] for axis in self.axes)
        return n, k, h, w


def find_convolution(program: Program, kernel: Kernel) -> Convolution | None:
    """The convolution that a kernel is, with an epilogue that can run on its rows; else None."""
    stage = kernel.stages[0]
    node = stage.node
    if kernel.kind != "contraction" or not isinstance(node, Generic) or stage.initialise:
        return None
    classes = classify(node)
    if not isinstance(classes, Contraction) or classes.batch or sc.args_of(node.body) != {0, 1}:
        return None
    order = node.out_map.projection
    domain = ints(node.domain)
    if order is None or tuple(domain[axis] for axis in order) != node.shape or 0 in domain:
        return None
    names = {name for one in kernel.stages for name in (*one.reads, one.write)}
    if any(program.by_name[name].dtype not in KINDS for name in names) or not can_fuse_epilogue(program, kernel):
        return None
    dtypes = {program.by_name[name].dtype for name in (*stage.reads, stage.write)}
    if dtypes not in ({"float32"}, {"float64"}):
        return None
    for j in (0, 1):
        found = _match(program, kernel, node, domain, j)
        if found is not None:
            return found
    return None


@dataclass(frozen=True)
class _Window:
    """A row `out + tap - before` of the map of x; `backwards`: the tap counts down."""

    stride: int
    extent: int
    out: int
    tap: int
    before: int
    backwards: bool


def _window(row: Affine, stride: int, extent: int, node: Generic, domain: tuple[int, ...]) -> _Window | None:
    outs = node.out_map.axes
    out = [axis for axis, coefficient in row.terms if axis in outs and coefficient == 1]
    taps = [(axis, c) for axis, c in row.terms if axis not in outs and abs(c) == 1 and domain[axis] == TAPS]
    if len(row.terms) != 2 or len(out) != 1 or len(taps) != 1 or not isinstance(row.const, int):
        return None
    axis, coefficient = taps[0]
    before = -row.const if coefficient > 0 else -row.const + TAPS - 1
    return _Window(stride, extent, out[0], axis, before, coefficient < 0)


def _match(program: Program, kernel: Kernel, node: Generic, domain: tuple[int, ...], j: int) -> Convolution | None:
    """The convolution with operand j as x."""
    stage = kernel.stages[0]
    x, g_map = program.by_name[stage.reads[j]], node.maps[1 - j]
    outs = node.out_map.axes
    windows: list[_Window] = []
    single: dict[bool, tuple[int, int]] = {}  # whether the axis is summed: the axis, its stride
    start = 0
    for row, stride, extent in zip(node.maps[j].rows, x.strides, x.shape, strict=True):
        window = _window(row, stride, extent, node, domain)
        if window is not None:
            windows.append(window)
            continue
        if len(row.terms) > 1 or not isinstance(row.const, int):
            return None
        start += row.const * stride
        low = high = row.const
        for axis, coefficient in row.terms:
            is_summed = axis not in outs
            if is_summed in single or coefficient < 0:
                return None
            single[is_summed] = axis, coefficient * stride
            high += coefficient * (domain[axis] - 1)
        if low < 0 or high >= extent:
            return None
    if len(windows) != 2 or node.modes[1 - j] != INSIDE:
        return None
    rows, columns = sorted(windows, key=lambda one: -one.stride)
    image, x_image = single.get(False, (None, 0))
    channel, x_channel = single.get(True, (None, 0))
    in_x = [axis for axis in (image, rows.out, columns.out, channel, rows.tap, columns.tap) if axis is not None]
    k = [axis for axis in outs if axis not in in_x]
    summed = {axis for axis in (channel, rows.tap, columns.tap) if axis is not None}
    if columns.stride != 1 or len(set(in_x)) != len(in_x) or len(k) > 1:
        return None
    if len(in_x) + len(k) != len(domain) or not g_map.axes <= {*k, *summed}:
        return None
    axes = (image, k[0] if k else None, rows.out, columns.out)
    accesses = tuple(tile_accesses(program, kernel).items())
    for (_, operand), one in accesses:
        along = one.strides[columns.out]
        if domain[columns.out] > 1 and along != 1 and (along != 0 or operand < 0):
            return None
    g = access(program, stage.reads[1 - j], g_map)
    g_start = g.const
    strides = [0 if axis is None else g.strides[axis] for axis in (axes[1], channel, rows.tap, columns.tap)]
    for position, window in ((2, rows), (3, columns)):
        if window.backwards:
            g_start += (TAPS - 1) * strides[position]
            strides[position] = -strides[position]
    images, channels, outputs = (1 if axis is None else domain[axis] for axis in (image, channel, axes[1]))
    return Convolution(
        node.dtype, images, channels, outputs, domain[rows.out], domain[columns.out], rows.extent, columns.extent,
        rows.before, columns.before, axes, program.root(x.name).name, (x_image, x_channel, rows.stride), start,
        g.buffer, (strides[0], strides[1], strides[2], strides[3]), g_start, accesses,
    )
