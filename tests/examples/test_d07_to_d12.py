"""The scripts of D7, D8, D9, D11 and D12: their figures, each against NumPy or SciPy, their pictures, what they print.

MNIST, and the packaged digits with five seeds of the convolutional net, are in `full_size_d09.py` (`make mnist`).
"""

from __future__ import annotations

import contextlib
import gzip
import inspect
import io
import re
import sys
from types import SimpleNamespace

import networkx
import numpy as np
import pytest
from scipy import signal

import graphc as gc
from tests.examples.support import EXAMPLES, load, script

ROWS = ["D7", "D8", "D9", "D11", "D12"]
MARKED = [pytest.param(row, marks=pytest.mark.feature(row)) for row in ROWS]
BACKENDS = ["numpy", "llvm"]
PNG = b"\x89PNG\r\n\x1a\n"

# Options with which each takes a moment.
BRIEF = {
    "D7": "--seeds 1 --epochs 1 --hidden 8 --backend numpy",
    "D8": "--backend numpy",
    "D9": "--seeds 1 --epochs 1 --channels 2 2 --batch 128 --backend numpy",
    "D11": "--steps 2 --length 4 --hidden 4 --backend numpy",
    "D12": "--steps 2 --length 3 --backend numpy",
}


def run_as_shown(row, *arguments):
    """What a script returns, after a look at whether its docstring shows what it prints."""
    module, printed = load(row), io.StringIO()
    with contextlib.redirect_stdout(printed):
        results = module.main(list(arguments))
    print(printed.getvalue(), end="")
    shown = [line[4:] for line in module.__doc__.splitlines() if line.startswith("    ")]
    assert "\n".join(shape(printed.getvalue().splitlines())) in "\n".join(shape(shown))
    return results


def shape(lines):
    """Lines with their numbers taken out: last digits differ between machines."""
    return [" ".join(re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "#", line).split()) for line in lines]


def mean_share(results, seeds):
    """The mean share of right guesses, counted here, after a look at what was counted."""
    assert list(results) == seeds
    for seed, result in results.items():
        labels = gc.data.split(*gc.data.digits(), seed=seed)[3]
        np.testing.assert_array_equal(result["labels"], labels)
        assert len(labels) == 359
    return np.mean([np.mean(result["guesses"] == result["labels"]) for result in results.values()])


# --- D7 -------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("D7")
def test_the_perceptron_reads_97_percent_as_the_mean_of_five_seeds():
    assert mean_share(run_as_shown("D7"), seeds=[0, 1, 2, 3, 4]) >= 0.97


@pytest.mark.feature("D7")
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_a_perceptron_has_k_hidden_layers(layers):
    result = load("D7").main(f"--layers {layers} --seeds 1 --epochs 2 --hidden 24 --backend numpy".split())[0]
    weights = [parameter.value for parameter in result["model"].parameters()]
    assert [w.shape for w in weights[::2]] == list(zip([24] * layers + [10], [64, *[24] * layers], strict=False))
    h = result["images"]
    for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        h = np.maximum(h @ w.T + b, 0)
    np.testing.assert_array_equal((h @ weights[-2].T + weights[-1]).argmax(axis=1), result["guesses"])


# --- D8 -------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("D8")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("digit", [0, 1796])
def test_edges_are_correlations_and_move_with_the_image(backend, digit):
    results = run_as_shown("D8", "--backend", backend, "--digit", str(digit))
    across = np.array([[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]])
    for result in results.values():
        expected = [signal.correlate2d(result["image"], one, mode="valid") for one in (across, across.T)]
        np.testing.assert_allclose(result["edges"], expected, atol=1e-6)
        even, odd = result["differences"][2, 4], result["differences"][1, 3]
        assert even == (0, 0) and odd[0] == 0
        assert odd[1] > 1  # pooling by two does not commute with shifts by odd numbers
    np.testing.assert_array_equal(results["digit"]["image"][6:14, 6:14].ravel(), gc.data.digits()[0][digit])
    right_of_corners, middle = results["square"]["edges"][:, :, 6], results["square"]["edges"][:, 8, :]
    assert np.abs(right_of_corners[0]).max() == 0 and np.abs(right_of_corners[1]).max() == 3
    assert np.abs(middle[0]).max() == 3 and np.abs(middle[1]).max() == 0


# --- D9 -------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("D9")
def test_the_convolutional_net_reads_digits():
    results = run_as_shown("D9", "--seed", "1", "--seeds", "1")
    assert mean_share(results, seeds=[1]) >= 0.985  # 99.4%: splits differ, and the mean of five is in full_size_d09.py
    new_images = gc.data.split(*gc.data.digits(as_images=True), seed=1)[2][:40]
    guesses = by_scipy(results[1]["model"], new_images, around=[2, 2]).argmax(axis=1)
    np.testing.assert_array_equal(guesses, results[1]["guesses"][:40])


