"""The thread pool that runs the sections of `graphc_llvm.parallel`: emitted as LLVM IR, linked once per process.

A section is published in one word, the ticket: how many threads may take part, and how many tasks nobody has taken
yet. The caller (slot 0) and the workers (slots 1, 2, ...) take tasks by lowering the ticket with a compare-and-swap,
the last task first; that one the caller keeps from the start. Only after the swap does a worker read the function
and its context: they cannot change before it has reported the task done. So a thread that swaps a ticket which it
read long ago does no harm: if the word is still, or again, the same, then what it says holds.

`pending` counts the tasks that no worker has reported; the section is over when only the caller's own are left. A
worker without work spins for a while, then sets its bit in `sleepers` and waits until the bit is cleared: who
publishes a section clears the bits of the sleepers that are invited to it, and wakes them. Bit before ticket here,
ticket before bits there, in the one order of sequentially consistent operations: no wake-up is lost.

One section runs at a time. A caller that finds the pool busy, from inside a task or on another thread, runs its tasks
alone. Platforms without POSIX threads (Windows, WebAssembly, bare metal), and those of 32 bits, get a
`graphc_parallel_for` that always does.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from typing import Final

from graphc_llvm.atomics import atomic_load, atomic_store, atomic_update, forever, leave_if, pause, swap, variable
from graphc_llvm.cached import Code, cached
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.jit import Library, compile_object, load
from graphc_llvm.parallel import PARALLEL_FOR
from graphc_llvm.target import Target

MAX_WORKERS: Final = 63
"""The most threads beside the caller: `sleepers` has one bit for each slot, the caller's included."""

SHUTDOWN: Final = "graphc_pool_shutdown"
"""`void graphc_pool_shutdown()`: waits for the section that runs, then closes the pool and joins the workers; who calls
later runs alone. From inside a task it would wait for ever."""

RESET: Final = "graphc_pool_reset"
"""`void graphc_pool_reset()`, for the child of a fork, which has no workers: forgets them and any section."""

WORKER_TURNS: Final = 30000
X86_WORKER_TURNS: Final = 3000
"""Turns that a worker spins before it sleeps: some 50 to 150 µs, which is several times what waking it costs, and more
than lies between most sections. x86's pause takes 15 to 45 ns. The yield of AArch64 does nothing on most processors:
there, and where there is no such instruction, a turn is a few cycles (an estimate; not measured)."""

CALLER_SHARE: Final = 15
"""The caller spins this part of a worker's turns, some 5 µs, for the last tasks; if they take longer, then it offers
its processor to other threads, because a worker that it waits for may have lost its own."""

# The ticket's low bits count tasks, the high ones threads. A section with more tasks would run alone, for years.
_TASK_BITS: Final = 48
_CLOSED: Final = 2  # in `busy`, for ever; 1 is a section that runs
_CPU_SET_BYTES: Final = 128  # cpu_set_t in Linux's C libraries: 1024 processors
_POSIX: Final = ("linux", "darwin", "macos", "freebsd")  # whose constants and types are known below
_LINUX_NAMES: Final = ("sched_getcpu", "pthread_self", "pthread_getaffinity_np", "pthread_setaffinity_np")
_POSIX_NAMES: Final = (
    "pthread_create pthread_join pthread_mutex_init pthread_mutex_lock pthread_mutex_unlock pthread_cond_init "
    "pthread_cond_wait pthread_cond_broadcast pthread_sigmask sigfillset sched_yield"
).split()

_STATE: Final = "graphc_pool"
_RUN_TASKS: Final = "graphc_pool_run_tasks"
_WORKER: Final = "graphc_pool_worker"
_WAKE: Final = "graphc_pool_wake"
_MAKE_WAY: Final = "graphc_pool_make_way"
_START: Final = "graphc_pool_start"


def _field(offset: int) -> Value:
    return Value(f"getelementptr (i8, ptr @{_STATE}, i64 {offset})", PTR)


