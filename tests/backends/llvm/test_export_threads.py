"""Exported code with threads: the bits of Python for any number of them, from many callers, through stops and forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc as gc
from graphc.cli import main
from graphc.errors import ExportError
from tests.backends.llvm.export_support import compiled, loaded, output_of
from tests.conftest import requires_tool
from tests.embed.targets_machines import MACHINES

MAIN = Path(__file__).with_name("export_threads_main.c").read_text()
ROWS = 512
THREADS = 8
FLAGS = ["-std=c99", "-D_DEFAULT_SOURCE", "-pthread"]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="programs read /proc and link with gcc")

# All that the object may need from elsewhere: the C library's threads.
UNDEFINED = set(
    "pthread_atfork pthread_cond_broadcast pthread_cond_destroy pthread_cond_init pthread_cond_wait pthread_create "
    "pthread_getaffinity_np pthread_join pthread_mutex_destroy pthread_mutex_init pthread_mutex_lock "
    "pthread_mutex_unlock pthread_self pthread_setaffinity_np pthread_sigmask sched_getcpu sched_yield "
    "sigfillset".split()
)

# The sanitizer sees the calls of pthread's functions, but not the pool's atomic operations: for it nothing orders the
# end of a section, which wakes threads, before what ends them.
UNSEEN_BY_SANITIZER = "race:graphc_pool_resize\n"

# Neither does Helgrind follow them. To wake workers, a condition is signalled after its mutex was released, which is
# allowed (POSIX, pthread_cond_broadcast), and spares them a wait for the mutex.
UNSEEN_BY_HELGRIND = "".join(
    f"{{\n  {name}\n  Helgrind:{kind}\n  {frames}\n}}\n"
    for name, kind, frames in (
        ("atomic", "Race", "obj:*out"),
        ("atomic_below", "Race", "fun:*\n  obj:*out"),
        ("signal", "Misc", "obj:*\n  fun:graphc_pool_wake"),
    )
)

CLOSE = """
#include "shared.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    int i;
    for (i = 0; i < 20; i++) {
        int status = 1;
        pid_t child;
        void *library = dlopen("./libshared.so", RTLD_NOW), *workspace = NULL;
        int32_t (*start)(int32_t), (*selftest)(void *, size_t);
        void (*stop)(void);
        if (!library) return 2;
        *(void **)&start = dlsym(library, "shared_threads_start");
        *(void **)&stop = dlsym(library, "shared_threads_stop");
        *(void **)&selftest = dlsym(library, "shared_selftest");
        if (posix_memalign(&workspace, 64, SHARED_SELFTEST_BYTES)) return 3;
        if (start(4) || selftest(workspace, SHARED_SELFTEST_BYTES)) return 4;
        stop();
        free(workspace);
        if (dlclose(library) || dlopen("./libshared.so", RTLD_NOW | RTLD_NOLOAD)) return 5;
        child = fork(); /* in the child nothing may be called that was in the library */
        if (!child) _exit(0);
        if (waitpid(child, &status, 0) != child || status) return 6;
    }
    return 0;
}
"""


def function(rows=ROWS, **options):
    """Losses, gradients, sums of rows and of columns of a perceptron: most kernels have sections."""
    x, t = gc.input("x", (rows, 96)), gc.input("t", (rows,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(96, 64, seed=0), gc.nn.ReLU(), gc.nn.Linear(64, 10, seed=1))
    scores = model(x)
    loss = gc.nn.cross_entropy(scores, t)
    outputs = [gc.softmax(scores).named("y"), loss.named("loss"), gc.sum(gc.exp(x)).named("total")]
    outputs += [gc.sum(x, axis=0).named("columns")]
    outputs += [g.named(f"g{number}") for number, g in enumerate(gc.grad(loss, model.parameters()))]
    return gc.compile([x, t], outputs, backend="llvm", name="shared", **options)


class Exported:
    """An export of `function`, its program in C, what that reads and what it must write."""

    def __init__(self, folder, rows=ROWS, **options):
        self.folder = folder
        python = function(rows, **options)
        python.export(folder / "shared", threads=THREADS)
        rng = np.random.default_rng(4)
        x, t = rng.normal(size=(rows, 96)).astype("float32"), rng.integers(0, 10, rows)
        self.given = x.tobytes() + t.tobytes()
        self.bits = b"".join(np.asarray(one).tobytes() for one in python(x, t))

    def program(self, *flags):
        return compiled(self.folder, MAIN, *FLAGS, *flags, objects=["shared.o"])

    def run(self, command, **environment):
        done = subprocess.run(
            command, input=self.given, capture_output=True, timeout=100, cwd=self.folder,
            env={**os.environ, **environment},
        )  # fmt: skip
        assert done.returncode == 0, (done.returncode, done.stderr.decode(errors="replace"))
        return done


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def program(shared):
    return shared.program()


def test_any_number_of_threads_gives_the_bits_of_python(shared, program):
    assert shared.run([program, "bits", "results"]).stdout == shared.bits


@pytest.mark.parametrize("name", ["refused", "cycles", "callers", "forks"])
def test_in_c(shared, program, name):
    shared.run([program, name])


def test_cpp_takes_the_header(shared):
    source = '#include "shared.h"\nint main() { return shared_threads_start(2) || (shared_threads_stop(), 0); }\n'
    output_of([compiled(shared.folder, source, "-pthread", compiler="g++", file="m.cpp", objects=["shared.a"])])


def test_address_sanitizer_finds_nothing(shared):
    checked = shared.program("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DCALLS=3")
    # Not forks: a child waits for ever for a lock of the sanitizer's allocator that another thread held at the fork.
    shared.run([checked, "bits", "cycles", "callers"])


def test_thread_sanitizer_finds_nothing(shared):
    (shared.folder / "unseen").write_text(UNSEEN_BY_SANITIZER)
    checked = shared.program("-fsanitize=thread", "-DUNCOUNTED", "-DCALLS=3")
    shared.run([checked, "bits", "cycles", "callers"], TSAN_OPTIONS="suppressions=unseen halt_on_error=1")


def test_valgrind_finds_no_error_and_no_leak(tmp_path):
    valgrind = requires_tool("valgrind")
    for_valgrind = Exported(tmp_path, 256, cpu="x86-64-v3")  # valgrind knows no AVX-512
    (tmp_path / "unseen").write_text(UNSEEN_BY_HELGRIND)
    checked = for_valgrind.program("-DCALLS=1")
    leaks = ["--leak-check=full", "--show-leak-kinds=all", "--errors-for-leak-kinds=all"]
    for options in (leaks, ["--tool=helgrind", "--history-level=none", "--suppressions=unseen"]):
        done = for_valgrind.run([valgrind, "--error-exitcode=9", *options, checked, "once"])
        assert b"ERROR SUMMARY: 0 errors" in done.stderr, done.stderr.decode()


def test_library_can_be_closed_after_a_stop(shared):
    requires_tool("cc", "it links the shared library")
    flags = ["-std=gnu99", "-Wno-pedantic"]  # ISO C converts no pointer to a function
    closing = compiled(shared.folder, CLOSE, *flags, file="close.c", objects=["-ldl"])
    shared.run([closing])


def test_object_needs_the_threads_of_the_c_library_alone(shared):
    nm = requires_tool("nm")
    for name in ("shared.o", "shared.a"):
        listed = output_of([nm, shared.folder / name]).decode().splitlines()
        symbols = [line.split()[-2:] for line in listed if len(line.split()) > 1]
        assert {name for kind, name in symbols if kind == "U"} == UNDEFINED
        assert [name for kind, name in symbols if kind in "bBdDC"] == ["graphc_pool"], "writable data beside the pool's"
        assert {name for kind, name in symbols if kind.isupper() and kind != "U"} == {
            f"shared_{name}" for name in "run workspace_bytes describe strerror selftest selftest_bytes version "
            "abi_version threads_start threads_stop".split()
        }
    code = output_of([requires_tool("objdump"), "-d", "--no-show-raw-insn", shared.folder / "shared.o"]).decode()
    sections = [line for line in code.splitlines() if "call" in line and "<graphc_parallel_for>" in line]
    assert len(sections) > 5, "the kernels share nothing, and so the other tests show nothing"
    index = output_of([nm, "-s", shared.folder / "shared.a"]).decode()
    assert "shared_threads_start in shared.o" in index and "shared_threads_stop in shared.o" in index


def test_each_object_has_its_own_threads(shared):
    x = gc.input("x", (ROWS, 64))
    other = gc.compile([x], gc.sum(gc.exp(x)), backend="llvm", name="other")
    other.export(shared.folder / "other", threads=2, formats=[])
    source = """
    #include "other.h"
    #include "shared.h"
    #include <stdlib.h>
    static int works(int32_t (*selftest)(void *, size_t), size_t bytes) {
        void *workspace = NULL;
        int status = posix_memalign(&workspace, 64, bytes) || selftest(workspace, bytes);
        free(workspace);
        return !status;
    }
    int main(void) {
        if (shared_threads_start(3) || other_threads_start(3) != OTHER_BAD_THREADS || other_threads_start(2)) return 1;
        if (!works(shared_selftest, SHARED_SELFTEST_BYTES) || !works(other_selftest, OTHER_SELFTEST_BYTES)) return 2;
        shared_threads_stop();
        if (!works(shared_selftest, SHARED_SELFTEST_BYTES) || !works(other_selftest, OTHER_SELFTEST_BYTES)) return 3;
        other_threads_stop();
        return 0;
    }
    """
    output_of([compiled(shared.folder, source, *FLAGS, file="two.c", objects=["shared.o", "other.o"])])


def conv_net():
    x = gc.input("x", (4, 16, 24, 24))
    return [x], [gc.max_pool2d(gc.relu(gc.nn.Conv2d(16, 32, 3, padding=1, seed=0)(x)), 2)], {}


def recurrent():
    x = gc.input("x", (6, 64, 96))
    return [x], [gc.nn.GRU(96, 64, seed=0)(x)[0]], {}


def training_step():
    x, t = gc.input("x", (300, 64)), gc.input("t", (300,), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(64, 128, seed=0), gc.nn.ReLU(), gc.nn.Linear(128, 10, seed=1))
    loss = gc.nn.cross_entropy(model(x), t)
    return [x, t], [loss], gc.optim.Adam(lr=1e-2).updates(loss, model.parameters())


@pytest.mark.parametrize("made", [conv_net, recurrent, training_step])
def test_loader_gives_the_bits_of_python(made, tmp_path):
    inputs, outputs, updates = made()
    python = gc.compile(inputs, outputs, updates, backend="llvm", name=made.__name__)
    module = loaded(python.export(tmp_path / made.__name__, loader="python", threads=3, weights="pass")[-1])
    rng = np.random.default_rng(5)
    given = [
        rng.integers(0, 10, one.shape) if one.dtype == "int64" else rng.normal(size=one.shape).astype("float32")
        for one in inputs
    ]
    params = [np.array(one.value) for one in python._forms.variables]
    assert module.MOST_THREADS == 3
    for count in (1, 2, 3, 1):
        module.threads(count)
        (want,) = python(*given)
        assert np.asarray(module.run(*given, *params)).tobytes() == want.tobytes()
    for mine, variable in zip(params, python._forms.variables, strict=True):
        assert mine.tobytes() == variable.value.tobytes()


def test_loader_starts_threads_that_block_signals(tmp_path):
    module = loaded(function().export(tmp_path / "shared", loader="python", threads=THREADS)[-1])
    before = set(os.listdir("/proc/self/task"))
    for wrong in (0, THREADS + 1, -3):
        with pytest.raises(ValueError, match=f"shared: the number of threads is from 1 to 8, not {wrong}"):
            module.threads(wrong)
    module.threads(3)
    started = set(os.listdir("/proc/self/task")) - before
    assert len(started) == 2
    for thread in started:
        status = Path(f"/proc/self/task/{thread}/status").read_text()
        assert int(status.split("SigBlk:")[1].split()[0], 16) & 0x3FFF == 0x3FFF & ~(1 << 8)  # all but SIGKILL
    module.selftest()
    module.threads(1)


def test_loader_of_one_thread_knows_of_none(tmp_path):
    x = gc.input("x", (3,))
    path = gc.compile([x], 2 * x, backend="llvm").export(tmp_path / "alone", loader="python")[-1]
    assert "threads(" not in Path(path).read_text() and "threads_" not in (tmp_path / "alone.h").read_text()


@pytest.mark.parametrize("threads", [True, 0, -2, 65, 2.0, "2", None])
def test_numbers_that_there_are_not(threads, tmp_path):
    x = gc.input("x", (3,))
    twice = gc.compile([x], 2 * x, backend="llvm")
    with pytest.raises(ExportError, match=f"whole number from 1 to 64, not {threads!r} .*test_export_threads"):
        twice.export(tmp_path / "twice", threads=threads)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["wasm32", "cortex-m4", "cortex-m7", "x86_64-pc-windows-msvc"])
def test_targets_without_threads(target, tmp_path):
    x = gc.input("x", (3,))
    twice = gc.compile([x], 2 * x, backend="llvm")
    says = r"threads=2 needs POSIX threads, which \S+ \(.*\) has not; leave threads out"
    with pytest.raises(ExportError, match=says):
        twice.export(tmp_path / "twice", target=target, threads=2)
    assert not list(tmp_path.iterdir())


def test_shared_library_with_threads_needs_a_compiler(tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "ld").symlink_to(requires_tool("ld"))
    x = gc.input("x", (3,))
    twice = gc.compile([x], 2 * x, backend="llvm")
    monkeypatch.setenv("PATH", str(tools))
    written = twice.export(tmp_path / "twice", threads=2)
    assert written.left_out == (
        "libtwice.so is left out: it needs a C compiler, and none of cc, gcc, clang is on the PATH",
    )
    with pytest.raises(ExportError, match="it needs a C compiler, and none of cc, gcc, clang is on the PATH"):
        twice.export(tmp_path / "twice", threads=2, formats=["so"])


def test_command_line(tmp_path, capsys):
    (tmp_path / "model.py").write_text(
        'import graphc as gc\nx = gc.input("x", (3,))\ntwice = gc.compile([x], 2 * x, backend="llvm")\n'
    )
    build = ["build", f"{tmp_path}/model.py:twice", "-o", f"{tmp_path}/out", "--formats", "a"]
    assert main([*build, "--threads", "4"]) == 0
    assert "#define TWICE_THREADS 4" in (tmp_path / "out" / "twice.h").read_text()
    capsys.readouterr()
    assert main([*build, "--threads", "65"]) == 1
    assert capsys.readouterr().err == (
        "graphc: export: threads is the most that a call may use, a whole number from 1 to 64, not 65\n"
    )


def test_aarch64(shared, tmp_path):
    on_another_processor(shared, "aarch64", tmp_path, ["once"])
    with pytest.raises(ExportError, match="a shared library for aarch64/generic cannot be linked on this machine"):
        function().export(tmp_path / "shared", target="aarch64-linux", formats=["so"], threads=2)


def on_another_processor(shared, name, folder, tests):
    """Run some tests of the program in an emulator. Neither forks nor limits of memory can be tested there: when a
    process with threads forks, QEMU 7.2 (Debian 12) fails an assertion of its own, and it ignores RLIMIT_AS."""
    machine = MACHINES[name]
    compiler, *flags = machine.compiler
    function().export(folder / "shared", target=machine.target, cpu=machine.cpu, formats=[], threads=THREADS)
    flags += ["-std=c99", "-D_DEFAULT_SOURCE", "-DUNCOUNTED", "-DCALLS=1", "-pthread"]
    program = compiled(folder, MAIN, *flags, compiler=compiler, objects=["shared.o"])
    emulator = requires_tool(machine.emulator[0], f"Debian: {machine.packages}")
    done = shared.run([emulator, *machine.emulator[1:], program, "results", *tests])
    got, want = np.frombuffer(done.stdout, "float32"), np.frombuffer(shared.bits, "float32")
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    listed = output_of([requires_tool(compiler.removesuffix("gcc") + "nm"), "-u", folder / "shared.o"]).decode()
    assert set(listed.split()[1::2]) == UNDEFINED
