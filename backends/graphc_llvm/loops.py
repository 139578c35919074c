"""Kernels of kind `loops`: nests of maps and reductions with one axis along the lanes.

The outer axes are plain loops around all stages; inside them each run (see `runs`) is a nest of its own. Reductions
carry their accumulators through the nest; along the lanes they are combined at the end in a fixed tree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine
from graphc.ir.extent import ints
from graphc.ir.node import Generic
from graphc.program import ALIGNMENT, ITEM_SIZES, Kernel, Program, Stage
from graphc_llvm.addressing import Cursor, flat_offset, open_bounds
from graphc_llvm.bodies import emit_body, memory_kind, value_type
from graphc_llvm.emit import I64, PTR, Builder, Module, Type, Value
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.reducers import Reducer, reducer_of
from graphc_llvm.runs import Run, Step, choose_outer, is_plain, plain_reads, split_runs
from graphc_llvm.target import Target


def emit_loops(module: Module, target: Target, program: Program, kernel: Kernel, name: str) -> KernelCode:
    """Emit a kernel as a function of the module."""
    return _Loops(module, target, program, kernel, name).emit()


class _Loops:
    def __init__(self, module: Module, target: Target, program: Program, kernel: Kernel, name: str) -> None:
        self.target, self.program, self.kernel, self.name = target, program, kernel, name
        self.outer = choose_outer(program, kernel)
        self.scratch: dict[str, tuple[int, ...]] = {}
        places: dict[str, int] = {}
        self.workspace = 0
        for buffer_name in kernel.writes:
            buffer = program.by_name[buffer_name]
            if buffer.kind == "scratch":
                strides = buffer.strides
                self.scratch[buffer_name] = (0,) * min(self.outer, len(strides)) + strides[self.outer :]
                places[buffer_name] = self.workspace
                size = ITEM_SIZES[buffer.dtype]
                for extent in buffer.shape[self.outer :]:
                    size *= extent
                self.workspace += -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
        roots: dict[str, None] = {}
        for buffer_name in (*kernel.reads, *kernel.writes):
            if buffer_name not in self.scratch:
                roots.setdefault(program.root(buffer_name).name)
        self.roots = tuple(roots)
        params = [*((f"b{number}", PTR) for number in range(len(self.roots))), ("workspace", PTR)]
        self.b = module.function(name, params, linkage="internal")
        self.pointers: dict[str, Value] = dict(zip(self.roots, self.b.params, strict=False))
        for buffer_name, place in places.items():
            self.pointers[buffer_name] = self.b.gep(self.b.params[-1], place, "i8")

    def emit(self) -> KernelCode:
        for stage in self.kernel.stages:
            node = stage.node
            assert isinstance(node, Generic)
            if stage.initialise or not is_plain(stage):
                self._fill(stage.write, node)
        if self.kernel.stages and not is_plain(self.kernel.stages[0]):
            for stage in self.kernel.stages:
                self._scatter(stage)
        else:
            self._nests()
        self.b.ret()
        return KernelCode(self.name, self.roots, self.workspace)

    def pointer(self, name: str) -> Value:
        return self.pointers[name] if name in self.pointers else self.pointers[self.program.root(name).name]

    # --- Ordinary nests ---------------------------------------------------------------------------------------------

    def _nests(self) -> None:
        runs = split_runs(self.program, self.kernel, self.outer, self.scratch)
        first = runs[0].steps[0].node
        indices: list[Value] = []
        with ExitStack() as stack:
            loops = []
            for axis in range(self.outer):
                extent = first.domain[axis]
                assert isinstance(extent, int)
                loop = stack.enter_context(self.b.loop(0, extent, name=f"outer{axis}"))
                loops.append(loop)
                indices.append(loop.index)
            for run in runs:
                self._run(run, indices)

    def _run(self, run: Run, outer: Sequence[Value]) -> None:
        lanes = self._lanes(run) if run.vector is not None else 0
        if lanes < 2:
            lanes = 0
        cursor = Cursor(self.b, run.vector if lanes else None, lanes)
        expressions: list[Affine] = []
        for step in run.steps:
            expressions.append(step.write)
            for read in step.reads:
                expressions.append(read.offset)
                expressions.extend(row for row, _ in read.bounds)
            expressions.extend(_body_rows(step.node))
        cursor.follow(expressions)
        with ExitStack() as stack:
            for axis, index in enumerate(outer):
                stack.enter_context(cursor.bind(axis, index))
            _Nest(self, run, cursor).emit()

    def _lanes(self, run: Run) -> int:
        """As many lanes as the widest float of the run fills a register with; float32's number when there is none."""
        dtypes = {read.dtype for step in run.steps for read in step.reads} | {step.node.dtype for step in run.steps}
        return self.target.lanes("f64" if "float64" in dtypes else "f32")

    # --- Fills and scatters -----------------------------------------------------------------------------------------

    def _fill(self, name: str, node: Generic) -> None:
        """Every element becomes the reducer's identity."""
        buffer = self.program.by_name[name]
        b, kind = self.b, memory_kind(buffer.dtype)
        value = 0 if node.reducer in (None, "sum") else reducer_of(node).identity_number
        lanes = self.target.lanes("f32")
        whole = buffer.size - buffer.size % lanes
        with b.loop(0, whole, lanes, name="fill") as loop:
            b.store(b.const(Type(kind, lanes), value), b.gep(self.pointer(name), loop.index, kind))
        with b.loop(whole, buffer.size, name="fill") as loop:
            b.store(b.const(Type(kind), value), b.gep(self.pointer(name), loop.index, kind))

    def _scatter(self, stage: Stage) -> None:
        """Visit the points one after another; each adds to (or writes) its element, if that exists."""
        b, node, write = self.b, stage.node, stage.write
        assert isinstance(node, Generic)
        domain = ints(node.domain)
        target = self.program.by_name[write]
        out_bounds = open_bounds(node.out_map, target.shape, domain)
        offset = flat_offset(node.out_map, target.strides)
        step = Step(stage, node, plain_reads(self.program, stage, {}), (None,) * len(stage.reads), offset, True)
        cursor = Cursor(b, None, 0)
        rows = [row for row, _ in out_bounds] + _body_rows(node)
        cursor.follow(
            [offset, *rows, *(r.offset for r in step.reads), *(row for r in step.reads for row, _ in r.bounds)]
        )
        with ExitStack() as stack:
            for axis, extent in enumerate(domain):
                loop = stack.enter_context(b.loop(0, extent, name=f"point{axis}"))
                stack.enter_context(cursor.bind(axis, loop.index))
            body = _Body(self, cursor, {})
            value, visited = body.value(step)
            place_inside = cursor.inside(out_bounds)
            for test in (place_inside, visited):
                if test is not None:
                    stack.enter_context(b.if_(test))
            kind = memory_kind(node.dtype)
            place = b.gep(self.pointer(write), cursor.value(offset), kind)
            if node.reducer == "sum" and node.dtype != "bool":
                value = b.add(b.load(place, Type(kind)), value)
            cursor.store(self.pointer(write), node.dtype, offset, value)


