"""The loops of one run: axes in order, one of them along the lanes, values of reductions carried through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphc.ir import scalar as sc
from graphc.ir.affine import Affine
from graphc.ir.extent import ints
from graphc.ir.node import Generic
from graphc.program import Program
from graphc_llvm.addressing import Cursor, open_bounds
from graphc_llvm.bodies import emit_bodies, emit_body, memory_kind, value_type
from graphc_llvm.emit import I64, Builder, Type, Value
from graphc_llvm.flat import BLOCK, Flat, Stage, Stages, cut, flatten
from graphc_llvm.reducers import Reducer, reducer_of
from graphc_llvm.runs import Access, Run, Step, scalar_ops
from graphc_llvm.target import Target

MOST_WASTE = 1.1  # lanes that are computed, over lanes that are needed
WIDE = 4  # registers that a vector of a short sum spans: additions to one register wait for each other
LEAST_VECTORS = 4  # of a loop that is cut into stages
WAITING_BYTES = 8 * BLOCK  # of one value between two stages: the widest dtype
WIDE_OPS = 12  # operations of a run from which on there is enough to do meanwhile


@dataclass(frozen=True)
class Memory:
    """The builder, and where each buffer lies."""

    b: Builder
    program: Program
    pointers: Mapping[str, Value]
    scratch: frozenset[str]

    def pointer(self, name: str) -> Value:
        """The address of a buffer, or of the one whose memory it shows."""
        return self.pointers[name] if name in self.pointers else self.pointers[self.program.root(name).name]


@dataclass(frozen=True)
class Share:
    """A task's part of one axis: [start, stop), in vectors if it is the one along the lanes; the last part has the
    elements that fill no vector, too. `partial`: results are handed back rather than stored."""

    axis: int
    start: Value
    stop: Value
    is_last: Value
    partial: bool


def lanes_of(run: Run, target: Target) -> int:
    """The lanes of a run's vectors; 0 for scalar code.

    As many as the widest float of the run fills a register with (float32's number where there is none), or fewer for a
    short axis, or several registers full for a long sum.
    """
    if run.vector is None:
        return 0
    dtypes = {read.dtype for step in run.steps for read in step.reads} | {step.node.dtype for step in run.steps}
    lanes = target.lanes("f64" if "float64" in dtypes else "f32")
    if lanes < 2:
        return 0
    extent = run.extents[run.vector]
    while lanes > 2 and lanes // 2 >= extent:
        lanes //= 2
    is_short = sum(scalar_ops(step.node) for step in run.steps) <= WIDE_OPS
    wide = lanes * WIDE
    if set(run.reduced) - run.unrolled and is_short and -(-extent // wide) * wide <= MOST_WASTE * extent:
        return wide
    return lanes


def stages_of(run: Run, flat: Flat | None, lanes: int) -> Stages | None:
    """The stages of a run whose innermost loop is along the lanes, if it has a long chain."""
    innermost = [*run.kept, *run.reduced][-1:]
    if flat is None or not lanes or innermost != [run.vector]:
        return None
    if run.kept and run.reduced and run.vector in run.kept:
        return None
    return cut(flat) if run.extents[innermost[0]] >= LEAST_VECTORS * lanes else None


def waiting_bytes(program: Program, run: Run, target: Target) -> int:
    """The bytes in which values of a run wait between its stages."""
    stages = stages_of(run, flatten(program, run), lanes_of(run, target))
    return WAITING_BYTES * len(stages.waiting) if stages else 0


def body_rows(node: Generic) -> list[Affine]:
    """The rows of the bounds tests inside a body."""
    domain = ints(node.domain)
    rows: list[Affine] = []
    for part in sc.postorder(node.body):
        if isinstance(part, sc.InBounds):
            shape = ints(part.shape)
            rows.extend(row for row, _ in open_bounds(part.map, shape, domain))
    return rows


class Point:
    """What is read at the cursor's point; reads that occur twice are made once."""

    def __init__(self, memory: Memory, cursor: Cursor, domain: Sequence[int]) -> None:
        self.memory, self.cursor, self.domain = memory, cursor, domain
        self._loaded: dict[object, Value] = {}
        self._inside: dict[object, Value | None] = {}

    def load(self, read: Access) -> Value:
        """The value of one read; 0 outside its array."""
        memory, cursor = self.memory, self.cursor
        key = (memory.program.root(read.buffer).name, read.offset, read.bounds)
        found = self._loaded.get(key)
        if found is None:
            if memory.program.by_name[read.buffer].size == 0:
                found = memory.b.const(value_type(read.dtype, cursor.lanes), 0)
            else:
                found = cursor.load(memory.pointer(read.buffer), read.dtype, read.offset, self.test(read.bounds))
            self._loaded[key] = found
        return found

    def inside(self, test: sc.InBounds) -> Value:
        """The outcome of a bounds test of a body."""
        result = self.test(tuple(open_bounds(test.map, ints(test.shape), self.domain)))
        return self.memory.b.const(value_type("bool", self.cursor.lanes), 1) if result is None else result

    def test(self, bounds: Sequence[tuple[Affine, int]]) -> Value | None:
        """Whether all bounds hold; None: they always do."""
        key = tuple(bounds)
        if key not in self._inside:
            self._inside[key] = self.cursor.inside(bounds)
        return self._inside[key]

    def value(self, step: Step, values: Mapping[str, Value]) -> tuple[Value, Value | None]:
        """A step's value, given those of earlier ones, and where it is visited at all (None: everywhere)."""
        b, visited = self.memory.b, None
        for read in step.reads:
            if read.skips and read.bounds:
                visited = both(b, visited, self.test(read.bounds))

        def read_value(arg: sc.Arg) -> Value:
            forwarded = step.forwarded[arg.index]
            return values[forwarded] if forwarded is not None else self.load(step.reads[arg.index])

        value = emit_body(b, step.node.body, self.cursor.lanes, read_value, self.cursor.index, self.inside)
        return value, visited


class Nest:
    """The loops of one run, or of a task's share of it."""

    def __init__(
        self, memory: Memory, run: Run, cursor: Cursor, share: Share | None, waiting: Value | None = None
    ) -> None:
        self.memory, self.run, self.cursor, self.share = memory, run, cursor, share
        self.b = memory.b
        self.flat = flatten(memory.program, run)
        self.stages = stages_of(run, self.flat, cursor.lanes)
        self.waiting = waiting
        self.reducers: list[tuple[Step, Reducer]] = [(s, reducer_of(s.node)) for s in run.steps if s.reduces]
        self.partials: list[tuple[Step, Value]] = []

    def emit(self) -> None:
        """Emit the loops. Afterwards `partials` holds what a partial share has reduced."""
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
        share = self.share if self.share is not None and self.share.axis == axis else None
        if extent == 0:
            return carried
        if axis in self.run.unrolled:
            for index in range(extent):
                with cursor.bind(axis, index):
                    carried = self._over(rest, carried, inner)
            return carried
        if axis != cursor.vector_axis:
            first, last = (share.start, share.stop) if share else (0, extent)
            with b.loop(first, last, name=f"a{axis}.", carried=carried) as loop:
                with cursor.bind(axis, loop.index):
                    loop.yield_(self._over(rest, loop.carried, inner))
            return loop.results
        lanes = cursor.lanes
        whole = extent - extent % lanes
        if whole:
            first, last = (b.mul(share.start, lanes), b.mul(share.stop, lanes)) if share else (0, whole)
            if self.stages is not None:
                carried = self._staged(axis, first, last, carried)
            else:
                with b.loop(first, last, lanes, name=f"v{axis}.", carried=carried) as loop:
                    with cursor.bind(axis, loop.index):
                        loop.yield_(self._over(rest, loop.carried, inner))
                carried = loop.results
        if extent > whole:
            cursor.rest = extent - whole
            if share:
                with b.if_(share.is_last, carried) as branch, cursor.bind(axis, whole):
                    branch.yield_(self._over(rest, carried, inner))
                carried = branch.results
            else:
                with cursor.bind(axis, whole):
                    carried = self._over(rest, carried, inner)
            cursor.rest = None
        return carried

    def _staged(self, axis: int, first: Value | int, last: Value | int, carried: list[Value]) -> list[Value]:
        """Whole vectors along the innermost axis, in blocks, each block stage by stage."""
        b, cursor = self.b, self.cursor
        assert self.stages is not None and self.flat is not None and self.waiting is not None
        with b.loop(first, last, BLOCK, name="block", carried=carried) as block:
            stop = b.add(block.index, BLOCK)
            end = b.const(I64, last) if isinstance(last, int) else last
            stop = b.select(b.icmp("slt", stop, end), stop, end)
            carried = block.carried
            for stage in self.stages.stages:
                is_last = stage is self.stages.stages[-1]
                inner = carried if is_last else []
                with b.loop(block.index, stop, cursor.lanes, name=f"stage{stage.first}.", carried=inner) as loop:
                    with cursor.bind(axis, loop.index):
                        local = b.sub(loop.index, block.index)
                        values = self._stage(stage, local)
                        if is_last:
                            loop.yield_(self._take(loop.carried, [(value, None) for value in values]))
                        else:
                            for number, value in enumerate(values, stage.first):
                                b.store(value, self._place(number, local))
                carried = loop.results if is_last else carried
            block.yield_(carried)
        return block.results

    def _stage(self, stage: Stage, local: Value) -> list[Value]:
        """The values of a stage; earlier ones are read at the place `local` of the block."""
        assert self.stages is not None and self.flat is not None
        accesses, waiting, cursor = self.flat.accesses, self.stages.waiting, self.cursor
        point = Point(self.memory, cursor, ints(self.run.steps[0].node.domain))

        def read(arg: sc.Arg) -> Value:
            number = arg.index - len(accesses)
            if number < 0:
                return point.load(accesses[arg.index])
            return self.b.load(self._place(number, local), value_type(waiting[number], cursor.lanes))

        return emit_bodies(self.b, stage.values, cursor.lanes, read, cursor.index, point.inside)

    def _place(self, number: int, local: Value) -> Value:
        assert self.stages is not None and self.waiting is not None
        kind = memory_kind(self.stages.waiting[number])
        return self.b.gep(self.b.gep(self.waiting, number * WAITING_BYTES, "i8"), local, kind)

    def _point(self, carried: list[Value]) -> list[Value]:
        """All steps at one point of the domain."""
        cursor, b = self.cursor, self.b
        point = Point(self.memory, cursor, ints(self.run.steps[0].node.domain))
        if self.flat is not None:
            accesses = self.flat.accesses

            def read(arg: sc.Arg) -> Value:
                return point.load(accesses[arg.index])

            values = emit_bodies(b, self.flat.roots, cursor.lanes, read, cursor.index, point.inside)
            return self._take(carried, [(value, None) for value in values])
        named: dict[str, Value] = {}
        visits: list[tuple[Value, Value | None]] = []
        for step in self.run.steps:
            value, visited = point.value(step, named)
            if visited is not None and not step.reduces:
                value = b.select(visited, value, b.const(value.type, 0))
            named[step.stage.write] = value
            visits.append((value, visited))
        return self._take(carried, visits)

    def _take(self, carried: list[Value], values: Sequence[tuple[Value, Value | None]]) -> list[Value]:
        """Reduce or store each step's value; those carried on."""
        b, cursor = self.b, self.cursor
        following: list[Value] = []
        along = self.run.vector in self.run.reduced  # else lanes without elements compute what nobody stores
        for step, (value, visited) in zip(self.run.steps, values, strict=True):
            if step.reduces:
                reducer = reducer_of(step.node)
                mask = both(b, visited, cursor.tail) if along else visited
                where = self._position(step.node, reducer.position) if reducer.needs_position else None
                in_order = mask is None and self.run.unrolled >= set(self.run.reduced)
                is_one_axis = len(self.run.reduced) == 1  # of several any may be the one along vectors
                old = carried[len(following) : len(following) + reducer.width]
                following.extend(reducer.combine(b, old, value, mask, where, in_order, in_order or is_one_axis))
            elif step.stored:
                cursor.store(self.memory.pointer(step.stage.write), step.node.dtype, step.write, value)
        cursor.flush()
        return following

    def _position(self, node: Generic, dtype: str) -> Value:
        """The row-major position within the reduced axes, in every lane."""
        b, cursor = self.b, self.cursor
        extents = ints(node.domain)
        first, stride, apart = b.const(I64, 0), 1, 0  # of lane 0; between two lanes
        for axis in reversed(node.reduced_axes):
            first = b.add(first, b.mul(cursor.indices[axis], stride))
            if axis == cursor.vector_axis:
                apart = stride
            stride *= extents[axis]
        type_ = value_type(dtype, cursor.lanes)
        position = b.splat(first if dtype == "int64" else b.trunc(first, type_.scalar()), cursor.lanes)
        return b.add(position, b.mul(b.iota(type_.kind, cursor.lanes), apart)) if apart else position

    def _finish(self, totals: list[Value]) -> None:
        b, cursor = self.b, self.cursor
        along = cursor.lanes and self.run.vector in self.run.reduced
        position = 0
        for step, reducer in self.reducers:
            values = totals[position : position + reducer.width]
            position += reducer.width
            result = reducer.fold(b, values) if along else reducer.result(b, values)
            if self.share is not None and self.share.partial:
                self.partials.append((step, result))
                continue
            pointer = self.memory.pointer(step.stage.write)
            if along:
                kind = memory_kind(step.node.dtype)
                stored = b.zext(result, Type("i8")) if step.node.dtype == "bool" else result
                b.store(stored, b.gep(pointer, cursor.value(step.write), kind))
            else:
                cursor.store(pointer, step.node.dtype, step.write, result)
        cursor.flush()


def both(b: Builder, one: Value | None, other: Value | None) -> Value | None:
    """The conjunction of two tests, of which None is always true."""
    if one is None or other is None:
        return one if other is None else other
    return b.and_(one, other)


def part_of(b: Builder, units: int, task: Value, tasks: int) -> tuple[Value, Value]:
    """[start, stop) of a task's part of so many units: parts differ by one unit at most."""
    start = _first_of(b, units, task, tasks)
    return start, _first_of(b, units, b.add(task, 1), tasks)


def _first_of(b: Builder, units: int, task: Value, tasks: int) -> Value:
    """floor(task * units / tasks)."""
    if b.module.pointer_bits == 64:
        return b.divide_index(b.mul(task, units), tasks)[0]
    whole, rest = divmod(units, tasks)  # the product of task and units may take more than 32 bits
    return b.add(b.mul(task, whole), b.divide_index(b.mul(task, rest), tasks)[0])
