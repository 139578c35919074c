"""Exported code on the machines that `make test-embed` adds to those of test_targets.py: the higher levels of x86-64,
32-bit Arm, Cortex-M4 and M7 without an operating system, RISC-V."""

from __future__ import annotations

import pytest

from graphc.errors import BackendError
from graphc_llvm.executable import runnable_target
from tests.backends.llvm.test_export_threads import Exported, on_another_processor
from tests.embed.targets_cases import CASES, case
from tests.embed.targets_check import check, undefined_symbols
from tests.embed.targets_machines import MACHINES

ELSEWHERE = [name for name in MACHINES if name not in ("x86-64", "aarch64")]
# "decode_save_opc: Assertion `ctx->insn_start != NULL' failed", in QEMU 7.2 (Debian 12): the emulator, not the code.
ENDS_QEMU = {("riscv64-v", "elementwise")}
MOST_STACK = 2048  # bytes on a Cortex-M, of the cases here


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("machine", ELSEWHERE)
def test_results_agree(machine, name, tmp_path):
    if (machine, name) in ENDS_QEMU:
        pytest.skip("QEMU 7.2 fails an assertion of its own on this code")  # quoted above; the others agree
    if machine.startswith("x86-64"):
        try:
            runnable_target(machine)
        except BackendError as error:
            pytest.skip(str(error))  # which says what this processor lacks
    _, stack = check(case(name), MACHINES[machine], tmp_path)
    assert undefined_symbols(MACHINES[machine], tmp_path) == []
    if MACHINES[machine].is_bare:
        assert stack <= MOST_STACK


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("shared"))


@pytest.mark.parametrize("machine", ["aarch64", "armv7", "armv7-cortex-a7", "riscv64", "riscv64-v"])
def test_threads(shared, machine, tmp_path):
    on_another_processor(shared, machine, tmp_path, ["bits", "cycles", "callers"])