def _body_rows(node: Generic) -> list[Affine]:
    """The rows of the bounds tests inside a body."""
    domain = ints(node.domain)
    rows: list[Affine] = []
    for part in sc.postorder(node.body):
        if isinstance(part, sc.InBounds):
            shape = ints(part.shape)
            rows.extend(row for row, _ in open_bounds(part.map, shape, domain))
    return rows


class _Body:
    """The value of a step at the cursor's point; reads that occur twice are made once."""

    def __init__(self, loops: _Loops, cursor: Cursor, values: dict[str, Value]) -> None:
        self.loops, self.cursor, self.values = loops, cursor, values
        self._loaded: dict[object, Value] = {}
        self._inside: dict[object, Value | None] = {}

    def value(self, step: Step) -> tuple[Value, Value | None]:
        """The body's value, and where the point is visited at all (None: everywhere)."""
        cursor, b = self.cursor, self.loops.b
        visited: Value | None = None
        for read in step.reads:
            if read.skips and read.bounds:
                test = self._test(read.bounds)
                visited = test if visited is None or test is None else b.and_(visited, test)

        def read_value(arg: sc.Arg) -> Value:
            read, forwarded = step.reads[arg.index], step.forwarded[arg.index]
            if forwarded is not None:
                return self.values[forwarded]
            key = (
                self.loops.program.root(read.buffer).name,
                read.buffer in self.loops.scratch,
                read.offset,
                read.bounds,
            )
            found = self._loaded.get(key)
            if found is None:
                if self.loops.program.by_name[read.buffer].size == 0:
                    found = b.const(value_type(read.dtype, cursor.lanes), 0)
                else:
                    found = cursor.load(
                        self.loops.pointer(read.buffer), read.dtype, read.offset, self._test(read.bounds)
                    )
                self._loaded[key] = found
            return found

        def inside(test: sc.InBounds) -> Value:
            domain = ints(step.node.domain)
            shape = ints(test.shape)
            result = self._test(tuple(open_bounds(test.map, shape, domain)))
            return b.const(value_type("bool", cursor.lanes), 1) if result is None else result

        return emit_body(b, step.node.body, cursor.lanes, read_value, cursor.index, inside), visited

    def _test(self, bounds: Sequence[tuple[Affine, int]]) -> Value | None:
        key = tuple(bounds)
        if key not in self._inside:
            self._inside[key] = self.cursor.inside(bounds)
        return self._inside[key]


