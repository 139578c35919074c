"""A Program as one readable Python function."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from graphc.ir.node import SKIP, Generic
from graphc.program import Kernel, Loop, Program, Stage
from graphc_numpy import opaque, scan, store
from graphc_numpy.code import Code, shape_text
from graphc_numpy.helpers import HELPERS
from graphc_numpy.layout import in_layout, layouts
from graphc_numpy.literals import array, dtype_text
from graphc_numpy.names import Names
from graphc_numpy.reuse import Update, finish
from graphc_numpy.task import Task, task_of


def emit(program: Program, timed: bool = False) -> tuple[str, str]:
    """The name of the generated function, and the text of the module that defines it.

    timed: the function has another parameter, the first: `clock`, which it calls with the number of a kernel when a
    part of that kernel is done, and with the number of kernels when something else is.
    """
    writer = _Writer(program, timed)
    return writer.name, writer.text()


class _Writer:
    def __init__(self, program: Program, timed: bool = False, functions: Names | None = None) -> None:
        """functions: the names of the functions of this module so far."""
        self.program = program
        names = Names()
        self.functions = functions or Names()
        self.name = self.functions.unique(program.name)
        names.unique(self.name)
        self.code = Code(names)
        self.steps: list[str] = []  # functions of the steps of loops
        self.variables = {buffer.name: names.unique(buffer.name) for buffer in program.buffers}
        self.clock = names.unique("clock") if timed else None
        self.layouts = layouts(program)
        self.defined: dict[str, list[str]] = {}  # by root: the buffers whose variables exist
        self.writers: dict[str, list[Stage]] = {}
        for stage in program.stages():
            self.writers.setdefault(program.root(stage.write).name, []).append(stage)
        for buffer in program.buffers:
            if buffer.alias is None and buffer.kind in ("input", "param", "state", "constant"):
                self._define(buffer.name)

    def text(self) -> str:
        function = self.function()
        constants = [
            f"{self.variables[buffer.name]} = {array(buffer.value)}"
            for buffer in self.program.buffers
            if buffer.value is not None and buffer.alias is None
        ]
        imports = ["import numpy as np"]
        if any("base64." in constant for constant in constants):
            imports.insert(0, "import base64\n")
        helpers = [HELPERS[name].strip("\n") for name in HELPERS if name in self.code.helpers]
        sections = ["\n".join(imports)]
        if constants:
            sections.append("\n".join(constants))
        return "\n\n\n".join([*sections, *helpers, *self.steps, function]) + "\n"

    def function(self) -> str:
        """The program's function; the functions that it needs are in `steps` and `code.helpers` then."""
        for number, kernel in enumerate(self.program.kernels):
            self.code.kernel = number
            if kernel.loop is not None:
                self._loop(kernel, kernel.loop)
                continue
            for stage in kernel.stages:
                self._stage(stage)
        self.code.kernel = len(self.program.kernels)
        returned = [self._returned(name, position) for position, name in enumerate(self.program.outputs)]
        updates = [self._update(source, target) for source, target in self.program.updates]
        body = self._with_clocks(finish(self.code.lines, returned, updates, self.code.kernel))
        names = [self.variables[name] for name in self.program.inputs]
        parameters = ", ".join(names if self.clock is None else [self.clock, *names])
        body.append(f"return {', '.join(returned) or '()'}")
        function = ['@np.errstate(all="ignore")', f"def {self.name}({parameters}):"]
        function.extend(f"    {line}" for statement in body for line in statement.split("\n"))
        return "\n".join(function)

    def _loop(self, kernel: Kernel, loop: Loop) -> None:
        """A function of one step beside this one, and the lines that call it."""
        inner = _Writer(loop.program, functions=self.functions)
        while self.code.names.unique(inner.name) != inner.name:  # a variable of this function would hide it
            inner.name = self.functions.unique(inner.name)
        function = inner.function()
        self.steps += [*inner.steps, function]
        self.code.helpers |= inner.code.helpers
        names = [self._variable(name) for name in kernel.stages[0].reads]
        targets = {number: self.variables[stage.write] for number, stage in enumerate(kernel.stages)}
        scan.define(self.code, kernel, inner.name, names, targets)
        for stage in kernel.stages:
            self._define(stage.write)

    def _with_clocks(self, numbered: Sequence[tuple[int, str]]) -> list[str]:
        """The statements; in a timed program a call of the clock follows each run of one kernel's."""
        if self.clock is None:
            return [text for _, text in numbered]
        body: list[str] = []
        for number, run in groupby(numbered, key=lambda pair: pair[0]):
            body += [*(text for _, text in run), f"{self.clock}({number})"]
        return body

    def _define(self, name: str) -> str:
        """Note that the variable of a buffer exists."""
        buffer = self.program.by_name[name]
        self.defined.setdefault(self.program.root(name).name, []).append(name)
        variable = self.variables[name]
        order = self.layouts.get(name, range(len(buffer.shape)))
        self.code.arrays[variable] = (tuple(buffer.shape[axis] for axis in order), buffer.dtype)
        return variable

    def _variable(self, name: str) -> str:
        """The variable of a buffer; a view of the same memory is reshaped when it is needed first."""
        variable = self.variables[name]
        held = self.defined[self.program.root(name).name]
        if name in held:
            return variable
        buffer = self.program.by_name[name]
        source = self.variables[held[0]]
        shape = ", ".join(map(str, buffer.shape)) or "()"
        text = f"{source}.reshape({shape})"
        self.code.assign(text, (source,), (buffer.shape, buffer.dtype), variable, view_of=source)
        return self._define(name)

    def _stage(self, stage: Stage) -> None:
        names = [self._variable(name) for name in stage.reads]
        root = self.program.root(stage.write).name
        variable = self.variables[stage.write]
        if not isinstance(stage.node, Generic):
            opaque.define(self.code, stage.node, names, variable)
            self._define(stage.write)
            return
        task = in_layout(task_of(stage.node, names), stage, self.layouts)
        if len(self.writers[root]) == 1:
            store.define(self.code, task, variable)
            self._define(stage.write)
            return
        if root not in self.defined:
            self._allocate(task, variable, self.writers[root])
            self._define(stage.write)
        store.write(self.code, task, self._variable(stage.write))

    def _allocate(self, task: Task, variable: str, writers: list[Stage]) -> None:
        """An array for several stages; they write all of it, but a sum adds to what is there."""
        if any(stage.initialise for stage in writers) or not all(_assigns(stage) for stage in writers):
            store.fill(self.code, task, variable)
            return
        text = f"np.empty({shape_text(task.out_shape)}, {dtype_text(task.dtype)})"
        self.code.assign(text, (), (task.out_shape, task.dtype), variable)

    def _returned(self, name: str, position: int) -> str:
        """The variable to return: new memory, which no earlier output has."""
        variable = self._variable(name)
        root = self.program.root(name)
        earlier = {self.program.root(other).name for other in self.program.outputs[:position]}
        if root.name not in earlier and root.kind not in ("input", "param", "state", "constant"):
            return variable
        memory = self.code.arrays[variable]
        return self.code.assign(f"{variable}.copy()", (variable,), memory, self.code.fresh_name(f"{variable}_copy"))

    def _update(self, source: str, target: str) -> Update:
        variable = self._variable(source)
        memory = self.code.arrays[self.variables[target]]
        if self.program.root(source).kind in ("input", "param", "state"):  # read before any update writes
            name = self.code.fresh_name(f"{variable}_copy")
            variable = self.code.assign(f"{variable}.copy()", (variable,), memory, name)
        return Update(variable, self.variables[target], memory)


def _assigns(stage: Stage) -> bool:
    """The stage writes its part of a buffer by slices, all of it: also where nothing is read, since none skips."""
    if not isinstance(stage.node, Generic):
        return True
    return SKIP not in stage.node.modes and task_of(stage.node, stage.reads).writes_slices


