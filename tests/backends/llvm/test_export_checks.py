"""Every wrong argument of an exported function returns its named error, and nothing is written then."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc_llvm.export_interface import status_code
from tests.backends.llvm.export_support import Raw, aligned, perceptron

ARGUMENTS = ("x", "t", "w", "m", "loss", "y")
IS_WRITTEN = {"w", "m", "loss", "y"}


class Case:
    """A step with two inputs, two params that it updates and one that it reads, and two outputs, in memory of its own
    for each; `status` calls it, and sees to it that a call that is refused writes nothing."""

    def __init__(self, folder):
        x, t = gc.input("x", (4, 3)), gc.input("t", (4,), dtype="int64")
        w, m = gc.param("w", (3, 5), init=0.5), gc.param("m", (3, 5), init=0.25)
        scale = gc.param("scale", (), init=2.0)
        loss = gc.nn.cross_entropy(scale * (x @ w), t)
        (slope,) = gc.grad(loss, [w])
        updates = {m: 0.5 * m + slope, w: w - 0.1 * (0.5 * m + slope)}
        self.step = gc.compile([x, t], [loss.named("loss"), (x @ w).named("y")], updates, backend="llvm", name="step")
        self.order = [found.name for found in self.step.targets]
        exported = self.step.export(folder / "step", formats=["so"])
        header = next(path for path in exported if path.endswith(".h"))
        with open(header) as file:
            text = file.read()
        fields = text[text.index("typedef struct step_params") : text.index("} step_params")]
        self.params = sorted(("w", "m", "scale"), key=lambda name: fields.index(f"*{name};"))
        self.raw = Raw(folder, "step")
        rng = np.random.default_rng(0)
        self.arrays = {
            "x": rng.normal(size=(4, 3)).astype("float32"),
            "t": np.array([0, 4, 2, 1]),
            "w": np.full((3, 5), 0.5, "float32"),
            "m": np.full((3, 5), 0.25, "float32"),
            "scale": np.array(2.0, "float32"),
            "loss": np.full((), -7, "float32"),
            "y": np.full((4, 5), -7, "float32"),
        }
        self.workspace = aligned(self.raw.workspace_bytes)

    def status(self, without=None, size=None, **addresses):
        """The status of a call where some arguments have other addresses; `without` names a null struct."""
        at = {name: array.ctypes.data for name, array in self.arrays.items()}
        at.update({"workspace": self.workspace.ctypes.data, **addresses})
        groups = [[at["x"], at["t"]], [at[name] for name in self.params], [at["loss"], at["y"]]]
        names = ("inputs", "params", "outputs")
        given = [None if name == without else group for name, group in zip(names, groups, strict=True)]
        before = [array.copy() for array in (*self.arrays.values(), self.workspace)]
        status = self.raw.run(*given, at["workspace"], len(self.workspace) if size is None else size)
        if status not in (0, status_code("BAD_INDEX")):
            for old, new in zip(before, (*self.arrays.values(), self.workspace), strict=True):
                np.testing.assert_array_equal(old, new)
        return status

    def address(self, name, offset=0):
        return (self.workspace if name == "workspace" else self.arrays[name]).ctypes.data + offset


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("step"))


@pytest.mark.parametrize("group", ["inputs", "params", "outputs"])
def test_null_structs(case, group):
    assert case.status(without=group) == status_code("NULL")


@pytest.mark.parametrize("name", [*ARGUMENTS, "scale"])
def test_null_and_misaligned_pointers(case, name):
    assert case.status(**{name: None}) == status_code("NULL")
    assert case.status(**{name: case.address(name) + 2}) == status_code("MISALIGNED")
    if name == "t":  # eight bytes
        assert case.status(t=case.address("t") + 4) == status_code("MISALIGNED")


@pytest.mark.parametrize("one", ARGUMENTS)
@pytest.mark.parametrize("other", ARGUMENTS)
def test_overlaps_of_what_is_written(case, one, other):
    if one == other or not {one, other} & IS_WRITTEN:
        return
    last = case.arrays[other].nbytes - 4
    assert case.status(**{one: case.address(other)}) == status_code("OVERLAP")
    if last % case.arrays[one].itemsize == 0:
        assert case.status(**{one: case.address(other, last)}) == status_code("OVERLAP")


def test_what_is_only_read_may_overlap(case):
    arrays = {name: array.copy() for name, array in case.arrays.items()}
    assert case.status(scale=case.address("x")) == 0
    for name, array in arrays.items():
        case.arrays[name][...] = array


def test_arrays_may_touch(case):
    memory = aligned(64 * 4)
    arrays = {name: array.copy() for name, array in case.arrays.items()}
    start = memory.ctypes.data
    assert case.status(w=start, m=start + 60, y=start + 120) == 0  # of 60, 60 and 80 bytes
    assert case.status(y=start, m=start + 80, w=start + 140) == 0
    for name, array in arrays.items():
        case.arrays[name][...] = array


def test_workspaces(case):
    assert case.status(workspace=None) == status_code("WORKSPACE_NULL")
    assert case.status(size=len(case.workspace) - 1) == status_code("WORKSPACE_TOO_SMALL")
    assert case.status(size=0) == status_code("WORKSPACE_TOO_SMALL")
    assert case.status(workspace=case.address("workspace") + 32) == status_code("WORKSPACE_MISALIGNED")
    for name in (*ARGUMENTS, "scale"):
        last = len(case.workspace) - 8
        for offset in (0, last):
            assert case.status(**{name: case.address("workspace", offset)}) == status_code("WORKSPACE_OVERLAP"), name


def test_labels_out_of_range_change_no_param(case):
    for bad in (-1, 5, 2**40):
        kept = {name: array.copy() for name, array in case.arrays.items()}
        case.arrays["t"][1] = bad
        assert case.status() == status_code("BAD_INDEX")
        case.arrays["t"][1] = kept["t"][1]
        for name, array in kept.items():
            np.testing.assert_array_equal(array, case.arrays[name], name)


def test_a_right_call_gives_what_python_gives(case):
    assert case.status() == 0
    loss, y = case.step(case.arrays["x"], case.arrays["t"])
    assert loss.tobytes() == case.arrays["loss"].tobytes() and y.tobytes() == case.arrays["y"].tobytes()
    for variable in case.step.targets:
        assert variable.value.tobytes() == case.arrays[variable.name].tobytes()


def test_many_arrays_are_compared_in_a_loop(tmp_path):
    """More pairs than are compared in a row: each two of twelve outputs, and each with the one input."""
    x = gc.input("x", (3,))
    outputs = [(x * float(k)).named(f"y{k}") for k in range(1, 13)]
    gc.compile([x], outputs, backend="llvm", name="many").export(tmp_path / "many", formats=["so"])
    raw = Raw(tmp_path, "many")
    workspace = aligned(raw.workspace_bytes)
    memory = np.arange(4 * 13, dtype="float32").reshape(13, 4)

    def status(places):
        given = [memory[0].ctypes.data], None, places, workspace.ctypes.data, len(workspace)
        return raw.run(*given)

    touching = [memory.ctypes.data + 12 * k for k in range(1, 13)]
    assert status(touching) == 0 and status(touching[::-1]) == 0
    memory[...] = np.arange(4 * 13).reshape(13, 4)
    places = [row.ctypes.data for row in memory[1:]]
    assert status(places) == 0
    np.testing.assert_array_equal(memory[1:, :3], np.outer(np.arange(1, 13), [0, 1, 2]))
    for i in range(12):
        for place in (*(p for p in places if p != places[i]), memory[0].ctypes.data):
            for offset in (-8, 0, 8):  # x y z . x y z: within three elements of another
                changed = [*places[:i], place + offset, *places[i + 1 :]]
                assert status(changed) == status_code("OVERLAP"), (i, offset)
        changed = [*places[:i], workspace.ctypes.data, *places[i + 1 :]]
        assert status(changed) == status_code("WORKSPACE_OVERLAP")


def test_a_function_without_tensors_of_a_group_takes_null(tmp_path):
    predict = perceptron(batch=1)
    predict.export(tmp_path / "digits", formats=["so"])
    raw = Raw(tmp_path, "digits")
    workspace, y = aligned(raw.workspace_bytes), np.zeros((1, 10), "float32")
    x = np.ones((1, 64), "float32")
    given = [x.ctypes.data], None, [y.ctypes.data], workspace.ctypes.data, len(workspace)
    assert raw.run(*given) == 0 and y.tobytes() == predict(x).tobytes()
