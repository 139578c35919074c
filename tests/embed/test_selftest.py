"""The self-test passes on other machines, which round differently, where results are rounding alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import graphc as gc
from tests.backends.llvm.test_export_recorded import NOISY
from tests.embed.targets_driver import read_output, source
from tests.embed.targets_machines import MACHINES, build_and_run
from tests.embed.targets_wasm import node


def check_selftest(machine: str, name: str, folder: Path, libraries: Sequence[str] = ()) -> None:
    """Asserts that the self-test of one of NOISY passes there. libraries: what is linked, too."""
    where = MACHINES[machine]
    function = gc.compile(*NOISY[name](), backend="llvm")
    function.export(folder / "model", target=where.target, cpu=where.cpu, formats=[])
    driver = source({"inputs": [], "params": [], "outputs": []}, [], where.is_bare, painted=1024)
    printed = read_output(build_and_run(where, folder, driver, ["model.o", *libraries]))
    assert not any(printed["selftest"]), printed["selftest"]


@pytest.mark.parametrize("name", NOISY)
def test_rounding_is_no_mistake_on_aarch64(name, tmp_path):
    check_selftest("aarch64", name, tmp_path)


@pytest.mark.parametrize("name", NOISY)
def test_rounding_is_no_mistake_in_webassembly(name, tmp_path):
    function = gc.compile(*NOISY[name](), backend="llvm")
    function.export(tmp_path / "model", target="wasm32", formats=["wasm"], loader="javascript")
    node(tmp_path, 'import load from "./model.mjs"; (await load()).selftest();')
