"""General loops at sizes where threads share them: the values, and the same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc as gc
from graphc_llvm import flat, loops, nest
from graphc_llvm.target import host_target

THREADS = (1, 2, 3, 4)
Array = np.ndarray


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "TASK_NANOSECONDS", 50.0)  # so that small shapes are shared, too


def computed(build: Callable[..., gc.Tensor | list[gc.Tensor]], *arrays: Array) -> list[Array]:
    """The results in native code, the same bits for every number of threads; close to those of a wider dtype."""
    def compiled(backend: str, threads: int, given: list[Array]) -> list[Array]:
        inputs = [gc.input(f"x{n}", a.shape, dtype=a.dtype.name) for n, a in enumerate(given)]
        made = build(*inputs)
        outputs = made if isinstance(made, list) else [made]
        return list(gc.compile(inputs, outputs, backend=backend, threads=threads)(*given))

    found = [compiled("llvm", threads, list(arrays)) for threads in THREADS]
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert one.tobytes() == other.tobytes()
    wide = [a.astype("float64") if a.dtype == np.float32 else a for a in arrays]
    for one, exact in zip(found[0], compiled("numpy", 1, wide), strict=True):
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, exact, rtol=3e-5, atol=3e-5 * max(1.0, float(np.abs(exact).max())))
        else:
            np.testing.assert_array_equal(one, exact)
    return found[0]


def normal(*shape: int, dtype: str = "float32") -> Array:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype)


SIZES = [1, 15, 16, 17, 63, 64, 65, 1000, 1023, 4099]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_map_and_its_tail(size, dtype):
    computed(lambda x: [gc.tanh(x) * 2 + x, x > 0], normal(size, dtype=dtype))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reductions_of_everything_in_parts(size, dtype):
    x = normal(size, dtype=dtype) / 8 + 1
    computed(lambda x: [gc.sum(x * x), gc.max(x), gc.min(x), gc.argmax(x), gc.argmin(x), gc.prod(x)], x)


def test_reductions_of_integers_and_bools():
    x = np.random.default_rng(0).integers(-9, 9, 3001)
    computed(lambda x: [gc.sum(x), gc.max(x), gc.min(x), gc.any(x > 8), gc.all(x < 9), gc.sum(x > 0)], x)


@pytest.mark.parametrize("place", [0, 700, 2999])
def test_nan_wins_in_any_part(place):
    x = normal(3000)
    x[place] = np.nan
    for result in computed(lambda x: [gc.max(x), gc.min(x), gc.sum(x)], x):
        assert np.isnan(result)


@pytest.mark.parametrize("shape", [(300, 3), (3, 300), (40, 5, 7), (2000, 2)])
@pytest.mark.parametrize("dtype", ["float32", "int64", "int32"])
def test_the_first_of_equal_extremes_over_several_axes(shape, dtype):
    numbers = np.random.default_rng(0).integers(-3, 4, shape).astype(dtype)
    found = computed(lambda x: [gc.argmax(x), gc.argmin(x)], numbers)
    assert found == [numbers.argmax(), numbers.argmin()]


@pytest.mark.parametrize("size", [64, 1024, 1025, 3000, 4099])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chains_of_functions_in_stages(size, dtype):
    def build(x, y):
        chain = gc.sin(gc.exp(gc.cos(x * 2) - 1) + y)
        return [chain * x, gc.sum(chain * gc.cos(gc.exp(gc.cos(x * 2) - 1) + y)), gc.max(chain)]

    computed(build, normal(size, dtype=dtype), normal(size + 1, dtype=dtype)[1:])


def test_stages_are_there_and_do_not_change_a_bit(monkeypatch):
    x = normal(5000)

    def results() -> list[Array]:
        return computed(lambda x: gc.log(1 + gc.exp(gc.sin(x))) * x, x)

    cuts = []
    monkeypatch.setattr(nest, "cut", lambda found: cuts.append(flat.cut(found)) or cuts[-1])
    staged = results()
    assert any(cut is not None and len(cut.stages) > 1 for cut in cuts)
    monkeypatch.setattr(nest, "cut", lambda found: None)
    assert results()[0].tobytes() == staged[0].tobytes()


@pytest.mark.parametrize("shape", [(37, 5), (5, 300), (1, 64, 9), (3, 1, 7, 40), (130, 1)])
def test_rows_are_shared(shape):
    x = normal(*shape)
    computed(lambda x: [gc.softmax(x, axis=-1), gc.log_softmax(x, axis=-1), gc.mean(x, axis=-1)], x)
    computed(lambda x: [gc.sum(x, axis=0), gc.max(x, axis=0), gc.argmax(x, axis=0)], x)


def norm_loss(x: gc.Tensor, g: gc.Tensor) -> gc.Tensor:
    y = (x - gc.mean(x, axis=-1, keepdims=True)) / gc.sqrt(gc.var(x, axis=-1, keepdims=True) + 1e-5)
    return gc.sum(gc.log_softmax(y * g, axis=-1) ** 2)


def test_layer_norm_and_its_gradients():
    computed(lambda x, g: [norm_loss(x, g), *gc.grad(norm_loss(x, g), [x, g])], normal(48, 70), normal(70))


@pytest.mark.parametrize("window, stride", [(2, 2), (3, 2), (3, 3), (4, 4), (2, 1), (5, 5)])
@pytest.mark.parametrize("size", [9, 14, 33])
def test_pooling_and_its_gradient(window, stride, size):
    def build(x):
        y = gc.max_pool2d(gc.relu(x), window, stride=stride)
        return [y, gc.grad(gc.sum(y * y * 0.5), x)]

    computed(build, normal(3, 5, size, size + 2))


@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_slices_with_steps_are_read_and_written_in_rows(step, fenced):
    x = fenced(normal(7, 41), at_end=True)
    computed(lambda x: [x[:, ::step] * 2, x[:, 1::step] + 1, gc.grad(gc.sum(x[:, ::step] ** 2), x)], x)
    computed(lambda x: x[:, ::step] * 2, fenced(normal(7, 41), at_end=False))


def test_several_registers_for_short_sums():
    target = host_target()
    assert nest.WIDE > 1 and target.lanes("f32") >= 4
    computed(lambda x: gc.sum(x, axis=1), normal(20, 64 * 16))
    computed(lambda x: gc.sum(x, axis=0), normal(200, 256))


@pytest.mark.parametrize("shape", [(20000, 5), (5001, 3), (30000, 2)])
def test_many_short_rows_handed_on_as_whole_arrays(shape):
    computed(lambda x: [gc.softmax(x, axis=-1), gc.grad(gc.sum(gc.log_softmax(x, axis=-1) ** 2), x)], normal(*shape))
