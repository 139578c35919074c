"""Threads of an exported program: a pool of its own, which the caller starts and stops.

    int32_t P_threads_start(int32_t threads);
    void    P_threads_stop(void);

Each object has a pool of its own, rather than one with the others that are linked into the same program: so what is
started for one concerns no other, and objects for different processors, or of different versions of graphc, never share
code. The price is that a program with several of them may have as many times the threads, though those without work
sleep. Before the pool is started, after it is stopped, in the child of a fork and while another caller uses it, a call
runs on its caller alone, and gives the same bits.
"""

from __future__ import annotations

from typing import Final

from graphc.errors import ExportError
from graphc_llvm.emit import I32, I64, Module
from graphc_llvm.export_entry import refuse
from graphc_llvm.export_interface import Interface, status_code
from graphc_llvm.pool_code import MAX_WORKERS, RESIZE, emit_pool, has_threads
from graphc_llvm.target import Target

MOST_THREADS: Final = MAX_WORKERS + 1
FUNCTIONS: Final = ("threads_start", "threads_stop")


def checked_threads(threads: object, target: Target) -> int:
    """The most threads that a call may use. ExportError: it is no such number, or the target has no threads."""
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS:
        raise ExportError(
            f"export: threads is the most that a call may use, a whole number from 1 to {MOST_THREADS}, not {threads!r}"
        )
    if threads > 1 and not has_threads(target):
        raise ExportError(
            f"export: threads={threads} needs POSIX threads, which {target.name} ({target.triple}) has not; "
            "leave threads out"
        )
    return threads


def emit_threads(module: Module, interface: Interface) -> None:
    """The pool, and the two functions that manage it."""
    emit_pool(module, is_own=True)
    b = module.function(f"{interface.prefix}_threads_start", [("threads", I32)], I32)
    (threads,) = b.params
    more = b.sub(threads, 1)
    refuse(b, b.icmp("uge", more, interface.threads), "BAD_THREADS")  # unsigned: what is below 0 is large
    workers = b.zext(more, I64)
    started = b.call(RESIZE, I64, [workers])
    with b.if_(b.icmp("ne", started, workers)):
        b.call(RESIZE, I64, [b.const(I64, 0)])
        b.ret(b.const(I32, status_code("NO_THREADS")))
        b.start_block(b.new_label("unreachable"))
    b.ret(b.const(I32, 0))
    b = module.function(f"{interface.prefix}_threads_stop", [])
    b.call(RESIZE, I64, [b.const(I64, 0)])
    b.ret()
