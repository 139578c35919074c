"""The code of the thread pool that runs the sections of `graphc_llvm.parallel`: emitted as LLVM IR, once for a process
(`graphc_llvm.pool`) or once for an exported object (`graphc_llvm.export_threads`).

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
alone. Platforms without POSIX threads (Windows, WebAssembly, bare metal) get a `graphc_parallel_for` that always does.

The pool of a process starts workers when a section asks for more than there are. That of an object has those that its
caller asked for, by RESIZE; a section takes what there is, and the pool is idle while workers come and go.
"""

from __future__ import annotations

from typing import Final

from graphc_llvm.atomics import atomic_load, atomic_store, atomic_update, forever, leave_if, pause, swap, variable
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Type, Value
from graphc_llvm.parallel import PARALLEL_FOR
from graphc_llvm.target import Target

MAX_WORKERS: Final = 63
"""The most threads beside the caller: `sleepers` has one bit for each slot, the caller's included."""

SHUTDOWN: Final = "graphc_pool_shutdown"
"""`void graphc_pool_shutdown()`: waits for the section that runs, then closes the pool and joins the workers; who calls
later runs alone. From inside a task it would wait for ever."""

RESET: Final = "graphc_pool_reset"
"""`void graphc_pool_reset()`, for the child of a fork, which has no workers: forgets them and any section."""

RESIZE: Final = "graphc_pool_resize"
"""`i64 graphc_pool_resize(i64 workers)`, of an object's own pool: waits for the section that runs, joins the workers
and starts so many new ones, unless there are as many; how many there are then: fewer if the system gives no more.
Sections that begin meanwhile run on their callers alone."""

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
_OWN_NAMES: Final = ("pthread_atfork", "pthread_mutex_destroy", "pthread_cond_destroy")  # of an object's own pool

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
# worker falls asleep or is woken. 64 bytes hold a mutex, or a condition, of every platform that is known here.
_TICKET, _PENDING, _FUNCTION, _CONTEXT = (_field(offset) for offset in (0, 8, 16, 24))
_BUSY, _ASKED, _WORKERS, _AVOIDED, _FORK_HANDLED, _LIMIT = (_field(offset) for offset in range(128, 176, 8))
_SLEEPERS, _STOP = _field(256), _field(264)
_MUTEX, _CONDITION = _field(384), _field(448)
_ALLOWED = _field(512)
_THREADS = _field(512 + _CPU_SET_BYTES)  # pthread_t by slot, 8 bytes each
_STATE_BYTES: Final = 512 + _CPU_SET_BYTES + 8 * (MAX_WORKERS + 1)
_NULL = Value("null", PTR)


# ---- platforms -------------------------------------------------------------------------------------------------------


def has_threads(target: Target) -> bool:
    """Whether the code below fits: one of these systems, and a processor that swaps 64 bits at once."""
    triple = target.triple
    if "android" in triple:  # Linux, but its C library sets no thread's affinity
        return False
    architecture = triple.split("-")[0]
    return ("64" in architecture or architecture.startswith("armv7")) and any(name in triple for name in _POSIX)


def needed_functions(target: Target, is_own: bool = False) -> list[str]:
    """The names of the C library's functions that the pool calls."""
    return [*_POSIX_NAMES, *(_LINUX_NAMES if _is_linux(target) else ()), *(_OWN_NAMES if is_own else ())]


def _is_linux(target: Target) -> bool:
    return "linux" in target.triple


def _worker_turns(target: Target) -> int:
    return X86_WORKER_TURNS if target.triple.startswith("x86_64") else WORKER_TURNS


def _word(target: Target) -> Type:
    """C's size_t, and pthread_t where Linux has them."""
    return I64 if target.pointer_bits == 64 else I32


def _call_task(b: Builder, function: Value, context: Value, task: Value, slot: Value) -> None:
    b.lines.append(f"  call void {function.text}(ptr {context.text}, i64 {task.text}, i64 {slot.text})")


# ---- the code ------------------------------------------------------------------------------------------------------