# The state. What different threads write at different times stands two cache lines apart, because processors fetch
# lines in pairs. First, in one line, all that a section needs; then what only callers touch; then what changes when a
# worker falls asleep or is woken. 64 bytes hold a mutex, or a condition, of every 64-bit platform.
_TICKET, _PENDING, _FUNCTION, _CONTEXT = (_field(offset) for offset in (0, 8, 16, 24))
_BUSY, _ASKED, _WORKERS, _AVOIDED, _FORK_HANDLED = (_field(offset) for offset in (128, 136, 144, 152, 160))
_SLEEPERS, _STOP = _field(256), _field(264)
_MUTEX, _CONDITION = _field(384), _field(448)
_ALLOWED = _field(512)
_THREADS = _field(512 + _CPU_SET_BYTES)  # pthread_t by slot
_STATE_BYTES: Final = 512 + _CPU_SET_BYTES + 8 * (MAX_WORKERS + 1)
_NULL = Value("null", PTR)


# ---- the library ---------------------------------------------------------------------------------------------------


def default_threads() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_loading = threading.Lock()
_pools: Final[dict[str, Library]] = {}  # by triple, so there is one; for ever, because workers run in it


def pool_library(target: Target) -> Library:
    """The process's one pool, which defines `graphc_parallel_for`; `target` must be of this machine.

    Loaded at the first call, from the disk cache if it is there. A forked child starts without workers, and gets its
    own when a section needs them; at exit the workers are joined. Where the process has no POSIX threads, sections run
    on their caller alone.
    """
    with _loading:
        if target.triple not in _pools:
            _pools[target.triple] = _loaded(target)
        return _pools[target.triple]


def _loaded(target: Target) -> Library:
    symbols = _posix_addresses(target) if _has_threads(target) else {}

    def compiled() -> Code:
        module = Module(target)
        if symbols:
            emit_pool(module)
        else:
            _emit_alone(module, "")
        return Code(compile_object(module.text(), target, passes=("sroa",)), {})

    what = ("pool", target, bool(symbols))
    library = cached(what, "thread pool", compiled, lambda code: load(code.object_bytes, symbols))
    if not symbols:
        return library
    reset, shutdown = (ctypes.CFUNCTYPE(None)(library.address(name)) for name in (RESET, SHUTDOWN))
    os.register_at_fork(after_in_child=reset)
    atexit.register(shutdown)
    return library


def _posix_addresses(target: Target) -> dict[str, int]:
    """The addresses of what the pool calls; none when the process lacks one of them."""
    names = [*_POSIX_NAMES, *(_LINUX_NAMES if _is_linux(target) else ())]
    process = ctypes.CDLL(None)
    try:
        functions = {name: getattr(process, name) for name in names}
    except AttributeError:
        return {}
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in functions.items()}


def _has_threads(target: Target) -> bool:
    """Whether the code below fits: one of these systems, and 64 bits in pthread_t and size_t."""
    triple = target.triple
    if "android" in triple:  # Linux, but its C library sets no thread's affinity
        return False
    return "64" in triple.split("-")[0] and any(system in triple for system in _POSIX)


def _is_linux(target: Target) -> bool:
    return "linux" in target.triple


def _worker_turns(target: Target) -> int:
    return X86_WORKER_TURNS if target.triple.startswith("x86_64") else WORKER_TURNS


def _call_task(b: Builder, function: Value, context: Value, task: Value, slot: Value) -> None:
    b.lines.append(f"  call void {function.text}(ptr {context.text}, i64 {task.text}, i64 {slot.text})")


# ---- the code ------------------------------------------------------------------------------------------------------


def emit_pool(module: Module, linkage: str = "") -> None:
    """Emit `graphc_parallel_for`, SHUTDOWN, RESET and what they need.

    With a `linkage` (`linkonce_odr hidden`) all symbols have it, so that objects linked together share one pool, and
    the first section registers RESET with pthread_atfork. Without one, only these three are visible, and the loader
    must call RESET after a fork: glibc has pthread_atfork for its linker alone. ValueError when the module has no
    target: the code depends on the platform.
    """
    target, inner = module.target, linkage or "internal"
    if target is None:
        raise ValueError("the thread pool can be emitted only into a module that has a target")
    if not _has_threads(target):
        _emit_alone(module, linkage)
        return
    # A Module has constants only: it is told of the one variable as text.
    module.define_state(_STATE, _STATE_BYTES, inner)
    _emit_parallel_for(module, target, linkage)
    _emit_run_tasks(module, inner)
    _emit_worker(module, target, inner)
    _emit_wake(module, target, inner)
    _emit_start(module, target, inner, stands_alone=bool(linkage))
    _emit_shutdown(module, linkage)
    b = module.function(RESET, [], linkage=linkage)
    for field in (_TICKET, _BUSY, _ASKED, _WORKERS, _SLEEPERS, _STOP):
        b.store(b.const(I64, 0), field)
    b.ret()


