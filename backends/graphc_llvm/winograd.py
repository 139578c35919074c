"""3x3 convolutions of stride 1 by Winograd's algorithm F(2x2, 3x3), as LLVM IR: 16 products in place of 36.

The transforms stand in `winograd_transform`, the loops over blocks in `winograd_plan`. A kernel is two parallel
sections: the weights, in panels of output channels; then the blocks of tiles, from input to output. Where there are
few blocks, the inputs come first, all of them; then groups of output channels, from weights to output. The order of
every sum is that of the input channels: results depend on shapes and the target alone.

**Error.** With unit roundoff u and g(n) = n u / (1 - n u), an output is computed with an error of at most

    g(C + 12) * |A|^T [ sum over c of (|G| |g_c| |G|^T) * (|B|^T |d_c| |B|) ] |A|

where |X| has the absolute values of X and * is element by element. Each element of d passes through 2 roundings (one
addition a side), each of g through 4 (two additions a side; halving is exact), a product through at most C + 1 (C with
fused multiply-adds), a sum of products through 4 (two additions a side): C + 11, and one is left for headroom. Since a
row of |B|^T sums to 2, and |A|^T |G| has the rows (2, 1, 1) and (1, 1, 2), this is at most

    16 g(C + 12) * sum over c of (max |d_c|) (sum |g_c|)

with the maximum over the 4x4 elements of a tile. The direct sum has g(9C) times the sum of |d| |g| in that place, and
over random data the larger error in the mean, because it adds nine times as many terms to one sum.

**What differs from the direct sum.** An infinity or NaN reaches all four outputs of every tile that reads it, also
those that the direct sum would compute from other elements; and elements above a quarter of the largest float can
overflow.
"""

from __future__ import annotations

from graphc.program import ALIGNMENT, Kernel, Program
from graphc_llvm.contraction_cost import ceil_div
from graphc_llvm.emit import I64, PTR, Builder, Module, Type, Value
from graphc_llvm.emit_types import BYTES
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.parallel import COLD, parallel_for
from graphc_llvm.target import Target
from graphc_llvm.winograd_finish import Finish
from graphc_llvm.winograd_functions import copy_function, each, input_function, tile_function, weights_function
from graphc_llvm.winograd_match import TAPS, Convolution, find_convolution
from graphc_llvm.winograd_plan import OUTPUTS, POINTS, WinogradPlan, plan_winograd, round_up

__all__ = ["emit_winograd"]

WEIGHT_CHANNELS = 32  # input channels whose taps stand on the stack at a time
SHARED_CHANNELS = 16  # input channels that one task transforms where V is shared
MOST_PREFETCHES = 8  # lines of a row of the next channel; the processor itself prefetches longer rows
LEAST_MASKED_BITS = 256  # vectors from which on a processor loads and stores under a mask: AVX2


def emit_winograd(
    module: Module, target: Target, program: Program, kernel: Kernel, name: str
) -> KernelCode | None:
    """Emit the function of a 3x3 convolution of stride 1, with its epilogue; None (and nothing emitted) for any other
    kernel, and where the direct sum is as fast."""
    conv = find_convolution(program, kernel)
    plan = None if conv is None else plan_winograd(conv, target)
    if conv is None or plan is None:
        return None
    return _Emitter(module, target, program, kernel, conv, plan, name).emit()


