"""Random draws against Random123's known answers, a second implementation, statistics, and across backends."""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import graphc as gc
from graphc.backend import available
from graphc.ir import scalar as sc
from graphc.ir.affine import affine, identity
from graphc.ir.graph import Graph, topological
from graphc.ir.interp import interpret
from graphc.ir.node import Generic, scalar_map
from graphc.lang import threefry
from graphc.lang.tensor import Tensor
from tests.conftest import requires_tool

MANY = 10**6
# key, counter, block: the lines "threefry2x32 20" of the file kat_vectors of Random123
KNOWN_ANSWERS = (
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
)
DRAWS = {
    "uniform": lambda rng, shape: rng.uniform(shape),
    "uniform between": lambda rng, shape: rng.uniform(shape, -1, 3),
    "uniform float64": lambda rng, shape: rng.uniform(shape, dtype="float64"),
    "uniform between float64": lambda rng, shape: rng.uniform(shape, 1, 2, dtype="float64"),
    "bernoulli": lambda rng, shape: rng.bernoulli(shape, 0.3),
    "bernoulli of 0": lambda rng, shape: rng.bernoulli(shape, 0),
    "bernoulli of 1": lambda rng, shape: rng.bernoulli(shape, 1),
    "randint": lambda rng, shape: rng.randint(shape, -3, 7),
    "randint int32": lambda rng, shape: rng.randint(shape, -(2**31), 2**31, dtype="int32"),
    "randint wide": lambda rng, shape: rng.randint(shape, -(2**40), 2**61),
    "normal": lambda rng, shape: rng.normal(shape),
    "normal between": lambda rng, shape: rng.normal(shape, 2, 0.5),
    "normal float64": lambda rng, shape: rng.normal(shape, dtype="float64"),
}
COUNTS = 2**33 + 5  # a counter with something in its high word


def block(key, counter):
    """Threefry-2x32-20 on whole numbers and arrays of them, from the paper, in another shape than ours."""
    mask = 0xFFFFFFFF
    keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = (counter[0] + keys[0]) & mask, (counter[1] + keys[1]) & mask
    for turn in range(20):
        bits = (13, 15, 26, 6, 17, 29, 16, 24)[turn % 8]
        x = (x + y) & mask
        y = ((y << bits | y >> (32 - bits)) & mask) ^ x
        if turn % 4 == 3:
            times = turn // 4 + 1
            x = (x + keys[times % 3]) & mask
            y = (y + keys[(times + 1) % 3] + times) & mask
    return x, y


def words(seed, draw, calls, positions):
    """The two words of each element, by the definition in the docstrings."""
    key = tuple(int(word) for word in np.random.SeedSequence((seed, 1)).generate_state(2, np.uint32))
    key = block(block(key, (draw, 0)), (calls & 0xFFFFFFFF, calls >> 32))
    positions = np.asarray(positions, dtype=np.int64)
    return block(key, (positions & 0xFFFFFFFF, positions >> 32))


def whole53(pair):
    return (pair[0] >> 5) * 2**26 + (pair[1] >> 6)


def evaluated(tensor, **options):
    return gc.evaluate(tensor, {}, **options)


def keys_of(*tensors):
    """How many draws a graph holds: each has a key of its own."""
    return sum(node.dtype == "uint32" for node in topological(tensor.node for tensor in tensors))


# --- Bits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key, counter, expected", KNOWN_ANSWERS)
def test_known_answers(key, counter, expected):
    assert block(key, counter) == expected
    folded = threefry.block(*(tuple(sc.literal(word, "uint32") for word in pair) for pair in (key, counter)))
    assert tuple(word.value for word in folded) == expected
    leaves = [gc.input(f"x{n}", (1,), dtype="int64") for n in range(4)]
    args = [sc.cast(sc.Arg(n, "int64"), "uint32") for n in range(4)]
    computed = [
        Tensor(scalar_map((1,), [leaf.node for leaf in leaves], [identity(1)] * 4, sc.cast(word, "int64")))
        for word in threefry.block((args[0], args[1]), (args[2], args[3]))
    ]
    values = dict(zip(leaves, ([word] for word in key + counter), strict=True))
    for backend in available():
        assert tuple(int(v[0]) for v in gc.evaluate(computed, values, backend=backend)) == expected


