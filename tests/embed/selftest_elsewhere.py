"""The self-test on the machines that `make test-embed` adds to those of test_selftest.py; float64 on those without
instructions for it, with the compiler's run-time library."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.errors import BackendError
from graphc_llvm.executable import runnable_target
from tests.embed.targets_cases import draw, make
from tests.embed.targets_check import compare, undefined_symbols
from tests.embed.targets_driver import read_output, source
from tests.embed.targets_machines import MACHINES, build_and_run
from tests.embed.test_selftest import NOISY, check_selftest

WITHOUT_DOUBLES = ["cortex-m4", "cortex-m7-single"]
ELSEWHERE = [name for name in MACHINES if name != "aarch64"]


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize("machine", ELSEWHERE)
def test_rounding_is_no_mistake(machine, name, tmp_path):
    if machine.startswith("x86-64"):
        try:
            runnable_target(machine)
        except BackendError as error:
            pytest.skip(str(error))  # which says what this processor lacks
    check_selftest(machine, name, tmp_path, libraries=["-lgcc"] if machine in WITHOUT_DOUBLES else [])


@pytest.mark.parametrize("machine", WITHOUT_DOUBLES)
def test_float64_by_the_run_time_library(machine, tmp_path):
    x, y = gc.input("x", (6, 5), dtype="float64"), gc.input("y", (5, 4))
    outputs = [x @ gc.astype(y, "float64"), gc.exp(x), gc.astype(100 * x, "int64"), gc.floor(x), gc.sqrt(gc.abs(x))]
    inputs = [draw(6, 5).astype("float64"), draw(5, 4)]
    case = make(gc.compile([x, y], outputs, backend="llvm", name="wide"), inputs)
    where = MACHINES[machine]
    exported = case.function.export(tmp_path / "model", target=where.target, cpu=where.cpu, formats=[])
    needed = undefined_symbols(where, tmp_path)
    said = (tmp_path / "model.h").read_text(encoding="ascii").partition("*/")[0]
    assert needed and sorted(needed) == sorted(word for word in said.split() if word.startswith("__") or word == "sqrt")
    assert all(name in exported.notes[0] for name in needed)
    groups = {"inputs": inputs, "params": [], "outputs": [np.zeros_like(one) for one in case.outputs]}
    driver = source(groups, ["outputs"], where.is_bare, painted=1024)
    printed = read_output(build_and_run(where, tmp_path, driver, ["model.o", "-lm", "-lc", "-lgcc"]))
    assert not any(printed["selftest"]) and not any(printed["status"])
    assert compare(case, printed) < 1e-14
