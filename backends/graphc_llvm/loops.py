"""Kernels of kind `loops`: nests of maps and reductions with one axis along the lanes, shared by threads.

The outer axes are plain loops around all stages; inside them each run (see `runs`) is a nest of its own (`nest`).
Threads share the points of the outer axes; a run without outer axes they share along one of its own axes, or, where
it reduces everything, in parts whose results are combined in a fixed tree. How many tasks there are follows from
shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import prod

from graphc.ir.affine import Affine
from graphc.ir.extent import ints
from graphc.ir.node import Generic
from graphc.program import ALIGNMENT, ITEM_SIZES, Kernel, Program, Stage
from graphc_llvm.addressing import Cursor, flat_offset, open_bounds
from graphc_llvm.bodies import memory_kind
from graphc_llvm.emit import PTR, Builder, Module, Type, Value
from graphc_llvm.kernel_code import KernelCode
from graphc_llvm.nest import Memory, Nest, Point, Share, body_rows, lanes_of, part_of, waiting_bytes
from graphc_llvm.parallel import parallel_for
from graphc_llvm.reducers import reducer_of
from graphc_llvm.runs import Run, Step, choose_outer, is_plain, nanoseconds, plain_reads, split_runs
from graphc_llvm.target import Target

TASK_NANOSECONDS = 2000.0  # of work, estimated, that a task has at least: handing one out takes 100
MOST_TASKS = 32  # of a section: a thread that loses its processor for a while then delays little
PART_BYTES = 8  # of one partial result: the widest dtype


def emit_loops(module: Module, target: Target, program: Program, kernel: Kernel, name: str) -> KernelCode:
    """Emit a kernel as a function of the module."""
    return _Loops(module, target, program, kernel, name).emit()


class _Loops:
    def __init__(self, module: Module, target: Target, program: Program, kernel: Kernel, name: str) -> None:
        self.target, self.program, self.kernel, self.name = target, program, kernel, name
        self.outer = choose_outer(program, kernel)
        self.scratch: dict[str, tuple[int, ...]] = {}
        self.places: dict[str, int] = {}
        self.scratch_bytes = 0
        for buffer_name in kernel.writes:
            buffer = program.by_name[buffer_name]
            if buffer.kind == "scratch":
                strides = buffer.strides
                self.scratch[buffer_name] = (0,) * min(self.outer, len(strides)) + strides[self.outer :]
                self.places[buffer_name] = self.scratch_bytes
                size = ITEM_SIZES[buffer.dtype] * prod(buffer.shape[self.outer :])
                self.scratch_bytes += -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
        roots: dict[str, None] = {}
        for buffer_name in (*kernel.reads, *kernel.writes):
            if buffer_name not in self.scratch:
                roots.setdefault(program.root(buffer_name).name)
        self.roots = tuple(roots)
        params = [*((f"b{number}", PTR) for number in range(len(self.roots))), ("workspace", PTR)]
        self.b = module.function(name, params, linkage="internal")
        self.pointers: dict[str, Value] = dict(zip(self.roots, self.b.params, strict=False))
        self.workspace = self.b.params[-1]
        self.scratch_start = self.workspace  # of the thread that runs
        self.waiting_at = self.scratch_bytes  # where values wait between the stages of a run
        self.common_bytes = 0  # of the workspace: scratch arrays that all threads see
        self.shared_bytes = 0  # of the workspace: partial results
        self.is_shared = False  # whether threads share the kernel: each then has scratch of its own

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
        common = self.common_bytes + self.shared_bytes
        if self.is_shared:
            return KernelCode(self.name, self.roots, common, self.scratch_bytes)
        return KernelCode(self.name, self.roots, common + self.scratch_bytes)

    def memory(self) -> Memory:
        """The memory as a nest sees it."""
        return Memory(self.b, self.program, self.pointers, frozenset(self.scratch))

    # --- Ordinary nests ---------------------------------------------------------------------------------------------

    def _nests(self) -> None:
        runs = split_runs(self.program, self.kernel, self.outer, self.scratch)
        waiting = max(waiting_bytes(self.program, run, self.target) for run in runs)
        if self.outer:
            self.scratch_bytes += waiting
        else:  # one run hands whole arrays on to the next, whichever thread computes which part of them
            self.common_bytes, self.scratch_bytes, self.waiting_at = self.scratch_bytes, waiting, 0
        first = runs[0].steps[0].node
        extents = ints(first.domain)[: self.outer]
        costs = [nanoseconds(run) for run in runs]
        if self.outer:
            points = prod(extents)
            lead, count = 0, 1
            while lead < self.outer and (count < MOST_TASKS or extents[lead] == 1):
                count *= extents[lead]
                lead += 1
            tasks = _tasks(points * sum(costs), count)
            self.is_shared = tasks > 1
            if tasks > 1:
                self._section(f"{self.name}.task", tasks, lambda task: self._outer(runs, extents, lead, task, tasks))
            else:
                self._place_scratch(self.workspace)
                self._outer(runs, extents, 0, None, 1)
            return
        shares = [self._share(run, cost) for run, cost in zip(runs, costs, strict=True)]
        shared = [run for run, (_, tasks) in zip(runs, shares, strict=True) if tasks > 1]
        most = max((sum(step.reduces for step in run.steps) for run in shared), default=0)
        self.shared_bytes = PART_BYTES * MOST_TASKS * most
        self.is_shared = any(tasks > 1 for _, tasks in shares)
        for number, (run, (axis, tasks)) in enumerate(zip(runs, shares, strict=True)):
            if tasks > 1:
                self._shared_run(f"{self.name}.task{number}", run, axis, tasks)
            else:
                self._place_scratch(self.b.gep(self.workspace, self.common_bytes + self.shared_bytes, "i8"))
                self._run(run, [])

    def _section(self, name: str, tasks: int, emit: Callable[[Value], None]) -> None:
        """Tasks of the kernel as a function of their own, in which pointers have new names."""
        live = [*(self.pointers[root] for root in self.roots), self.workspace]
        outside = self.b, self.pointers, self.workspace

        def body(b: Builder, task: Value, slot: Value, values: list[Value]) -> None:
            self.b, self.workspace = b, values[-1]
            self.pointers = dict(zip(self.roots, values, strict=False))
            before = self.common_bytes + self.shared_bytes
            own = b.gep(self.workspace, b.add(b.mul(slot, self.scratch_bytes), before), "i8")
            self._place_scratch(own)
            emit(task)

        caller = self.b
        parallel_for(caller, name, tasks, live, body)
        self.b, self.pointers, self.workspace = outside

    def _place_scratch(self, start: Value) -> None:
        """What one thread needs for itself starts here: its scratch rows, and values that wait."""
        self.scratch_start = start
        for name, place in self.places.items():
            self.pointers[name] = self.b.gep(start if self.outer else self.workspace, place, "i8")

    def _outer(
        self, runs: Sequence[Run], extents: Sequence[int], lead: int, task: Value | None, tasks: int
    ) -> None:
        """All runs at the points of the outer axes; a task has its part of the first `lead` axes."""
        b = self.b
        with ExitStack() as stack:
            indices: list[Value] = []
            if task is not None:
                start, stop = part_of(b, prod(extents[:lead]), task, tasks)
                point = stack.enter_context(b.loop(start, stop, name="points")).index
                for axis in range(lead - 1, 0, -1):
                    point, index = b.divide_index(point, extents[axis])
                    indices.insert(0, index)
                indices.insert(0, point)
            for axis in range(lead, self.outer):
                indices.append(stack.enter_context(b.loop(0, extents[axis], name=f"outer{axis}")).index)
            for run in runs:
                self._run(run, indices)

    def _run(self, run: Run, outer: Sequence[Value], share: Share | None = None) -> Nest:
        lanes = lanes_of(run, self.target)
        cursor = Cursor(self.b, run.vector if lanes else None, lanes)
        expressions: list[Affine] = []
        for step in run.steps:
            expressions.append(step.write)
            for read in step.reads:
                expressions.append(read.offset)
                expressions.extend(row for row, _ in read.bounds)
            expressions.extend(body_rows(step.node))
        cursor.follow(expressions)
        with ExitStack() as stack:
            for axis, index in enumerate(outer):
                stack.enter_context(cursor.bind(axis, index))
            waiting = self.b.gep(self.scratch_start, self.waiting_at, "i8")
            nest = Nest(self.memory(), run, cursor, share, waiting)
            nest.emit()
        return nest

    # --- Runs that threads share ------------------------------------------------------------------------------------

    def _share(self, run: Run, point: float) -> tuple[int, int]:
        """The axis along which threads share a run, and in how many tasks."""
        axes = [*run.kept, *run.reduced]
        cost = point  # of the whole run, which has no outer axes
        if not axes or (not run.kept and any(reducer_of(s.node).needs_position for s in run.steps if s.reduces)):
            return 0, 1
        lanes = max(1, lanes_of(run, self.target))
        best, found = 1, axes[0]
        for axis in run.kept or run.reduced[:1]:
            units = run.extents[axis] // lanes if axis == run.vector else run.extents[axis]
            tasks = _tasks(cost, units)
            if tasks > best:
                best, found = tasks, axis
        return found, best

    def _shared_run(self, name: str, run: Run, axis: int, tasks: int) -> None:
        reducers = [(step, reducer_of(step.node)) for step in run.steps if step.reduces]
        partial = bool(reducers) and not run.kept
        self._section(name, tasks, lambda task: self._task(run, axis, task, tasks, partial))
        if not partial:
            return
        b = self.b
        for number, (step, reducer) in enumerate(reducers):
            kind = memory_kind(step.node.dtype)
            type_ = Type(kind, MOST_TASKS)
            place = b.gep(self.workspace, self.common_bytes + PART_BYTES * MOST_TASKS * number, "i8")
            bits = ", ".join(f"i1 {int(lane < tasks)}" for lane in range(MOST_TASKS))
            mask = Value(f"<{bits}>", Type("i1", MOST_TASKS))
            parts = b.masked_load(place, type_, mask, reducer.identity_number)
            if step.node.dtype == "bool":
                parts = b.icmp("ne", parts, 0)
            result = reducer.fold(b, [parts])
            if step.node.dtype == "bool":
                result = b.zext(result, Type("i8"))
            offset = step.write.const
            assert isinstance(offset, int)
            b.store(result, b.gep(self.memory().pointer(step.stage.write), offset, kind))

    def _task(self, run: Run, axis: int, task: Value, tasks: int, partial: bool) -> None:
        b = self.b
        lanes = lanes_of(run, self.target)
        units = run.extents[axis] // lanes if axis == run.vector and lanes else run.extents[axis]
        start, stop = part_of(b, units, task, tasks)
        share = Share(axis, start, stop, b.icmp("eq", task, tasks - 1), partial)
        nest = self._run(run, [], share)
        for number, (step, value) in enumerate(nest.partials):
            kind = memory_kind(step.node.dtype)
            value = b.zext(value, Type("i8")) if step.node.dtype == "bool" else value
            place = b.gep(self.workspace, self.common_bytes + PART_BYTES * MOST_TASKS * number, "i8")
            b.store(value, b.gep(place, task, kind))

    # --- Fills and scatters -----------------------------------------------------------------------------------------

    def _fill(self, name: str, node: Generic) -> None:
        """Every element becomes the reducer's identity."""
        buffer = self.program.by_name[name]
        b, kind = self.b, memory_kind(buffer.dtype)
        value = 0 if node.reducer in (None, "sum") else reducer_of(node).identity_number
        lanes = self.target.lanes("f32")
        whole = buffer.size - buffer.size % lanes
        pointer = self.memory().pointer(name)
        with b.loop(0, whole, lanes, name="fill") as loop:
            b.store(b.const(Type(kind, lanes), value), b.gep(pointer, loop.index, kind))
        with b.loop(whole, buffer.size, name="fill") as loop:
            b.store(b.const(Type(kind), value), b.gep(pointer, loop.index, kind))

    def _scatter(self, stage: Stage) -> None:
        """Visit the points one after another; each adds to (or writes) its element, if that exists."""
        b, node, write = self.b, stage.node, stage.write
        assert isinstance(node, Generic)
        self._place_scratch(self.workspace)
        domain = ints(node.domain)
        target = self.program.by_name[write]
        out_bounds = open_bounds(node.out_map, target.shape, domain)
        offset = flat_offset(node.out_map, target.strides)
        step = Step(stage, node, plain_reads(self.program, stage, {}), (None,) * len(stage.reads), offset, True)
        cursor = Cursor(b, None, 0)
        rows = [row for row, _ in out_bounds] + body_rows(node)
        cursor.follow(
            [offset, *rows, *(r.offset for r in step.reads), *(row for r in step.reads for row, _ in r.bounds)]
        )
        pointer = self.memory().pointer(write)
        with ExitStack() as stack:
            for axis, extent in enumerate(domain):
                loop = stack.enter_context(b.loop(0, extent, name=f"point{axis}"))
                stack.enter_context(cursor.bind(axis, loop.index))
            value, visited = Point(self.memory(), cursor, domain).value(step, {})
            place_inside = cursor.inside(out_bounds)
            for test in (place_inside, visited):
                if test is not None:
                    stack.enter_context(b.if_(test))
            kind = memory_kind(node.dtype)
            place = b.gep(pointer, cursor.value(offset), kind)
            if node.reducer == "sum" and node.dtype != "bool":
                value = b.add(b.load(place, Type(kind)), value)
            cursor.store(pointer, node.dtype, offset, value)


def _tasks(cost: float, units: int) -> int:
    """In how many tasks work of so many nanoseconds is cut, of so many units that cannot be cut."""
    return max(1, min(MOST_TASKS, units, int(cost / TASK_NANOSECONDS)))