class _Nest:
    """The loops of one run."""

    def __init__(self, loops: _Loops, run: Run, cursor: Cursor) -> None:
        self.loops, self.run, self.cursor = loops, run, cursor
        self.b: Builder = loops.b
        self.reducers: list[tuple[Step, Reducer]] = [(s, reducer_of(s.node)) for s in run.steps if s.reduces]

    def emit(self) -> None:
        self._over(list(self.run.kept), [], self._element)

    def _element(self, _: list[Value]) -> list[Value]:
        """One element of the kept axes (or one vector of them): reduce, then store."""
        start = [value for _, reducer in self.reducers for value in reducer.start(self.b, self.cursor.lanes)]
        totals = self._over(list(self.run.reduced), start, self._point)
        if self.reducers:
            self._finish(totals)
        return []

    def _over(self, axes: list[int], carried: list[Value], inner: Callable[[list[Value]], list[Value]]) -> list[Value]:
        """Loops over the axes around `inner`, carrying values; the vector axis goes in whole vectors, then a tail."""
        if not axes:
            return inner(carried)
        axis, *rest = axes
        extent, b, cursor = self.run.extents[axis], self.b, self.cursor
        if extent == 0:
            return carried
        if axis != cursor.vector_axis:
            with b.loop(0, extent, name=f"a{axis}.", carried=carried) as loop:
                with cursor.bind(axis, loop.index):
                    loop.yield_(self._over(rest, loop.carried, inner))
            return loop.results
        whole = extent - extent % cursor.lanes
        if whole:
            with b.loop(0, whole, cursor.lanes, name=f"v{axis}.", carried=carried) as loop:
                with cursor.bind(axis, loop.index):
                    loop.yield_(self._over(rest, loop.carried, inner))
            carried = loop.results
        if extent > whole:
            bits = ", ".join(f"i1 {int(lane < extent - whole)}" for lane in range(cursor.lanes))
            cursor.tail = Value(f"<{bits}>", Type("i1", cursor.lanes))
            with cursor.bind(axis, b.const(I64, whole)):
                carried = self._over(rest, carried, inner)
            cursor.tail = None
        return carried

    def _point(self, carried: list[Value]) -> list[Value]:
        """All steps at one point of the domain."""
        b, cursor = self.b, self.cursor
        body = _Body(self.loops, cursor, {})
        following: list[Value] = []
        position = 0
        for step in self.run.steps:
            value, visited = body.value(step)
            if step.reduces:
                reducer = reducer_of(step.node)
                count = reducer.width
                mask = _both(b, visited, cursor.tail)
                where = self._position(step.node) if reducer.needs_position else None
                following.extend(reducer.combine(b, carried[position : position + count], value, mask, where))
                position += count
                continue
            if visited is not None:
                value = b.select(visited, value, b.const(value.type, 0))
            body.values[step.stage.write] = value
            if step.stored:
                cursor.store(self.loops.pointer(step.stage.write), step.node.dtype, step.write, value)
        return following

    def _position(self, node: Generic) -> Value:
        """The row-major position within the reduced axes, in every lane."""
        position: Value | None = None
        for axis in node.reduced_axes:
            index = self.cursor.index(axis)
            extent = node.domain[axis]
            assert isinstance(extent, int)
            position = index if position is None else self.b.add(self.b.mul(position, extent), index)
        return position if position is not None else self.b.const(value_type("int64", self.cursor.lanes), 0)

    def _finish(self, totals: list[Value]) -> None:
        b, cursor = self.b, self.cursor
        along = cursor.lanes and self.run.vector in self.run.reduced
        position = 0
        for step, reducer in self.reducers:
            values = totals[position : position + reducer.width]
            position += reducer.width
            result = reducer.fold(b, values) if along else reducer.result(values)
            pointer = self.loops.pointer(step.stage.write)
            if along:
                kind = memory_kind(step.node.dtype)
                stored = b.zext(result, Type("i8")) if step.node.dtype == "bool" else result
                b.store(stored, b.gep(pointer, cursor.value(step.write), kind))
            else:
                cursor.store(pointer, step.node.dtype, step.write, result)


def _both(b: Builder, one: Value | None, other: Value | None) -> Value | None:
    if one is None or other is None:
        return one if other is None else other
    return b.and_(one, other)