def test_numbers_are_those_of_the_definition():
    rng = gc.random.Generator(7)
    draws = [
        rng.uniform((3, 5)),
        rng.uniform((3, 5), dtype="float64"),
        rng.bernoulli((3, 5), 0.3),
        rng.randint((3, 5), -3, 7),
        rng.uniform((3, 5), -1, 3),
        rng.normal((3, 5)),
        rng.normal((3, 5), dtype="float64"),
    ]
    rng.counter.value = COUNTS
    got = gc.evaluate(draws, {})
    every = [[part.reshape(3, 5) for part in words(7, n, COUNTS, np.arange(15))] for n in range(len(draws))]
    np.testing.assert_array_equal(got[0], (every[0][0] >> 8) / 2**24)
    np.testing.assert_array_equal(got[1], whole53(every[1]) / 2**53)
    np.testing.assert_array_equal(got[2], every[2][0] < round(0.3 * 2**32))
    exact = [
        [(int(a) << 32 | int(b)) * 10 >> 64 for a, b in zip(*pair, strict=True)] for pair in zip(*every[3], strict=True)
    ]
    np.testing.assert_array_equal(got[3], np.array(exact) - 3)
    np.testing.assert_array_equal(got[4], ((every[4][0] >> 8) / 2**24 * 4 - 1).astype("float32"))
    u, v = (every[5][0] + 0.5) / 2**32, every[5][1].astype("uint32").astype("int32") / 2**31
    np.testing.assert_allclose(got[5], np.sqrt(-2 * np.log(u)) * np.cos(np.pi * v), rtol=1e-5, atol=1e-6)
    place = np.arange(15).reshape(3, 5)
    key = tuple(int(word) for word in np.random.SeedSequence((7, 1)).generate_state(2, np.uint32))
    key = block(block(key, (6, 0)), (COUNTS & 0xFFFFFFFF, COUNTS >> 32))
    u, v = (whole53(every[6]) + 0.5) / 2**53, whole53(block(key, (place, 1 << 31))) / 2**52 - 1
    np.testing.assert_allclose(got[6], np.sqrt(-2 * np.log(u)) * np.cos(np.pi * v), rtol=1e-12, atol=1e-14)


@pytest.mark.feature("C.dropout")
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 4, 5), (37, 1111)])
def test_same_bits_on_every_backend_and_thread_count(shape):
    rng = gc.random.Generator(3)
    draws = [draw(rng, shape) for draw in DRAWS.values()]
    found = []
    is_small = math.prod(shape) < 100  # for the interpreter; the others are large enough to be shared by threads
    if is_small:
        leaves = {rng.counter.node: np.array(COUNTS)}
        found.append(interpret(Graph(tuple(draw.node for draw in draws)), leaves))
    for backend, threads in [("numpy", 1), *(("llvm", threads) for threads in ((1,) if is_small else (1, 2, 3, 4)))]:
        rng.counter.value = COUNTS
        found.append(gc.compile([], draws, backend=backend, threads=threads)())
        assert int(rng.counter.value) == COUNTS + 1
    for name, draw, *values in zip(DRAWS, draws, *found, strict=True):
        for value in values:
            assert value.dtype == draw.dtype and value.shape == shape
            if not name.startswith("normal"):
                np.testing.assert_array_equal(value, values[0], err_msg=name)
            np.testing.assert_allclose(value, values[0], rtol=1e-5 if draw.dtype == "float32" else 1e-13, atol=1e-6)
        for value in () if is_small else values[2:]:
            np.testing.assert_array_equal(value, values[1], err_msg=name)


