"""The thread pool: every task once, each thread its own slot, through sleep, fork, signals and exit."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from graphc_llvm import pool, pool_code
from graphc_llvm.emit import I64, PTR, Builder, Module, Value
from graphc_llvm.jit import compile_assembly, compile_object, load
from graphc_llvm.parallel import PARALLEL_FOR, parallel_for
from graphc_llvm.target import host_target, target_for
from tests.backends.llvm import pool_driver
from tests.backends.llvm.pool_driver import CONTEXT, HOST, MOST_TASKS, Counted, Driver, private_pool, thread_ids

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX threads")
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@pytest.fixture(scope="module")
def driver() -> Driver:
    return Driver(pool.pool_library(HOST))


# ---- sections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 7, 16])
@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 8, 61, 1024])
def test_each_task_runs_once(driver, tasks, threads):
    for _ in range(20):
        assert driver.count(tasks, threads) <= set(range(max(threads, 1)))


def test_section_of_a_kernel():
    module = Module(HOST, threads=3)
    b = module.function("scale", [("x", PTR), ("y", PTR), ("n", I64)])
    x, y, n = b.params

    def body(b: Builder, task: Value, slot: Value, live: list[Value]) -> None:
        source, target = live
        b.store(b.mul(b.load(b.gep(source, task, "i64"), I64), 3), b.gep(target, task, "i64"))

    parallel_for(b, "scale_task", n, [x, y], body)
    b.ret()
    library = load(compile_object(module.text(), HOST), libraries=[pool.pool_library(HOST)])
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(library.address("scale"))
    source, target = np.arange(1000), np.zeros(1000, dtype=np.int64)
    call(source.ctypes.data, target.ctypes.data, 1000)
    assert (target == 3 * source).all()


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_run_side_by_side(driver, threads):
    for _ in range(20):
        driver.meet(threads)


def test_fifty_thousand_sections(driver):
    driver.sections(50_000, 3)


def test_slots_stay_below_the_threads_of_the_section():
    with private_pool() as driver:
        for _ in range(20):
            driver.meet(4)  # now all three workers spin
            for _ in range(20):
                assert driver.count(64, 2) <= {0, 1}
                assert driver.count(64, 3) <= {0, 1, 2}


def test_workers_have_a_limit():
    create = Counted("pthread_create")
    with private_pool(pthread_create=create.address) as driver:
        assert driver.count(MOST_TASKS, 1000) <= set(range(pool_code.MAX_WORKERS + 1))
        assert create.calls == pool_code.MAX_WORKERS


def test_workers_are_started_when_needed():
    create = Counted("pthread_create")
    with private_pool(pthread_create=create.address) as driver:
        started = []
        for tasks, threads in ((1, 4), (8, 1), (2, 4), (8, 2), (8, 3), (8, 2), (8, 4)):
            driver.count(tasks, threads)
            started.append(create.calls)
    assert started == [0, 0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("allowed", [0, 1])
def test_threads_that_cannot_be_had(allowed):
    create = Counted("pthread_create", allowed)
    with private_pool(pthread_create=create.address) as driver:
        for _ in range(50):
            assert driver.count(100, 4) <= set(range(allowed + 1))
        assert create.calls == allowed + 1, "it asks again and again"
        driver.count(100, 5)
        assert create.calls == allowed + 2


def test_nested_sections(driver):
    context = np.zeros((6, CONTEXT), dtype=np.int64)
    for _ in range(100):
        context[:] = 0
        driver.run("nest", context, 6, 3)
        assert (context[:, :5] == 1).all() and not context[:, 5:].any()  # each inner slot is 0


def test_concurrent_callers(driver):
    failures = []

    def call() -> None:
        try:
            driver.sections(5000, 3)
        except AssertionError as error:
            failures.append(error)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_sleeping_workers_wake():
    wait = Counted("pthread_cond_wait")
    with private_pool(pthread_cond_wait=wait.address) as driver:
        for _ in range(5):
            before = wait.calls
            driver.meet(3)
            wait.wait(before + 2)


def test_only_invited_workers_are_woken():
    wait, broadcast = Counted("pthread_cond_wait"), Counted("pthread_cond_broadcast")
    with private_pool(pthread_cond_wait=wait.address, pthread_cond_broadcast=broadcast.address) as driver:
        driver.meet(4)
        wait.wait(3)
        needed = []
        for _ in range(20):
            before = broadcast.calls
            for _ in range(50):
                driver.meet(2)
            needed.append(broadcast.calls - before)
        assert min(needed) < 50, "workers 2 and 3 sleep, and are called each time"


@needs_linux
def test_workers_leave_the_processor_of_their_caller():
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("needs two processors")  # with one there is nowhere else for the worker to go
    wait, calls, before = Counted("pthread_cond_wait"), 0, thread_ids()
    with private_pool(pthread_cond_wait=wait.address) as driver:
        driver.meet(3)
        workers = thread_ids() - before
        assert len(workers) == 2
        for cpu in sorted(allowed)[:2]:
            wait.wait(calls + 2)
            calls = wait.calls
            os.sched_setaffinity(0, {cpu})
            try:
                driver.meet(3)
            finally:
                os.sched_setaffinity(0, allowed)
            assert all(os.sched_getaffinity(worker) == allowed - {cpu} for worker in workers)


# ---- the process ---------------------------------------------------------------------------------------------------


def alone(name: str) -> str:
    """Run a function of pool_driver in a process of its own; what it printed."""
    done = subprocess.run(
        [sys.executable, pool_driver.__file__, name], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    "name",
    "forks forks_while_a_section_runs forks_by_multiprocessing exits_while_workers_spin exits_while_workers_sleep "
    "exits_without_workers exits_while_a_daemon_calls closes".split(),
)
def test_process(name):
    alone(name)


@needs_linux
@pytest.mark.parametrize("name", ["workers_block_signals", "joins_before_exit"])
def test_process_on_linux(name):
    alone(name)


def test_interrupt_comes_after_the_section():
    assert alone("interrupts") == "interrupted after 2\n"


def test_importing_costs_no_llvmlite():
    code = "import sys, graphc_llvm.pool; sys.exit('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


# ---- platforms, loading --------------------------------------------------------------------------------------------


def test_there_is_one_pool(driver):
    found = []
    callers = [threading.Thread(target=lambda: found.append(pool.pool_library(HOST))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == [driver.pool] * 4 and pool.pool_library(host_target("generic")) is driver.pool


def test_default_threads(monkeypatch):
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5})
        assert pool.default_threads() == 3
        monkeypatch.delattr(os, "sched_getaffinity")
    assert pool.default_threads() == os.cpu_count()


def test_process_without_threads(monkeypatch):
    monkeypatch.setattr(pool, "_posix_addresses", lambda target: {})
    library = pool._loaded(HOST)
    assert library.symbols == {PARALLEL_FOR}
    assert Driver(library).count(100, 4) == {0}


def pool_text(triple: str, cpu: str, features: str = "") -> tuple[Module, str]:
    module = Module(target_for(triple, cpu, features))
    pool_code.emit_pool(module)
    return module, compile_assembly(module.text(), module.target)


def test_platforms_with_threads():
    _, linux = pool_text("x86_64-unknown-linux-gnu", "x86-64")
    assert "pause" in linux and "sched_getcpu" in linux
    _, arm = pool_text("aarch64-unknown-linux-musl", "generic")
    assert "\tyield" in arm and "sched_getcpu" in arm
    _, apple = pool_text("arm64-apple-macosx13.0.0", "generic")
    assert "\tyield" in apple and "pthread_create" in apple and "affinity" not in apple
    _, risc = pool_text("riscv64-unknown-linux-gnu", "generic-rv64", "+m,+a,+d")
    assert "pthread_create" in risc
    _, small = pool_text("armv7a-unknown-linux-gnueabihf", "cortex-a9", "+neon")
    assert "pthread_create" in small and "ldrexd" in small


@pytest.mark.parametrize(
    "triple, cpu",
    [
        ("x86_64-pc-windows-msvc", "x86-64"),
        ("wasm32-unknown-unknown", "generic"),
        ("aarch64-none-elf", "generic"),
        ("thumbv7em-unknown-none-eabihf", "cortex-m4"),
        ("aarch64-linux-android", "generic"),
    ],
)
def test_platforms_without_threads(triple, cpu):
    module, text = pool_text(triple, cpu)
    assert "pthread" not in text and "graphc_pool" not in text
    assert Driver(load(compile_object(module.text(), HOST))).count(100, 4) == {0}


def test_pool_needs_a_target():
    with pytest.raises(ValueError, match="a module that has a target"):
        pool_code.emit_pool(Module())