def emit_pool(module: Module, is_own: bool = False) -> None:
    """Emit `graphc_parallel_for`, what it needs, and what manages the workers.

    For a process, SHUTDOWN and RESET, which like it are visible; the loader must call RESET after a fork. For an object
    of its own (`is_own`), RESIZE; nothing is visible, and RESIZE registers RESET with pthread_atfork.
    ValueError when the module has no target: the code depends on the platform.
    """
    target = module.target
    if target is None:
        raise ValueError("the thread pool can be emitted only into a module that has a target")
    if not has_threads(target):
        emit_alone(module)
        return
    # A Module has constants only: it is told of the one variable as text.
    module.define_state(_STATE, _STATE_BYTES, "internal")
    linkage = "internal" if is_own else ""
    _emit_parallel_for(module, target, is_own)
    _emit_run_tasks(module)
    _emit_worker(module, target)
    _emit_wake(module, target)
    _emit_start(module, target)
    if is_own:
        _emit_resize(module, target)
    else:
        _emit_shutdown(module, target)
    b = module.function(RESET, [], linkage=linkage)
    for field in (_TICKET, _BUSY, _ASKED, _WORKERS, _LIMIT, _SLEEPERS, _STOP):
        b.store(b.const(I64, 0), field)
    b.ret()


def _begin_parallel_for(module: Module, linkage: str = "") -> Builder:
    parameters = [("function", PTR), ("context", PTR), ("tasks", I64), ("threads", I64)]
    return module.function(PARALLEL_FOR, parameters, linkage=linkage)


def _run_alone(b: Builder) -> None:
    function, context, tasks, _ = b.params
    with b.loop(0, tasks) as loop:
        _call_task(b, function, context, loop.index, b.const(I64, 0))
    b.ret()


def emit_alone(module: Module) -> None:
    """Emit a `graphc_parallel_for` that runs all tasks on its caller."""
    _run_alone(_begin_parallel_for(module))


def _emit_parallel_for(module: Module, target: Target, is_own: bool) -> None:
    b = _begin_parallel_for(module, "internal" if is_own else "")
    function, context, tasks, threads = b.params
    if is_own:  # what changes until the pool is taken does no harm: the caller takes the tasks that nobody else does
        threads = b.intrinsic("umin", I64, (threads, atomic_load(b, _LIMIT, "monotonic")))
    # Unless 2 <= tasks < 2^48, in one comparison.
    leave_if(b, b.icmp("uge", b.sub(tasks, 2), (1 << _TASK_BITS) - 2), "alone")
    leave_if(b, b.icmp("slt", threads, 2), "alone")
    leave_if(b, b.not_(swap(b, _BUSY, 0, 1)), "alone")

    invited = b.intrinsic("umin", I64, (tasks, b.intrinsic("umin", I64, (threads, MAX_WORKERS + 1))))
    workers = b.sub(invited, 1)
    if not is_own:
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


def _emit_run_tasks(module: Module) -> None:
    """`i64 (i64 slot)`: take and run tasks until the section has none left; how many that were."""
    b = module.function(_RUN_TASKS, [("slot", I64)], I64, linkage="internal")
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


def _emit_worker(module: Module, target: Target) -> None:
    """`ptr (ptr slot)`: a thread's main function. Between two reports the section cannot end, so one is enough."""
    b = module.function(_WORKER, [("argument", PTR)], PTR, linkage="internal")
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


def _emit_wake(module: Module, target: Target) -> None:
    """`void (i64 bits)`: wake the sleepers of these slots."""
    b = module.function(_WAKE, [("bits", I64)], linkage="internal", attributes="cold")
    if _is_linux(target):
        _emit_make_way(module, _word(target))
        b.call(_MAKE_WAY, None, [])
    b.call("pthread_mutex_lock", I32, [_MUTEX])
    atomic_update(b, "and", _SLEEPERS, b.not_(b.params[0]), "monotonic")
    b.call("pthread_mutex_unlock", I32, [_MUTEX])
    b.call("pthread_cond_broadcast", I32, [_CONDITION])
    b.ret()


def _emit_make_way(module: Module, word: Type) -> None:
    """`void ()`: bar the workers from the caller's processor, unless it is the one that they were barred from last.

    Linux wakes many a thread on the processor of its waker, where it waits for the caller, and the caller for it: for
    up to 4 ms. The workers keep to the processors that were allowed to the thread which started the first of them.
    """
    b = module.function(_MAKE_WAY, [], linkage="internal", attributes="cold")
    here = b.zext(b.call("sched_getcpu", I32, []), I64)  # -1, which means unknown, is then too large
    mark = b.add(here, 1)
    leave_if(b, b.icmp("eq", mark, b.load(_AVOIDED, I64)), "done")
    leave_if(b, b.icmp("uge", here, 8 * _CPU_SET_BYTES), "done")
    b.store(mark, _AVOIDED)
    words = _CPU_SET_BYTES // 8
    others = b.alloca("i64", words, align=8)
    b.store(b.load(_ALLOWED, Type("i64", words)), others)
    place = b.gep(others, b.lshr(here, 6), "i64")
    b.store(b.and_(b.load(place, I64), b.not_(b.shl(b.const(I64, 1), b.and_(here, 63)))), place)
    with b.loop(1, b.add(b.load(_WORKERS, I64), 1)) as slots:
        thread = b.load(b.gep(_THREADS, slots.index, "i64"), word)
        # It fails when no processor is left, which leaves the worker where it is.
        b.call("pthread_setaffinity_np", I32, [thread, b.const(word, _CPU_SET_BYTES), others])
    b.jump("done")
    b.start_block("done")
    b.ret()