@pytest.mark.parametrize("backend", available())
@pytest.mark.parametrize("shape", [(2**34,), ("N",), (2**18, 2**16), ("N", 2**16)])
def test_positions_beyond_32_bits_do_not_repeat(shape, backend):
    """Eight elements of a draw that would fill 16 GiB, around the position 2^32."""
    draw = gc.random.Generator(5).bernoulli(shape).node
    assert isinstance(draw, Generic)
    if len(shape) == 1:
        rows, positions = [affine({0: 1}, 2**32 - 4)], 2**32 - 4 + np.arange(8)
    else:
        rows, positions = [affine({0: 1}, 2**16 - 4), affine({}, 5)], (2**16 - 4 + np.arange(8)) * 2**16 + 5
    near = scalar_map((8,), draw.operands, threefry.reads_of_key(1), sc.move_axes(draw.body, rows, 1))
    np.testing.assert_array_equal(evaluated(Tensor(near), backend=backend), words(5, 0, 0, positions)[0] < 2**31)


def test_beginning_does_not_depend_on_the_size():
    draws = [gc.random.Generator(1).uniform(shape) for shape in [(7,), (1000,), (10, 100), (2, 5, 2)]]
    arrays = [array.reshape(-1) for array in gc.evaluate(draws, {})]
    for array in arrays:
        np.testing.assert_array_equal(array[:7], arrays[0])


def test_symbolic_extents_draw_what_known_ones_do():
    x = gc.input("x", ("N", "M"))
    rng = gc.random.Generator(2)
    step = gc.compile([x], [x + rng.uniform(("N", "M")), rng.bernoulli(("M", 3, "N"), 0.5)], backend="llvm")
    for count, (n, m) in enumerate([(3, 17), (5, 2), (0, 4), (3, 17)]):
        known = gc.random.Generator(2)
        both = [known.uniform((n, m)), known.bernoulli((m, 3, n), 0.5)]
        known.counter.value = count
        for got, want in zip(step(np.zeros((n, m), dtype="float32")), gc.evaluate(both, {}), strict=True):
            np.testing.assert_array_equal(got, want)


LAST = (sc.literal(2**32 - 1, "uint32"),) * 2
FIRST = (sc.literal(0, "uint32"),) * 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "low, high", [(0, 1), (1, 2), (-1, 1), (0, 1.2), (-3, -1), (5, 5), (0, 1.7e-38), (0, 1e-44), (1e6, 1e6 + 0.1)]
)
def test_uniform_stays_below_high(low, high, dtype):
    low, high = (float(np.dtype(dtype).type(value)) for value in (low, high))
    least, greatest = (gc.random._uniform(words, low, high, high - low, dtype).value for words in (FIRST, LAST))
    assert least == low and (greatest < high or greatest == low == high)
    assert greatest == low or (high - greatest) <= (high - low) * 1e-6 + np.spacing(np.dtype(dtype).type(high)) * 2


@given(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**63))
def test_randint_takes_the_upper_half_of_the_product(word, low, count):
    count = min(count, 2**63 - low)
    pair = (sc.literal(word >> 32, "uint32"), sc.literal(word, "uint32"))
    assert gc.random._randint(pair, low, count, "int64").value == low + (word * count >> 64)


@pytest.mark.parametrize(
    "p, word, is_true",
    [
        (0, 0, False),
        (2**-32, 0, True),
        (2**-32, 1, False),
        (0.5, 2**31 - 1, True),
        (0.5, 2**31, False),
        (1 - 2**-40, 2**32 - 2, True),
        (1 - 2**-40, 2**32 - 1, False),
        (1, 2**32 - 1, True),
    ],
)
def test_bernoulli_at_its_threshold(p, word, is_true):
    assert gc.random._bernoulli((sc.literal(word, "uint32"),) * 2, p).value is is_true


