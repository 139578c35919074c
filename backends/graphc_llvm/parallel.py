"""Sections of a kernel that threads share: tasks 0 to n-1, in any order, on any of the threads.

The body of a section is outlined into a function `(ptr context, i64 task, i64 slot)`; the values of the surrounding
function that it uses travel through `context`, an array on the caller's stack. `slot`, below the number of threads, is
the number of the thread within the section: what a task needs for itself alone it keeps in the slot's own part of the
workspace. How many tasks there are must follow from shapes, never from the number of threads, and no task may depend
on another one of its section: then the results are the same bits whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc_llvm.emit import I64, PTR, Builder, Value

PARALLEL_FOR = "graphc_parallel_for"
"""`void graphc_parallel_for(ptr function, ptr context, i64 tasks, i64 threads)`, from `graphc_llvm.pool`."""

HOT, COLD = "noinline", "noinline optnone"
"""Attributes of a function that works itself, and of one that mostly calls others for long: without optimisation it
takes less than half the time to compile, and some fifty instructions more beside thousands."""

Body = Callable[[Builder, Value, Value, list[Value]], None]
"""Emits one task into the builder of the outlined function: (builder, task, slot, the live values again)."""


def parallel_for(
    b: Builder, name: str, tasks: Value | int, live: Sequence[Value], body: Body, attributes: str = HOT
) -> None:
    """Emit a section called `name` (a module's function names are unique). `live`: pointers and i64 that the body
    uses; `attributes`: of the outlined function. With `module.threads` 1, or one task, the tasks are called one after
    another, slot 0."""
    module = b.module
    task_function = module.function(
        name, [("context", PTR), ("task", I64), ("slot", I64)], linkage="internal", attributes=attributes
    )
    context, task, slot = task_function.params
    loaded = [
        task_function.load(task_function.gep(context, 8 * number, "i8"), value.type, 8)
        for number, value in enumerate(live)
    ]
    body(task_function, task, slot, loaded)
    task_function.ret()

    record = b.alloca("i64", max(1, len(live)))
    for number, value in enumerate(live):
        b.store(value, b.gep(record, 8 * number, "i8"), 8)
    zero = b.const(I64, 0)
    if module.threads > 1 and tasks != 1:
        module.declare(PARALLEL_FOR, "void", ["ptr", "ptr", "i64", "i64"])
        count = tasks if isinstance(tasks, Value) else b.const(I64, tasks)
        b.call(PARALLEL_FOR, None, [Value(f"@{name}", PTR), record, count, b.const(I64, module.threads)])
        return
    with b.loop(0, tasks, 1, "task") as loop:
        b.call(name, None, [record, loop.index, zero])
