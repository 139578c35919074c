"""Export a case for a target, run it there, compare with this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.conftest import requires_tool
from tests.embed.targets_cases import Array, Case
from tests.embed.targets_driver import read_output, source
from tests.embed.targets_machines import Machine, build_and_run

TOLERANCE = 1e-5  # relative to the largest element: sums are added in another order, and not everywhere is FMA
PAINTED = 32 * 1024  # bytes; no case uses a tenth of it


def check(case: Case, machine: Machine, folder: Path) -> tuple[float, int]:
    """Asserts that the results agree; gives the largest relative error and the bytes of stack that a call took."""
    case.function.export(folder / "model", target=machine.target, cpu=machine.cpu, formats=[])
    outputs = [np.zeros_like(one) for one in case.outputs]
    groups = {"inputs": case.inputs, "params": case.params, "outputs": outputs}
    text = source(groups, ["params", "outputs"], machine.is_bare, PAINTED, case.sizes)
    printed = read_output(build_and_run(machine, folder, text, ["model.o"]))
    assert not any(printed["selftest"]), printed["selftest"]
    assert not any(printed["status"]), printed["status"]
    return compare(case, printed), int.from_bytes(printed["stack"], "little")


def undefined_symbols(machine: Machine, folder: Path) -> list[str]:
    """What model.o needs from elsewhere."""
    nm = requires_tool(machine.compiler[0].removesuffix("gcc") + "nm", f"Debian: {machine.packages}")
    listed = subprocess.run([nm, "-u", "model.o"], cwd=folder, capture_output=True, text=True, check=True)
    return listed.stdout.split()[1::2]


def compare(case: Case, printed: Mapping[str, bytes]) -> float:
    """The largest error of all results, relative to the largest element of the array that it is in."""
    wanted = {f"outputs{number}": array for number, array in enumerate(case.outputs)}
    wanted |= {f"params{number}": array for number, array in enumerate(case.updated)}
    return max(_error(np.frombuffer(printed[name], array.dtype), array.ravel()) for name, array in wanted.items())


def _error(got: Array, wanted: Array) -> float:
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted)
        return 0.0
    finite = np.isfinite(wanted)
    scale = float(np.abs(wanted[finite]).max(initial=0))
    np.testing.assert_allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE * scale)
    return float(np.abs(got[finite] - wanted[finite]).max(initial=0) / scale) if scale else 0.0