def by_scipy(model, images, around):
    """The scores of a trained net, from its weights alone."""
    values = {name: array.astype("float64") for name, array in model.state_dict().items()}

    def stage(h, first, around):
        """Convolution, batch norm by its running statistics, ReLU, max pooling."""
        h = np.pad(h, ((0, 0), (0, 0), (around, around), (around, around)))
        weight, bias = values[f"{first}.weight"], values[f"{first}.bias"]
        found = [[signal.correlate(x, one, mode="valid")[0] for one in weight] for x in h]
        h = np.array(found) + bias[:, None, None]
        norm = {name: values[f"{first + 1}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")}
        mean, var, scale, shift = (one[:, None, None] for one in norm.values())
        h = np.maximum((h - mean) / np.sqrt(var + 1e-5) * scale + shift, 0)
        n, channels, rows, columns = h.shape
        return h.reshape(n, channels, rows // 2, 2, columns // 2, 2).max(axis=(3, 5))

    h = stage(stage(images, 0, around[0]), 4, around[1]).reshape(len(images), -1)
    for place in (10, 12):
        h = np.maximum(h @ values[f"{place}.weight"].T + values[f"{place}.bias"], 0)
    return h @ values["14.weight"].T + values["14.bias"]


def enlarged(count, skip):
    """Packaged digits as 28 by 28 bytes, three times as large with two dark pixels around: MNIST's form."""
    images, labels = gc.data.digits(as_images=True)
    large = np.kron(images[skip : skip + count, 0], np.ones((3, 3)))
    return np.pad(np.rint(255 * large), ((0, 0), (2, 2), (2, 2))).astype("uint8"), labels[skip : skip + count]


@pytest.mark.feature("D9")
def test_a_folder_of_mnists_form_is_learnt_from(tmp_path, capsys):
    for name, (images, labels) in {"train": enlarged(640, 0), "t10k": enlarged(100, 640)}.items():
        head = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in images.shape)
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + images.tobytes()))
        head = bytes([0, 0, 8, 1]) + len(labels).to_bytes(4, "big")
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(head + labels.astype("uint8").tobytes())
    options = "--epochs 4 --batch 32 --channels 4 8 --backend numpy".split()
    result = load("D9").main(["--mnist", str(tmp_path), *options])[0]
    images, labels = enlarged(100, 640)
    guesses = by_scipy(result["model"], images[:20, None] / 255, around=[2, 0]).argmax(axis=1)
    np.testing.assert_array_equal(guesses, result["guesses"][:20])
    share = np.mean(result["guesses"] == labels)
    assert share > 0.8
    assert capsys.readouterr().out == f"seed 0: {share:.2%} of 100 new digits after 4 epochs\n"


def test_a_folder_without_mnist_is_refused_in_words(tmp_path, capsys):
    with pytest.raises(SystemExit):
        load("D9").main(["--mnist", str(tmp_path)])
    assert f"--mnist: {tmp_path}: missing train-images-idx3-ubyte" in capsys.readouterr().err


# --- D11 ------------------------------------------------------------------------------------------------------------


def backwards(result, squash):
    """|dL/dh_t| of h_t = f(W h_(t-1)) + x_t by hand, and the length of the gradient in W."""
    W, h = result["W"], result["h0"]
    states, insides = [], []
    for x in result["x"]:
        states.append(h)
        insides.append(W @ h)
        h = (np.tanh(insides[-1]) if squash else insides[-1]) + x
    d, norms, total = result["v"], [], np.zeros_like(W)
    for inside, state in zip(reversed(insides), reversed(states), strict=True):
        norms.append(np.linalg.norm(d))
        d_inside = d * (1 - np.tanh(inside) ** 2) if squash else d
        total += np.outer(d_inside, state)
        d = W.T @ d_inside
    return norms[::-1], np.linalg.norm(total)


@pytest.mark.feature("D11")
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_grow_with_the_spectral_radius_and_clipping_bounds_the_step(backend):
    module = load("D11")
    args = SimpleNamespace(seed=0, clip=3.5, backend=backend)
    assert module.RADII == (0.5, 1.0, 1.5)
    cases = {(r, name): module.gradients(r, f, args) for r in module.RADII for name, f in module.FUNCTIONS.items()}
    for (radius, name), result in cases.items():
        norms, length = backwards(result, squash=name == "tanh")
        np.testing.assert_allclose(result["norms"], norms, rtol=1e-8)
        assert result["step"] == pytest.approx(length, rel=1e-6)  # W - lr dW loses digits where dW is small
        assert result["clipped"] == pytest.approx(min(length, 3.5), rel=1e-5)
        assert np.abs(np.linalg.eigvals(result["W"])).max() == pytest.approx(radius)
        if name == "linear":
            powers = [np.linalg.matrix_power(result["W"].T, n) @ result["v"] for n in reversed(range(100))]
            np.testing.assert_allclose(result["norms"], np.linalg.norm(powers, axis=1), rtol=1e-8)
            assert result["norms"][0] / result["norms"][50] == pytest.approx(radius**50, rel=0.15)
        else:
            assert result["norms"][0] < 0.8 * cases[radius, "linear"]["norms"][0]
    steps = [result["step"] for result in cases.values()]
    assert min(steps) < 3.5 < max(steps)  # one that clipping leaves, and one that it shortens


