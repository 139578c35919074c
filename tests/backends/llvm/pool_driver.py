"""What the tests of the thread pool run: task functions, pools of their own, and processes that may hang or end.

`python pool_driver.py NAME` calls the function `NAME` of this file.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graphc_llvm import pool
from graphc_llvm.atomics import atomic_load, atomic_store, atomic_update, forever, leave_if
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Value
from graphc_llvm.jit import Library, compile_object, load
from graphc_llvm.parallel import PARALLEL_FOR
from graphc_llvm.pool_code import SHUTDOWN, emit_pool
from graphc_llvm.target import host_target

HOST = host_target()
MOST_TASKS, SLOTS = 1024, 128
CONTEXT = 2 * MOST_TASKS + 1 + SLOTS  # of `count`, in i64
PATIENCE = 20_000_000  # turns, some seconds: for a thread that must come but does not


# ---- tasks ---------------------------------------------------------------------------------------------------------


def emit_tasks(module: Module) -> None:
    """`count`: adds 1 to context[task] and writes its slot to context[MOST_TASKS + task]; counts at [2 MOST_TASKS] how
    often its slot, whose flag is at [2 MOST_TASKS + 1 + slot], was already in use.

    `meet`: waits until context[2] tasks have come together: come at [0], met at [1], slots from [3] on.

    `nest`: a section of 5 `count` tasks, in its own part of the context.
    """
    b = task_function(module, "count")
    context, task, slot = b.params
    flag = b.gep(context, b.add(slot, 2 * MOST_TASKS + 1), "i64")
    was = b.emit(f"atomicrmw xchg ptr {flag.text}, i64 1 acquire", I64)
    atomic_update(b, "add", b.gep(context, 2 * MOST_TASKS, "i64"), was, "monotonic")
    place = b.gep(context, task, "i64")
    b.store(b.add(b.load(place, I64), 1), place)
    b.store(slot, b.gep(context, b.add(task, MOST_TASKS), "i64"))
    atomic_store(b, 0, flag, "release")
    b.ret()

    b = task_function(module, "meet")
    context, task, slot = b.params
    b.store(slot, b.gep(context, b.add(task, 3), "i64"))
    atomic_update(b, "add", context, b.const(I64, 1), "seq_cst")
    expected = b.load(b.gep(context, 2, "i64"), I64)
    with b.loop(0, PATIENCE):
        with b.if_(b.icmp("eq", atomic_load(b, context, "seq_cst"), expected)):
            atomic_update(b, "add", b.gep(context, 1, "i64"), b.const(I64, 1), "monotonic")
            b.ret()
            b.start_block("waiting")
        b.call("sched_yield", I32, [])
    b.ret()

    b = task_function(module, "nest")
    context, task, _ = b.params
    own = b.gep(context, b.mul(task, CONTEXT), "i64")
    b.call(PARALLEL_FOR, None, [Value("@count", PTR), own, b.const(I64, 5), b.const(I64, 4)])
    b.ret()

    b = task_function(module, "hold")  # comes at [0], waits for [1] without end, counts at [2]
    context, _, _ = b.params
    atomic_update(b, "add", context, b.const(I64, 1), "seq_cst")
    with forever(b) as released:
        leave_if(b, b.icmp("ne", atomic_load(b, b.gep(context, 1, "i64"), "acquire"), 0), released)
        b.call("sched_yield", I32, [])
    atomic_update(b, "add", b.gep(context, 2, "i64"), b.const(I64, 1), "monotonic")
    b.ret()

    # `sections(context, n, threads)`: n sections of `count`, with 1 to 37 tasks and 1 to `threads` threads; how many
    # of their tasks were not run exactly once, as the caller sees it at the end of each section.
    b = module.function("sections", [("context", PTR), ("n", I64), ("threads", I64)], I64)
    context, n, threads = b.params
    with b.loop(0, n, carried=[b.const(I64, 0)]) as section:
        tasks = b.add(b.rem(section.index, 37), 1)
        some = b.add(b.rem(section.index, threads), 1)
        b.call(PARALLEL_FOR, None, [Value("@count", PTR), context, tasks, some])
        with b.loop(0, tasks, carried=section.carried) as checked:
            place = b.gep(context, checked.index, "i64")
            wrong = b.zext(b.icmp("ne", b.load(place, I64), 1), I64)
            b.store(b.const(I64, 0), place)
            checked.yield_([b.add(checked.carried[0], wrong)])
        section.yield_(checked.results)
    b.ret(section.results[0])


def task_function(module: Module, name: str) -> Builder:
    return module.function(name, [("context", PTR), ("task", I64), ("slot", I64)])


class Driver:
    """The functions above, bound to a pool."""

    def __init__(self, library: Library) -> None:
        module = Module(HOST, threads=4)
        emit_tasks(module)
        self.pool, self.tasks = library, load(compile_object(module.text(), HOST), libraries=[library])
        void, pointer, number = None, ctypes.c_void_p, ctypes.c_int64
        self._run = ctypes.CFUNCTYPE(void, pointer, pointer, number, number)(library.address(PARALLEL_FOR))
        self._sections = ctypes.CFUNCTYPE(number, pointer, number, number)(self.tasks.address("sections"))

    def run(self, task: str, context: NDArray[np.int64], tasks: int, threads: int) -> None:
        self._run(self.tasks.address(task), context.ctypes.data, tasks, threads)

    def count(self, tasks: int, threads: int) -> set[int]:
        """Run a section of `count`, check it, and give the slots."""
        context = count_context()
        self.run("count", context, tasks, threads)
        assert list(context[:tasks]) == [1] * tasks and not context[tasks:MOST_TASKS].any()
        assert context[2 * MOST_TASKS] == 0, "two threads had one slot"
        return set(context[MOST_TASKS:][:tasks].tolist())

    def meet(self, threads: int) -> None:
        """Every one of `threads` threads takes a task and waits for the others."""
        context = np.zeros(3 + threads, dtype=np.int64)
        context[2] = threads
        self.run("meet", context, threads, threads)
        assert context[1] == threads, f"{context[0]} tasks came, of which {context[1]} saw all {threads}"
        assert sorted(context[3:]) == list(range(threads))

    def sections(self, n: int, threads: int) -> None:
        context = count_context()
        assert self._sections(context.ctypes.data, n, threads) == 0
        assert context[2 * MOST_TASKS] == 0, "two threads had one slot"


def count_context() -> NDArray[np.int64]:
    return np.zeros(CONTEXT, dtype=np.int64)


@contextmanager
def private_pool(**replaced: int) -> Iterator[Driver]:
    """A pool of its own, in which some functions of the C library are at other addresses."""
    module = Module(HOST)
    emit_pool(module)
    symbols = {**pool._posix_addresses(HOST), **replaced}
    library = load(compile_object(module.text(), HOST, passes=("sroa",)), symbols)
    try:
        yield Driver(library)
    finally:
        ctypes.CFUNCTYPE(None)(library.address(SHUTDOWN))()


class Counted:
    """Stands for a function of the C library: counts its calls, and refuses (EAGAIN) those after the first few."""

    TEXT = """
    @calls = global i64 0
    declare i32 @original(ptr, ptr, ptr, ptr)
    define i32 @counted(ptr %a, ptr %b, ptr %c, ptr %d) {
      %before = atomicrmw add ptr @calls, i64 1 seq_cst
      %refused = icmp sge i64 %before, ALLOWED
      br i1 %refused, label %refuse, label %forward
    refuse:
      ret i32 11
    forward:
      %result = call i32 @original(ptr %a, ptr %b, ptr %c, ptr %d)
      ret i32 %result
    }
    """

    def __init__(self, name: str, allowed: int = 2**62) -> None:
        code = compile_object(self.TEXT.replace("ALLOWED", str(allowed)), HOST)
        self.loaded = load(code, {"original": pool._posix_addresses(HOST)[name]})
        self.address = self.loaded.address("counted")

    @property
    def calls(self) -> int:
        return ctypes.c_int64.from_address(self.loaded.address("calls")).value

    def wait(self, calls: int) -> None:
        """Until there were so many calls."""
        for _ in range(5000):
            if self.calls >= calls:
                return
            time.sleep(0.001)  # leaves the processor to the worker that is awaited; the count above decides
        raise AssertionError(f"{self.calls} calls, not {calls}")


def thread_ids() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


# ---- processes -----------------------------------------------------------------------------------------------------


def forks() -> None:
    driver = Driver(pool.pool_library(HOST))
    driver.meet(3)
    child = os.fork()
    driver.meet(3)  # both have workers
    driver.sections(500, 3)
    if child:
        assert os.waitpid(child, 0)[1] == 0
        driver.meet(3)
    # The child ends as a process of its own does, with the handlers of atexit.


def forks_while_a_section_runs() -> None:
    driver = Driver(pool.pool_library(HOST))
    context = np.zeros(3, dtype=np.int64)
    holder = threading.Thread(target=driver.run, args=("hold", context, 2, 2))
    holder.start()
    while context[0] < 2:
        time.sleep(0.001)  # until both threads are in the section; leaves them the processors
    child = os.fork()
    if not child:
        driver.meet(2)  # alone, if the child's pool were still busy
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    context[1] = 1
    holder.join()


def forks_by_multiprocessing() -> None:
    driver = Driver(pool.pool_library(HOST))
    driver.meet(2)
    workers = [multiprocessing.get_context("fork").Process(target=driver.meet, args=(2,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


def interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process starts with SIGINT ignored
    driver = Driver(pool.pool_library(HOST))
    context = np.zeros(3, dtype=np.int64)

    def interrupt() -> None:
        while context[0] < 2:
            time.sleep(0.001)  # until both threads are in the section; leaves them the processors
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # the signal has arrived while the section still runs: otherwise nothing would be shown
        context[1] = 1

    helper = threading.Thread(target=interrupt)
    helper.start()
    try:
        driver.run("hold", context, 2, 2)
        helper.join()
    except KeyboardInterrupt:
        print("interrupted after", context[2])


def workers_block_signals() -> None:
    driver = Driver(pool.pool_library(HOST))
    before = thread_ids()
    driver.meet(3)
    workers = thread_ids() - before
    assert len(workers) == 2
    for worker in (*workers, os.getpid()):
        status = Path(f"/proc/self/task/{worker}/status").read_text()
        blocked = int(status.split("SigBlk:")[1].split()[0], 16)
        assert bool(blocked >> (signal.SIGINT - 1) & 1) == (worker in workers)


def exits_while_workers_spin() -> None:
    Driver(pool.pool_library(HOST)).meet(3)


def exits_while_workers_sleep() -> None:  # asleep on the condition, where exit must wake them to join them
    Driver(pool.pool_library(HOST)).meet(3)
    time.sleep(0.05)  # much longer than a worker spins, 0.1 ms, before it waits for its condition


def exits_without_workers() -> None:
    pool.pool_library(HOST)


def exits_while_a_daemon_calls() -> None:
    driver = Driver(pool.pool_library(HOST))

    def call() -> None:
        while True:
            driver.sections(100, 3)

    threading.Thread(target=call, daemon=True).start()
    time.sleep(0.05)  # so that exit finds the daemon inside of a section, and the workers started


def left_after(before: set[int]) -> int:
    """How many threads are left. The kernel lists a thread for a moment after others could join it; workers that nobody
    joined wait for work for ever."""
    for _ in range(200):
        if not thread_ids() - before:
            break
        time.sleep(0.01)  # the kernel lists threads that were joined for a moment longer
    return len(thread_ids() - before)


def joins_before_exit() -> None:
    before = thread_ids()
    atexit.register(lambda: os._exit(left_after(before)))  # runs after the pool's own
    driver = Driver(pool.pool_library(HOST))
    driver.meet(3)
    assert len(thread_ids() - before) == 2


def closes() -> None:
    driver = Driver(pool.pool_library(HOST))
    driver.meet(3)
    shutdown = ctypes.CFUNCTYPE(None)(driver.pool.address(SHUTDOWN))
    shutdown()
    shutdown()
    assert driver.count(20, 3) == {0}  # nobody starts new workers
    if not os.fork():
        driver.meet(3)  # but a child may
        return
    assert os.wait()[1] == 0


if __name__ == "__main__":
    globals()[sys.argv[1]]()