class _Emitter:
    """The function of one kernel under construction. Its sections are functions of their own, so whatever builds code
    takes the builder, and finds the pointers of that function in `roots`."""

    def __init__(
        self, module: Module, target: Target, program: Program, kernel: Kernel, conv: Convolution, plan: WinogradPlan,
        name: str,
    ) -> None:
        self.module, self.conv, self.plan, self.name = module, conv, plan, name
        self.finish = Finish(program, kernel, conv, plan)
        self.vector = Type(plan.kind, plan.lanes)
        self.has_masks = target.vector_bits >= LEAST_MASKED_BITS
        self.buffers = tuple(dict.fromkeys([conv.x, conv.g, *(one.buffer for _, one in conv.accesses)]))
        self.roots: dict[str, Value] = {}
        self.workspace = Value("", PTR)
        line = ALIGNMENT // BYTES[plan.kind]
        # A line between the planes of the points: else the same element of all points falls into one set of a cache.
        self.u_plane = conv.channels * plan.panel_pitch + line
        self.v_plane = conv.channels * plan.pitch + line
        self.m_plane = plan.group * plan.panel * plan.pitch + line
        self.row_pitch = round_up(ceil_div(plan.tile_columns, plan.lanes) * OUTPUTS * plan.lanes + plan.lanes, line)
        shared = own = 0
        self.zeros_at, shared = shared, shared + round_up(conv.in_width, line)
        u_size, v_size = POINTS * self.u_plane, POINTS * self.v_plane
        if plan.is_shared:
            self.v_at, shared = shared, shared + plan.blocks * v_size
            self.u_at, own = own, own + plan.group * u_size
        else:
            self.u_at, shared = shared, shared + plan.panels * u_size
            self.v_at, own = own, own + v_size
        self.m_at, own = own, own + POINTS * self.m_plane
        self.rows_at, own = own, own + (0 if self.has_masks else 4 * self.row_pitch)
        self.shared_bytes, self.own_bytes = shared * BYTES[plan.kind], own * BYTES[plan.kind]

    def emit(self) -> KernelCode:
        """The whole function."""
        plan, conv = self.plan, self.conv
        params = [*((f"b{number}", PTR) for number in range(len(self.buffers))), ("workspace", PTR)]
        b = self.module.function(self.name, params, linkage="internal")
        self._enter(b.params)
        self._clear(b, self._at(b, self.workspace, self.zeros_at), conv.in_width)
        live = b.params
        if plan.is_shared:
            tasks = plan.blocks * ceil_div(conv.channels, SHARED_CHANNELS)
            parallel_for(b, f"{self.name}.input", tasks, live, self._input_task, COLD)
            parallel_for(b, f"{self.name}.groups", plan.groups * plan.parts, live, self._group_task, COLD)
        else:
            parallel_for(b, f"{self.name}.weights", plan.panels, live, self._weights_task, COLD)
            parallel_for(b, f"{self.name}.blocks", plan.blocks, live, self._block_task, COLD)
        b.ret()
        return KernelCode(self.name, self.buffers, self.shared_bytes, self.own_bytes)

    def _enter(self, live: list[Value]) -> None:
        self.roots = dict(zip(self.buffers, live, strict=False))
        self.workspace = live[-1]

    def _at(self, b: Builder, base: Value, offset: Value | int) -> Value:
        """The address of an element; of none other than `base` for the number 0."""
        return base if isinstance(offset, int) and offset == 0 else b.gep(base, offset, self.plan.kind)

    def _own(self, b: Builder, slot: Value) -> Value:
        """The part of the workspace that is this thread's."""
        offset = b.add(b.mul(slot, self.own_bytes), self.shared_bytes)
        return b.gep(self.workspace, offset, "i8")

    # ---- tasks ---------------------------------------------------------------------------------------------

    def _block_task(self, b: Builder, task: Value, slot: Value, live: list[Value]) -> None:
        self._enter(live)
        own = self._own(b, slot)
        places, count = self._places(b, task)
        v, plan = self._at(b, own, self.v_at), self.plan
        self._input(b, places, count, b.const(I64, 0), b.const(I64, self.conv.channels), v, own)
        with b.loop(0, plan.groups, 1, "group") as loop:
            u = self._shared_u(b, b.mul(loop.index, plan.group))
            self._group(b, places, count, loop.index, u, v, own)

    def _weights_task(self, b: Builder, task: Value, slot: Value, live: list[Value]) -> None:
        self._enter(live)
        self._weights(b, task, self._shared_u(b, task))

    def _input_task(self, b: Builder, task: Value, slot: Value, live: list[Value]) -> None:
        self._enter(live)
        parts = ceil_div(self.conv.channels, SHARED_CHANNELS)
        block, part = b.div(task, parts), b.rem(task, parts)
        places, count = self._places(b, block)
        first = b.mul(part, SHARED_CHANNELS)
        last = self._least(b, b.add(first, SHARED_CHANNELS), self.conv.channels)
        self._input(b, places, count, first, last, self._shared_v(b, block), self._own(b, slot))

    def _group_task(self, b: Builder, task: Value, slot: Value, live: list[Value]) -> None:
        self._enter(live)
        plan, own = self.plan, self._own(b, slot)
        group, part = b.div(task, plan.parts), b.rem(task, plan.parts)
        u = self._at(b, own, self.u_at)
        first = b.mul(group, plan.group)
        panels = self._least(b, b.sub(plan.panels, first), plan.group)
        with each(b, panels if plan.group > 1 else 1, "panel") as panel:
            self._weights(b, b.add(first, panel), self._at(b, u, b.mul(panel, POINTS * self.u_plane)))
        share = ceil_div(plan.blocks, plan.parts)
        start = b.mul(part, share)
        with b.loop(start, self._least(b, b.add(start, share), plan.blocks), 1, "block") as block:
            places, count = self._places(b, block.index)
            self._group(b, places, count, group, u, self._shared_v(b, block.index), own)

    def _shared_u(self, b: Builder, panel: Value) -> Value:
        return self._at(b, self.workspace, b.add(b.mul(panel, POINTS * self.u_plane), self.u_at))

    def _shared_v(self, b: Builder, block: Value) -> Value:
        return self._at(b, self.workspace, b.add(b.mul(block, POINTS * self.v_plane), self.v_at))

    def _clear(self, b: Builder, start: Value, count: int) -> None:
        """Zeros; up to a whole vector more than `count`, which a line of cache has room for."""
        with b.loop(0, count, self.plan.lanes, "clear") as loop:
            b.store(b.const(self.vector, 0), self._at(b, start, loop.index))

    def _least(self, b: Builder, one: Value, other: Value | int) -> Value:
        return b.select(b.icmp("slt", one, other), one, other, I64)

    def _places(self, b: Builder, block: Value) -> tuple[Value, Value]:
        """The table of (image, first row of outputs) of the tile rows of a block, and how many there are."""
        plan = self.plan
        table = b.alloca("i64", 2 * plan.rows)
        first = b.mul(block, plan.rows)
        count = self._least(b, b.sub(self.conv.images * plan.tile_rows, first), plan.rows)
        with b.loop(0, count, 1, "place") as loop:
            row = b.add(first, loop.index)
            image = b.div(row, plan.tile_rows)
            entry = b.gep(table, b.mul(loop.index, 2), "i64")
            b.store(image, entry)
            inside = b.sub(row, b.mul(image, plan.tile_rows))
            b.store(b.mul(inside, OUTPUTS), b.gep(entry, 1, "i64"))
        return table, count

    # ---- weights -------------------------------------------------------------------------------------------

    def _weights(self, b: Builder, panel: Value, u: Value) -> None:
        """U of one panel of output channels: [point][c][k of the panel]; past the last k, copies of it. First the
        taps of some input channels go to the stack, lane by lane."""
        plan, conv = self.plan, self.conv
        k_stride, c_stride, r_stride, s_stride = conv.g_strides
        lanes, element = plan.weight_lanes, Type(plan.kind)
        transform = weights_function(self.module, element.with_lanes(lanes))
        stack = b.alloca(plan.kind, WEIGHT_CHANNELS * TAPS * TAPS * lanes)
        chunks = ceil_div(conv.channels, WEIGHT_CHANNELS)
        with each(b, plan.panel_pitch // lanes, "part") as part, each(b, chunks, "chunk") as chunk:
            first, at = b.mul(chunk, WEIGHT_CHANNELS), b.mul(part, lanes)
            count = self._least(b, b.sub(conv.channels, first), WEIGHT_CHANNELS)
            with b.loop(0, lanes, 1, "lane") as lane:
                k = b.add(b.add(b.mul(panel, plan.panel), at), lane.index)
                k = self._least(b, k, conv.outputs - 1)
                start = b.add(b.mul(k, k_stride), b.add(b.mul(first, c_stride), conv.g_start))
                source, near = self._at(b, self.roots[conv.g], start), self._at(b, stack, lane.index)
                with b.loop(0, count, 1, "c") as loop:
                    here = self._at(b, source, b.mul(loop.index, c_stride))
                    there = self._at(b, near, b.mul(loop.index, TAPS * TAPS * lanes))
                    for tap in range(TAPS * TAPS):
                        r, s = divmod(tap, TAPS)
                        value = b.load(self._at(b, here, r * r_stride + s * s_stride), element)
                        b.store(value, self._at(b, there, tap * lanes))
            with b.loop(0, count, 1, "c") as loop:
                taps = self._at(b, stack, b.mul(loop.index, TAPS * TAPS * lanes))
                target = b.add(b.mul(b.add(first, loop.index), plan.panel_pitch), at)
                b.call(transform, None, [taps, self._at(b, u, target), b.const(I64, self.u_plane)])

    # ---- input ---------------------------------------------------------------------------------------------

    def _input(
        self, b: Builder, places: Value, count: Value, first: Value, last: Value, v: Value, own: Value
    ) -> None:
        """V of the input channels from `first` to `last` of a block. A vector that runs past the end of a tile row
        writes numbers that the next row or channel overwrites, or that nothing depends on."""
        conv, plan = self.conv, self.plan
        n_stride, c_stride, row_stride = conv.x_strides
        zeros = self._at(b, self.workspace, self.zeros_at)
        x = self._at(b, self.roots[conv.x], conv.x_start)
        rows = self._at(b, own, self.rows_at)
        line = ALIGNMENT // BYTES[plan.kind]
        if not self.has_masks:
            self._clear(b, rows, 4 * self.row_pitch)
        with b.loop(first, last, 1, "c") as channel, b.loop(0, count, 1, "row") as row:
            image, top = self._place(b, places, row.index)
            top = b.sub(top, conv.top)
            offset = b.add(b.mul(image, n_stride), b.mul(top, row_stride))
            corner = self._at(b, x, b.add(offset, b.mul(channel.index, c_stride)))
            sources: list[Value] = []
            for i in range(4):
                source = self._at(b, corner, i * row_stride)
                inside = b.icmp("ult", b.add(top, i), conv.in_height)
                sources.append(b.select(inside, source, zeros))
                if i >= OUTPUTS and ceil_div(conv.in_width, line) <= MOST_PREFETCHES:  # the rows before have been read
                    for column in range(0, conv.in_width, line):
                        b.prefetch(self._at(b, source, column + c_stride))
            if not self.has_masks:
                sources = self._bordered(b, sources, rows)
            at = b.add(b.mul(channel.index, plan.pitch), b.mul(row.index, plan.tile_columns))
            self._input_row(b, sources, self._at(b, v, at))

    def _bordered(self, b: Builder, sources: list[Value], rows: Value) -> list[Value]:
        """Copies of four rows of x, between zeros that are there already, from the first tile's first column."""
        conv = self.conv
        copy = copy_function(self.module, self.vector)
        skipped, before = max(0, -conv.left), max(0, conv.left)
        count = min(conv.in_width - skipped, self.row_pitch - before)
        copies = [self._at(b, rows, i * self.row_pitch) for i in range(4)]
        for source, near in zip(sources, copies, strict=True):
            if count > 0:
                b.call(copy, None, [self._at(b, source, skipped), self._at(b, near, before), b.const(I64, count)])
        return copies

    def _place(self, b: Builder, places: Value, row: Value) -> tuple[Value, Value]:
        entry = b.gep(places, b.mul(row, 2), "i64")
        return b.load(entry, I64), b.load(b.gep(entry, 1, "i64"), I64)

    def _input_row(self, b: Builder, sources: list[Value], target: Value) -> None:
        """One tile row of one channel from the four rows that it reads."""
        plan, conv = self.plan, self.conv
        lanes, vectors = plan.lanes, ceil_div(plan.tile_columns, plan.lanes)
        transform = input_function(self.module, self.vector, self.has_masks)
        with each(b, vectors, "vector") as index:
            column = b.mul(index, OUTPUTS * lanes)
            column = b.sub(column, conv.left) if self.has_masks else column
            place = self._at(b, target, b.mul(index, lanes))
            sizes = b.const(I64, conv.in_width), place, b.const(I64, self.v_plane)
            b.call(transform, None, [*sources, column, *sizes])

    # ---- products ------------------------------------------------------------------------------------------

    def _group(
        self, b: Builder, places: Value, count: Value, group: Value, u: Value, v: Value, own: Value
    ) -> None:
        """The products of one group of panels, and the outputs from them. `u` is that of the group's first panel."""
        plan, conv = self.plan, self.conv
        m = self._at(b, own, self.m_at)
        first = b.mul(group, plan.group)
        panels = self._least(b, b.sub(plan.panels, first), plan.group)
        sizes = [b.const(I64, conv.channels), b.const(I64, plan.pitch)]
        counts = self._tile_counts(b, count)
        with b.loop(0, POINTS, 1, "point") as point:
            u_point = self._at(b, u, b.mul(point.index, self.u_plane))
            v_point = self._at(b, v, b.mul(point.index, self.v_plane))
            m_point = self._at(b, m, b.mul(point.index, self.m_plane))
            with each(b, panels if plan.group > 1 else 1, "panel") as panel:
                u_here = self._at(b, u_point, b.mul(panel, POINTS * self.u_plane))
                m_here = self._at(b, m_point, b.mul(panel, plan.panel * plan.pitch))
                start = 0
                for (size, whole), tiles in zip(plan.splits, counts, strict=True):
                    name = tile_function(self.module, self.vector, plan.panel, plan.panel_pitch, size)
                    with each(b, tiles, "tile") as tile:
                        at = b.add(b.mul(tile, size * plan.lanes), start * plan.lanes)
                        b.call(name, None, [u_here, self._at(b, v_point, at), self._at(b, m_here, at), *sizes])
                    start += size * whole
        channel = b.mul(first, plan.panel)
        channels = self._least(b, b.sub(conv.outputs, channel), b.mul(panels, plan.panel))
        self._output(b, places, count, channel, channels, m)

    def _tile_counts(self, b: Builder, rows: Value) -> list[Value | int]:
        """How many register tiles of each size a block of `rows` tile rows takes: see `WinogradPlan.tiles`."""
        plan = self.plan
        if self.conv.images * plan.tile_rows % plan.rows == 0:
            return [count for _, count in plan.splits]
        vectors = b.div(b.add(b.mul(rows, plan.tile_columns), plan.lanes - 1), plan.lanes)
        counts: list[Value | int] = []
        start = 0
        for size, count in plan.splits:
            counts.append(self._least(b, b.div(b.add(b.sub(vectors, start), size - 1), size), count))
            start += size * count
        return counts

    # ---- outputs -------------------------------------------------------------------------------------------

    def _output(
        self, b: Builder, places: Value, count: Value, channel: Value, channels: Value, m: Value
    ) -> None:
        """The outputs of `channels` channels from `channel` on."""
        plan = self.plan
        with b.loop(0, channels, 1, "k") as k, b.loop(0, count, 1, "row") as row:
            image, top = self._place(b, places, row.index)
            here = self._at(b, m, b.add(b.mul(k.index, plan.pitch), b.mul(row.index, plan.tile_columns)))
            self.finish.row(b, self.roots, (image, b.add(channel, k.index), top), here, self.m_plane)