# --- Statistics, of fixed seeds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, distribution",
    [
        ("uniform", stats.uniform()),
        ("uniform float64", stats.uniform()),
        ("normal", stats.norm()),
        ("normal between", stats.norm(2, 0.5)),
        ("normal float64", stats.norm()),
    ],
)
def test_distribution(name, distribution):
    values = evaluated(DRAWS[name](gc.random.Generator(1), (MANY,)), backend="llvm").astype("float64")
    assert stats.kstest(values, distribution.cdf).pvalue > 0.01
    tail = distribution.ppf(1e-5), distribution.ppf(1 - 1e-5)
    for count in ((values < tail[0]).sum(), (values > tail[1]).sum()):
        assert 1 <= count <= 25  # of a mean of 10


def test_counts():
    rng = gc.random.Generator(1)
    rolls, odd, coin = gc.evaluate(
        [rng.randint((MANY,), -2, 5), rng.randint((MANY,), 0, 2**40 + 2**38), rng.bernoulli((MANY,), 0.3)],
        {},
        backend="llvm",
    )
    assert stats.chisquare(np.bincount(rolls + 2, minlength=7)).pvalue > 0.01
    assert stats.chisquare(np.bincount(odd * 8 // (2**40 + 2**38), minlength=8)).pvalue > 0.01
    assert stats.chisquare(np.bincount(odd % 5, minlength=5)).pvalue > 0.01
    assert abs(coin.mean() - 0.3) < 3 * math.sqrt(0.21 / MANY)


def test_neighbours_are_independent():
    """Elements side by side, calls and draws one after another, seeds that differ by one: correlation and XOR."""
    first, second = gc.random.Generator(10), gc.random.Generator(11)
    a, b = first.uniform((MANY,)), first.uniform((MANY,))
    step = gc.compile([], [a, b], backend="llvm")
    (a0, b0), (a1, _) = step(), step()
    other = evaluated(second.uniform((MANY,)), backend="llvm")
    for one, two in [(a0[:-1], a0[1:]), (a0[:-4], a0[4:]), (a0, b0), (a0, a1), (a0, other)]:
        assert abs(np.corrcoef(one, two)[0, 1]) < 3.5 / math.sqrt(MANY)
        table = np.histogram2d(one, two, bins=16, range=[[0, 1]] * 2)[0]
        assert stats.chisquare(table.reshape(-1)).pvalue > 1e-3
    bits = (a0 * 2**24).astype(np.int64)[:, None] >> np.arange(24) & 1
    assert (np.abs(bits.mean(axis=0) - 0.5) < 4 * 0.5 / math.sqrt(MANY)).all()


# --- Draws, counters, seeds -----------------------------------------------------------------------------------------


def test_each_call_draws_anew_and_a_counter_resumes():
    rng = gc.random.Generator(4)
    draw = rng.normal((5,))
    step, other = gc.compile([], draw, backend="llvm"), gc.compile([], draw * 2, backend="numpy")
    before = evaluated(draw)
    np.testing.assert_array_equal(evaluated(draw), before)  # nothing has changed
    assert int(rng.counter.value) == 0
    steps = [step() for _ in range(5)]
    assert int(rng.counter.value) == 5 and len({array.tobytes() for array in steps}) == 5
    np.testing.assert_allclose(steps[0], before, rtol=1e-5)
    rng.counter.value = 2
    np.testing.assert_array_equal(step(), steps[2])
    np.testing.assert_allclose(other(), steps[3] * 2, rtol=1e-5)  # one counter for both
    np.testing.assert_array_equal(step(), steps[4])


def test_draw_that_is_used_twice_is_one_draw():
    x = gc.input("x", (50,), dtype="float64")
    draw = gc.random.uniform((50,), seed=0, dtype="float64")
    loss = gc.sum(gc.sin(x * draw) * draw)
    gradient = gc.grad(loss, x)
    assert keys_of(loss, gradient) == 1
    at = np.linspace(-1, 1, 50)
    value, slope = gc.evaluate([draw, gradient], {x: at})
    np.testing.assert_allclose(slope, np.cos(at * value) * value**2, rtol=1e-12)
    assert not evaluated(draw - draw).any()


def test_draws_differ():
    rng = gc.random.Generator(0)
    draws = [rng.uniform((4,)), rng.uniform((4,)), gc.random.uniform((4,)), gc.random.uniform((4,))]
    draws += [gc.random.Generator(name=name).uniform((4,)) for name in ("one", "other")]
    draws += [gc.random.uniform((4,), seed=seed) for seed in (1, (0, 1), (1, 0), 2**70)]
    assert len({evaluated(draw).tobytes() for draw in draws}) == len(draws)
    assert keys_of(*draws) == len(draws)


def test_seeds_repeat(monkeypatch):
    one, two = gc.random.uniform((4,), seed=9), gc.random.uniform((4,), seed=np.int64(9))
    np.testing.assert_array_equal(evaluated(one), evaluated(two))
    assert keys_of(one, two) == 2  # equal, and yet two draws, each with a counter
    runs = []
    for _ in range(2):  # as in two processes
        monkeypatch.setattr(gc.random, "_unseeded", Counter())
        runs.append([evaluated(gc.random.normal((3,))), evaluated(gc.random.Generator(name="a").normal((3,)))])
    np.testing.assert_array_equal(*runs)


def test_draws_inside_a_checkpoint_are_the_same_again():
    x = gc.input("x", (6, 4), dtype="float64")
    w = gc.constant(np.random.default_rng(0).normal(size=(4, 4)))

    def noisy(ck):
        rng = gc.random.Generator(8)

        def part(h):
            h = gc.tanh(h @ w + rng.normal((6, 4), sigma=0.5, dtype="float64"))
            return gc.where(rng.bernoulli((6, 4), 0.6), h, 0) @ w

        h = ck(part, ck(part, x))
        loss = gc.sum(gc.sin(h))
        return gc.compile([x], [loss, gc.grad(loss, x)], backend="llvm")

    plain, again = noisy(lambda f, h: f(h)), noisy(gc.checkpoint)
    assert "again" in str(again.graph) or len(again.program.kernels) > len(plain.program.kernels)
    at = np.random.default_rng(1).normal(size=(6, 4))
    for _ in range(3):
        for one, other in zip(plain(at), again(at), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


def test_exported_step_draws_the_same(tmp_path):
    gcc = requires_tool("gcc")
    x = gc.input("x", (40, 50))
    rng = gc.random.Generator(6)
    outputs = [x + rng.normal((40, 50)), rng.bernoulli((40, 50), 0.3)]
    step = gc.compile([x], outputs, backend="llvm", name="noise")
    step.export(str(tmp_path / "noise"), weights="pass")
    subprocess.run([gcc, "-shared", "noise.o", "-lm", "-o", "noise.so"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "noise.so"))
    library.noise_workspace_bytes.restype = ctypes.c_int64
    size = library.noise_workspace_bytes()
    space = np.zeros(size + 64, dtype=np.uint8)
    start = space.ctypes.data + -space.ctypes.data % 64
    array = np.random.default_rng(0).normal(size=(40, 50)).astype("float32")
    calls = np.zeros((), dtype=np.int64)
    results = [np.empty((40, 50), dtype=output.dtype) for output in outputs]

    def pointers(*arrays):
        return (ctypes.c_void_p * len(arrays))(*(one.ctypes.data for one in arrays))

    for count in range(4):
        arguments = pointers(array), pointers(calls), pointers(*results), ctypes.c_void_p(start), ctypes.c_size_t(size)
        assert library.noise_run(*arguments) == 0
        assert calls == count + 1
        for got, want in zip(results, step(array), strict=True):
            np.testing.assert_array_equal(got, want)