@pytest.mark.feature("D11")
def test_the_recurrent_net_learns_to_add():
    results = run_as_shown("D11")
    for (radius, name), result in results["gradients"].items():
        if name == "linear":
            assert result["factor"] == pytest.approx(radius, rel=0.01)
    assert results["error"] < 0.005  # 1/6 for the best constant
    assert results["right"] >= 0.95


@pytest.mark.feature("D11")
def test_the_recurrent_net_learns_to_add_on_numpy():
    results = load("D11").main("--length 6 --steps 250 --hidden 16 --backend numpy".split())
    assert results["error"] < 0.02


def test_the_adding_problem_is_what_it_says():
    x, sums = load("D11").sequences(500, 7, np.random.default_rng(0))
    numbers, marks = x[..., 0], x[..., 1]
    assert set(np.unique(marks)) == {0, 1}
    np.testing.assert_array_equal(marks[:, :3].sum(axis=1), 1)
    np.testing.assert_array_equal(marks[:, 3:].sum(axis=1), 1)
    np.testing.assert_allclose(np.einsum("ij,ij->i", numbers, marks), sums, rtol=1e-6)
    assert np.var(sums) == pytest.approx(1 / 6, rel=0.15)


# --- D12 ------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("D12")
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_graph_net_finds_the_sides_from_two_of_them(backend):
    club = networkx.karate_club_graph()
    edges = (networkx.to_numpy_array(club) > 0).astype("float32")
    sides = np.array([int(club.nodes[node]["club"] == "Officer") for node in club])
    split_club, args = load("D12").split_club, SimpleNamespace(seed=0, backend=backend)
    assert np.flatnonzero(split_club(edges, sides, args) != sides).tolist() == [8]
    alone = split_club(np.zeros_like(edges), sides, args)
    assert alone[0] == 0 and alone[33] == 1  # what it was told
    assert np.mean(alone == sides) < 0.6


@pytest.mark.feature("D12")
def test_one_attention_block_learns_to_sort():
    results = run_as_shown("D12")
    x, guesses, weights = results["x"], results["guesses"], results["weights"]
    assert x.shape == guesses.shape == (1000, 8) and weights.shape == (1000, 8, 8)
    assert np.mean((guesses == np.sort(x)).all(axis=1)) >= 0.97
    np.testing.assert_allclose(weights.sum(axis=2), 1, rtol=1e-5)
    assert [np.mean(found == results["sides"]) for found in results["found"].values()] == [33 / 34, 18 / 34]


@pytest.mark.feature("D12")
def test_one_attention_block_learns_to_sort_on_numpy():
    x, guesses, _ = load("D12").learn_to_sort(SimpleNamespace(seed=0, length=3, steps=120, backend="numpy"))
    assert np.mean(guesses == np.sort(x)) >= 0.9


# --- All of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", MARKED)
def test_plot_writes_a_picture(row, tmp_path):
    load(row).main([*BRIEF[row].split(), "--plot", str(tmp_path / "picture.png")])
    assert (tmp_path / "picture.png").read_bytes()[:8] == PNG


@pytest.mark.parametrize("row", ROWS)
def test_without_matplotlib_plot_says_what_is_missing(row, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails, as if it were not installed
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    picture = load(row).picture
    with pytest.raises(SystemExit, match="--plot needs matplotlib: pip install"):
        picture(*[tmp_path / "picture.png"] * len(inspect.signature(picture).parameters))


@pytest.mark.parametrize("row", ROWS)
def test_the_docstring_shows_how_to_run_it(row):
    assert f"    python examples/{script(row).name} --plot " in load(row).__doc__


WRONG = {
    "D7": ["--epochs 0", "--seeds 0", "--batch 0", "--layers -1"],
    "D8": ["--digit -1", "--digit 1797"],
    "D9": ["--epochs 0", "--seeds 0", "--batch 0"],
    "D11": ["--steps 0", "--length 1"],
    "D12": ["--steps 0", "--length 0"],
}


@pytest.mark.parametrize("row, wrong", [(row, wrong) for row, options in WRONG.items() for wrong in options])
def test_wrong_options_are_refused(row, wrong, capsys):
    with pytest.raises(SystemExit):
        load(row).main(wrong.split())
    assert wrong.split()[0] in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("row", ROWS)
def test_the_readme_lists_the_script(row):
    assert f"| {row} | [{script(row).name}]({script(row).name}) |" in (EXAMPLES / "README.md").read_text("utf-8")