def _begin_parallel_for(module: Module, linkage: str) -> Builder:
    parameters = [("function", PTR), ("context", PTR), ("tasks", I64), ("threads", I64)]
    return module.function(PARALLEL_FOR, parameters, linkage=linkage)


def _run_alone(b: Builder) -> None:
    function, context, tasks, _ = b.params
    with b.loop(0, tasks) as loop:
        _call_task(b, function, context, loop.index, b.const(I64, 0))
    b.ret()


def _emit_alone(module: Module, linkage: str) -> None:
    _run_alone(_begin_parallel_for(module, linkage))


def _emit_parallel_for(module: Module, target: Target, linkage: str) -> None:
    b = _begin_parallel_for(module, linkage)
    function, context, tasks, threads = b.params
    # Unless 2 <= tasks < 2^48, in one comparison.
    leave_if(b, b.icmp("uge", b.sub(tasks, 2), (1 << _TASK_BITS) - 2), "alone")
    leave_if(b, b.icmp("slt", threads, 2), "alone")
    leave_if(b, b.not_(swap(b, _BUSY, 0, 1)), "alone")

    invited = b.intrinsic("umin", I64, (tasks, b.intrinsic("umin", I64, (threads, MAX_WORKERS + 1))))
    workers = b.sub(invited, 1)
    with b.if_(b.icmp("ugt", workers, b.load(_ASKED, I64))):
        b.call(_START, None, [workers])
    b.store(function, _FUNCTION, 8)
    b.store(context, _CONTEXT, 8)
    atomic_store(b, tasks, _PENDING, "monotonic")
    last = b.sub(tasks, 1)
    atomic_store(b, b.or_(b.shl(invited, _TASK_BITS), last), _TICKET, "seq_cst")
    bits = b.lshr(b.const(I64, -1), b.sub(MAX_WORKERS + 1, invited))
    with b.if_(b.icmp("ne", b.and_(atomic_load(b, _SLEEPERS, "seq_cst"), bits), 0)):
        b.call(_WAKE, None, [bits])

    _call_task(b, function, context, last, b.const(I64, 0))
    own = b.add(b.call(_RUN_TASKS, I64, [b.const(I64, 0)]), 1)
    patience = variable(b)
    b.store(b.const(I64, _worker_turns(target) // CALLER_SHARE), patience)
    with forever(b) as done:
        leave_if(b, b.icmp("eq", atomic_load(b, _PENDING, "acquire"), own), done)
        turns = b.load(patience, I64)
        with b.if_else(b.icmp("ne", turns, 0)) as branch:
            with branch.then():
                b.store(b.sub(turns, 1), patience)
                pause(b, target)
            with branch.otherwise():
                b.call("sched_yield", I32, [])
    atomic_store(b, 0, _BUSY, "release")
    b.ret()
    b.start_block("alone")
    _run_alone(b)


def _may_take(b: Builder, ticket: Value, slot: Value) -> tuple[Value, Value]:
    """(How many tasks the ticket has left, whether there are any and the slot is invited to them.)"""
    left = b.and_(ticket, (1 << _TASK_BITS) - 1)
    return left, b.and_(b.icmp("ne", left, 0), b.icmp("ult", slot, b.lshr(ticket, _TASK_BITS)))


def _emit_run_tasks(module: Module, linkage: str) -> None:
    """`i64 (i64 slot)`: take and run tasks until the section has none left; how many that were."""
    b = module.function(_RUN_TASKS, [("slot", I64)], I64, linkage=linkage)
    (slot,) = b.params
    ran = variable(b)
    b.store(b.const(I64, 0), ran)
    with forever(b) as done:
        ticket = atomic_load(b, _TICKET, "acquire")
        left, is_open = _may_take(b, ticket, slot)
        leave_if(b, b.not_(is_open), done)
        with b.if_(swap(b, _TICKET, ticket, b.sub(ticket, 1))):
            _call_task(b, b.load(_FUNCTION, PTR, 8), b.load(_CONTEXT, PTR, 8), b.sub(left, 1), slot)
            b.store(b.add(b.load(ran, I64), 1), ran)
    b.ret(b.load(ran, I64))


def _emit_worker(module: Module, target: Target, linkage: str) -> None:
    """`ptr (ptr slot)`: a thread's main function. Between two reports the section cannot end, so one is enough."""
    b = module.function(_WORKER, [("argument", PTR)], PTR, linkage=linkage)
    slot = b.emit("ptrtoint ptr %argument to i64", I64)
    bit = b.shl(b.const(I64, 1), slot)
    patience, turns = variable(b), b.const(I64, _worker_turns(target))
    with forever(b) as end:
        b.store(turns, patience)
        with forever(b) as tired:
            ran = b.call(_RUN_TASKS, I64, [slot])
            with b.if_(b.icmp("ne", ran, 0)):
                atomic_update(b, "sub", _PENDING, ran, "release")
                b.store(turns, patience)
            left = b.sub(b.load(patience, I64), 1)
            b.store(left, patience)
            leave_if(b, b.icmp("eq", left, 0), tired)
            pause(b, target)
        b.call("pthread_mutex_lock", I32, [_MUTEX])
        atomic_update(b, "or", _SLEEPERS, bit, "seq_cst")
        _, is_open = _may_take(b, atomic_load(b, _TICKET, "seq_cst"), slot)
        with b.if_(b.not_(is_open)):
            with forever(b) as called:
                leave_if(b, b.icmp("eq", b.and_(atomic_load(b, _SLEEPERS, "monotonic"), bit), 0), called)
                leave_if(b, b.icmp("ne", b.load(_STOP, I64), 0), called)
                b.call("pthread_cond_wait", I32, [_CONDITION, _MUTEX])
        atomic_update(b, "and", _SLEEPERS, b.not_(bit), "monotonic")
        is_stopped = b.icmp("ne", b.load(_STOP, I64), 0)
        b.call("pthread_mutex_unlock", I32, [_MUTEX])
        leave_if(b, is_stopped, end)
    b.ret(_NULL)


def _emit_wake(module: Module, target: Target, linkage: str) -> None:
    """`void (i64 bits)`: wake the sleepers of these slots."""
    b = module.function(_WAKE, [("bits", I64)], linkage=linkage, attributes="cold")
    if _is_linux(target):
        _emit_make_way(module, linkage)
        b.call(_MAKE_WAY, None, [])
    b.call("pthread_mutex_lock", I32, [_MUTEX])
    atomic_update(b, "and", _SLEEPERS, b.not_(b.params[0]), "monotonic")
    b.call("pthread_mutex_unlock", I32, [_MUTEX])
    b.call("pthread_cond_broadcast", I32, [_CONDITION])
    b.ret()


def _emit_make_way(module: Module, linkage: str) -> None:
    """`void ()`: bar the workers from the caller's processor, unless it is the one that they were barred from last.

    Linux wakes many a thread on the processor of its waker, where it waits for the caller, and the caller for it: for
    up to 4 ms. The workers keep to the processors that were allowed to the thread which started the first of them.
    """
    b = module.function(_MAKE_WAY, [], linkage=linkage, attributes="cold")
    here = b.zext(b.call("sched_getcpu", I32, []), I64)  # -1, which means unknown, is then too large
    mark = b.add(here, 1)
    leave_if(b, b.icmp("eq", mark, b.load(_AVOIDED, I64)), "done")
    leave_if(b, b.icmp("uge", here, 8 * _CPU_SET_BYTES), "done")
    b.store(mark, _AVOIDED)
    words = _CPU_SET_BYTES // 8
    others = b.alloca("i64", words, align=8)
    b.store(b.load(_ALLOWED, Type("i64", words)), others)
    word = b.gep(others, b.lshr(here, 6), "i64")
    b.store(b.and_(b.load(word, I64), b.not_(b.shl(b.const(I64, 1), b.and_(here, 63)))), word)
    with b.loop(1, b.add(b.load(_WORKERS, I64), 1)) as slots:
        thread = b.load(b.gep(_THREADS, slots.index, "i64"), I64)
        # It fails when no processor is left, which leaves the worker where it is.
        b.call("pthread_setaffinity_np", I32, [thread, b.const(I64, _CPU_SET_BYTES), others])
    b.jump("done")
    b.start_block("done")
    b.ret()


def _emit_start(module: Module, target: Target, linkage: str, stands_alone: bool) -> None:
    """`void (i64 wanted)`: start workers until there are so many, or until the system gives no more; then it is not
    asked again before a larger section comes. They block all signals: those are for Python's main thread."""
    b = module.function(_START, [("wanted", I64)], linkage=linkage, attributes="cold")
    (wanted,) = b.params
    with b.if_(b.icmp("eq", b.load(_ASKED, I64), 0)):
        b.call("pthread_mutex_init", I32, [_MUTEX, _NULL])
        b.call("pthread_cond_init", I32, [_CONDITION, _NULL])
        if _is_linux(target):
            itself = b.call("pthread_self", I64, [])
            b.call("pthread_getaffinity_np", I32, [itself, b.const(I64, _CPU_SET_BYTES), _ALLOWED])
        if stands_alone:
            with b.if_(b.icmp("eq", b.load(_FORK_HANDLED, I64), 0)):
                b.store(b.const(I64, 1), _FORK_HANDLED)
                b.call("pthread_atfork", I32, [_NULL, _NULL, Value(f"@{RESET}", PTR)])
    b.store(wanted, _ASKED)
    b.store(b.const(I64, 0), _AVOIDED)  # the new ones are barred from nothing
    every, before = b.alloca("i64", 16, align=8), b.alloca("i64", 16, align=8)  # sigset_t: at most 128 bytes
    block, set_mask = (0, 2) if _is_linux(target) else (1, 3)  # SIG_BLOCK and SIG_SETMASK, there and in BSD
    b.call("sigfillset", I32, [every])
    b.call("pthread_sigmask", I32, [b.const(I32, block), every, before])
    with forever(b) as done:
        slot = b.add(b.load(_WORKERS, I64), 1)
        leave_if(b, b.icmp("ugt", slot, wanted), done)
        argument = b.emit(f"inttoptr i64 {slot.text} to ptr", PTR)
        place = b.gep(_THREADS, slot, "i64")
        error = b.call("pthread_create", I32, [place, _NULL, Value(f"@{_WORKER}", PTR), argument])
        leave_if(b, b.icmp("ne", error, 0), done)
        b.store(slot, _WORKERS)
    b.call("pthread_sigmask", I32, [b.const(I32, set_mask), before, _NULL])
    b.ret()


def _emit_shutdown(module: Module, linkage: str) -> None:
    b = module.function(SHUTDOWN, [], linkage=linkage, attributes="cold")
    with forever(b) as mine:
        leave_if(b, b.icmp("eq", atomic_load(b, _BUSY, "acquire"), _CLOSED), "done")
        leave_if(b, swap(b, _BUSY, 0, _CLOSED), mine)
        b.call("sched_yield", I32, [])
    workers = b.load(_WORKERS, I64)
    with b.if_(b.icmp("ne", workers, 0)):
        b.call("pthread_mutex_lock", I32, [_MUTEX])
        b.store(b.const(I64, 1), _STOP)
        b.call("pthread_mutex_unlock", I32, [_MUTEX])
        b.call("pthread_cond_broadcast", I32, [_CONDITION])
        with b.loop(1, b.add(workers, 1)) as slots:
            b.call("pthread_join", I32, [b.load(b.gep(_THREADS, slots.index, "i64"), I64), _NULL])
        b.store(b.const(I64, 0), _WORKERS)
    b.jump("done")
    b.start_block("done")
    b.ret()