def _emit_start(module: Module, target: Target) -> None:
    """`void (i64 wanted)`: start workers until there are so many, or until the system gives no more; then it is not
    asked again before a larger section comes. They block all signals: those are for the program's own threads."""
    b = module.function(_START, [("wanted", I64)], linkage="internal", attributes="cold")
    (wanted,), word = b.params, _word(target)
    with b.if_(b.icmp("eq", b.load(_ASKED, I64), 0)):
        b.call("pthread_mutex_init", I32, [_MUTEX, _NULL])
        b.call("pthread_cond_init", I32, [_CONDITION, _NULL])
        if _is_linux(target):
            itself = b.call("pthread_self", word, [])
            b.call("pthread_getaffinity_np", I32, [itself, b.const(word, _CPU_SET_BYTES), _ALLOWED])
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


def _emit_join(b: Builder, target: Target) -> None:
    """End the workers, and wait until they have ended; there is no section that runs."""
    b.call("pthread_mutex_lock", I32, [_MUTEX])
    b.store(b.const(I64, 1), _STOP)
    b.call("pthread_cond_broadcast", I32, [_CONDITION])
    b.call("pthread_mutex_unlock", I32, [_MUTEX])
    with b.loop(1, b.add(b.load(_WORKERS, I64), 1)) as slots:
        b.call("pthread_join", I32, [b.load(b.gep(_THREADS, slots.index, "i64"), _word(target)), _NULL])
    b.store(b.const(I64, 0), _WORKERS)


def _emit_shutdown(module: Module, target: Target) -> None:
    b = module.function(SHUTDOWN, [], attributes="cold")
    with forever(b) as mine:
        leave_if(b, b.icmp("eq", atomic_load(b, _BUSY, "acquire"), _CLOSED), "done")
        leave_if(b, swap(b, _BUSY, 0, _CLOSED), mine)
        b.call("sched_yield", I32, [])
    with b.if_(b.icmp("ne", b.load(_WORKERS, I64), 0)):
        _emit_join(b, target)
    b.jump("done")
    b.start_block("done")
    b.ret()


def _emit_resize(module: Module, target: Target) -> None:
    b = module.function(RESIZE, [("wanted", I64)], I64, linkage="internal", attributes="cold")
    (wanted,) = b.params
    is_handled = b.icmp("ne", atomic_load(b, _FORK_HANDLED, "monotonic"), 0)
    with b.if_(b.not_(b.or_(is_handled, b.icmp("eq", wanted, 0)))):
        # Before the pool is busy, which a child would find it for ever. Two threads may both come here: then a child
        # resets it twice.
        b.call("pthread_atfork", I32, [_NULL, _NULL, Value(f"@{RESET}", PTR)])
        atomic_store(b, 1, _FORK_HANDLED, "monotonic")
    atomic_store(b, 0, _LIMIT, "monotonic")  # or callers that never rest could keep the pool busy for ever
    with forever(b) as mine:
        leave_if(b, swap(b, _BUSY, 0, 1), mine)
        b.call("sched_yield", I32, [])
    asked = b.load(_ASKED, I64)
    with b.if_(b.icmp("ne", asked, wanted)):
        with b.if_(b.icmp("ne", asked, 0)):
            _emit_join(b, target)
            b.call("pthread_cond_destroy", I32, [_CONDITION])
            b.call("pthread_mutex_destroy", I32, [_MUTEX])
            b.store(b.const(I64, 0), _ASKED)
            b.store(b.const(I64, 0), _STOP)
        with b.if_(b.icmp("ne", wanted, 0)):
            b.call(_START, None, [wanted])
    workers = b.load(_WORKERS, I64)
    atomic_store(b, b.add(workers, 1), _LIMIT, "monotonic")
    atomic_store(b, 0, _BUSY, "release")
    b.ret(workers)
