"""The scripts of D1 to D6: each one's claim against NumPy and SciPy, its pictures, what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy import optimize

import graphc as gc
from tests.examples.support import EXAMPLES, load, script

ROWS = [f"D{number}" for number in range(1, 7)]
MARKED = [pytest.param(row, marks=pytest.mark.feature(row)) for row in ROWS]
BACKENDS = ["numpy", "llvm"]
PNG = b"\x89PNG\r\n\x1a\n"


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


# --- D1 -------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("D1")
@pytest.mark.parametrize("backend", BACKENDS)
def test_linear_regression_stops_on_the_normal_equations(backend):
    eps = 1e-8
    results = load("D1").main(["--backend", backend, "--eps", str(eps)])
    x = results["line"]["columns"][:, 1]
    columns = {
        "line": np.vander(x, 2, increasing=True),
        "cubic": np.vander(x, 4, increasing=True),
        "waves": np.stack([np.ones_like(x), x, np.sin(np.pi * x), np.cos(np.pi * x)], axis=1),
    }
    assert set(results) == set(columns)
    for name, found in results.items():
        a, y = columns[name], found["y"]
        assert np.linalg.norm(2 * a.T @ (a @ found["phi"] - y) / len(y)) < eps * (1 + 1e-6)
        curvature = np.linalg.eigvalsh(2 * a.T @ a / len(y))[0]  # |phi - phi*| <= |dL| / the least curvature
        assert np.linalg.norm(found["phi"] - np.linalg.lstsq(a, y)[0]) <= 1.01 * eps / curvature


@pytest.mark.feature("D1")
def test_linear_regression_goes_on_until_the_gradient_is_small_enough():
    rough, fine = (load("D1").main(["--eps", eps])["line"] for eps in ("1e-3", "1e-6"))
    assert 1e-6 < rough["steepness"] < 1e-3
    assert fine["steepness"] < 1e-6


# --- D2 -------------------------------------------------------------------------------------------------------------


def logistic(phi, x, t):
    """Loss and gradient of w1, w2, b."""
    z = x @ phi[:2] + phi[2]
    slopes = (sigmoid(z) - t) / len(t)
    return np.mean(np.logaddexp(0, z) - t * z), np.append(slopes @ x, slopes.sum())


def softmax(phi, x, t):
    """Loss and gradient of W (2, 3) and B (3,)."""
    z = x @ phi[:6].reshape(2, 3) + phi[6:]
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    slopes = (np.exp(log_p) - np.eye(3)[t]) / len(t)
    return -np.mean(log_p[np.arange(len(t)), t]), np.append((x.T @ slopes).ravel(), slopes.sum(axis=0))


@pytest.mark.feature("D2")
@pytest.mark.parametrize("backend", BACKENDS)
def test_logistic_and_softmax_regression_find_what_a_convex_solver_finds(backend):
    results = load("D2").main(["--backend", backend])
    x, t = results["points"], results["labels"]
    two = t < 2
    for name, function, data in (("logistic", logistic, (x[two], t[two])), ("softmax", softmax, (x, t))):
        phi = np.concatenate([np.ravel(part) for part in results[name]["phi"]])
        best = optimize.minimize(function, np.zeros(len(phi)), data, "BFGS", jac=True, options={"gtol": 1e-9})
        assert results[name]["loss"] == pytest.approx(best.fun, rel=1e-12)
        np.testing.assert_allclose(phi, best.x, atol=1e-6)  # BFGS from zero keeps the sums over classes, too
    W, B = results["softmax"]["phi"]
    np.testing.assert_allclose([*W.sum(axis=1), B.sum()], 0, atol=1e-12)


# --- D3 -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shallow():
    return load("D3").main([])


@pytest.mark.feature("D3")
def test_a_shallow_net_is_linear_between_at_most_d_joints(shallow):
    for hidden, found in shallow["fits"].items():
        line = np.linspace(-1, 1, len(found["outputs"]))
        assert len(found["bends"]) <= len(found["joints"]) <= hidden
        for bend in found["bends"]:
            assert np.abs(found["joints"] - bend).min() <= 1.01 * (line[1] - line[0])
        ends = np.searchsorted(line, found["joints"])
        for piece in np.split(np.arange(len(line)), ends):
            if len(piece) > 2:
                straight = np.polyval(np.polyfit(line[piece], found["outputs"][piece], 1), line[piece])
                np.testing.assert_allclose(found["outputs"][piece], straight, atol=1e-10)
    assert len(shallow["fits"][4]["bends"]) == 4  # joints are found where there are some


@pytest.mark.feature("D3")
def test_a_wider_shallow_net_fits_better(shallow):
    losses = [found["loss"] for found in shallow["fits"].values()]
    assert list(shallow["fits"]) == [1, 2, 4, 8, 16]
    assert all(wider < narrower for narrower, wider in pairwise(losses))
    assert losses[-1] < 1e-3 * losses[0]


@pytest.mark.feature("D3")
def test_regions_of_two_inputs(shallow):
    assert [bound for _, bound in shallow["regions"].values()] == [2, 4, 7, 11, 16]
    assert shallow["regions"][3][0] == 7
    for hidden, (count, bound) in shallow["regions"].items():
        assert count == regions_in_square(hidden, 20.0) <= bound


@pytest.mark.feature("D3")
def test_a_region_is_a_pattern_of_active_units():
    weights, biases = lines(3)
    right, up = np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-2, 2, 9))
    heights = [w[0] * right + w[1] * up + b for w, b in zip(weights, biases, strict=True)]
    patterns = load("D3").regions(3, seed=0, width=9, reach=2.0)
    np.testing.assert_array_equal(patterns, sum(2**d * (height > 0) for d, height in enumerate(heights)))


def lines(hidden):
    """The weights (D, 2) and biases of the script's layer with two inputs."""
    layer = gc.nn.Linear(2, hidden, seed=(0, hidden), dtype="float64")
    return layer.weight.value, layer.bias.value


def regions_in_square(hidden, reach):
    """D lines cut a convex set into 1 + D + (their crossings inside) regions, if each of them meets it."""
    weights, biases = lines(hidden)
    assert all(np.abs(biases) < reach * np.abs(weights).sum(axis=1))  # each line meets the square
    pairs = [[i, j] for i in range(hidden) for j in range(i)]
    crossings = [np.linalg.solve(weights[pair], -biases[pair]) for pair in pairs]
    return 1 + hidden + sum(np.abs(crossing).max() < reach for crossing in crossings)


# --- D4 -------------------------------------------------------------------------------------------------------------

WIRED = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=bool)


@pytest.mark.feature("D4")
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_housing_net_has_twelve_parameters_and_trains(backend):
    result = load("D4").main(["--backend", backend, "--steps", "40"])
    assert result["parameters"] == 12
    assert result["losses"][-1] < 0.01 * result["losses"][0]
    np.testing.assert_array_equal(result["reached"], WIRED)


@pytest.mark.feature("D4")
def test_the_housing_net_is_a_dense_net_without_the_absent_connections():
    module = load("D4")
    model, (xs, prices) = module.Housing(seed=3), module.houses(50, seed=3)
    parameters = model.parameters()
    x, t = gc.input("x", (50, 4)), gc.input("t", (50, 1))
    gradients = gc.evaluate(gc.grad(gc.nn.squared_error(model(x), t), parameters), {x: xs, t: prices})
    w1, b1, w2, b2, w3, b3, v, c = (p.value.astype("float64") for p in parameters)

    dense = np.zeros((3, 4))
    dense[WIRED] = np.concatenate([w1.ravel(), w2.ravel(), w3.ravel()])
    a = sigmoid(xs @ dense.T + np.concatenate([b1, b2, b3]))
    error = a @ v.T + c - prices
    np.testing.assert_allclose(gc.evaluate(model(x), {x: xs}), a @ v.T + c, atol=1e-6)
    dz = error @ v * a * (1 - a)
    d_dense = dz.T @ xs
    assert np.abs(d_dense[~WIRED]).min() > 1e-3  # a dense net would move what is absent here
    expected = [*d_dense[WIRED], *dz.sum(axis=0), *(error.T @ a).ravel(), error.sum()]
    dw1, db1, dw2, db2, dw3, db3, dv, dc = (g.ravel() for g in gradients)
    np.testing.assert_allclose(np.concatenate([dw1, dw2, dw3, db1, db2, db3, dv, dc]), expected, rtol=1e-4)


# --- D5 -------------------------------------------------------------------------------------------------------------


@pytest.mark.feature("D5")
@pytest.mark.parametrize("backend", BACKENDS)
def test_polar_features_separate_what_no_line_separates(backend):
    module = load("D5")
    result = module.main(["--backend", backend, "--steps", "300"])
    points, is_inner = result["points"], result["labels"] == 1
    angles = np.linspace(0, np.pi, 90, endpoint=False)
    along = points @ np.stack([np.cos(angles), np.sin(angles)])
    cuts = along[None] > np.linspace(-2.5, 2.5, 51)[:, None, None]
    agreement = (cuts == is_inner[None, :, None]).mean(axis=1)
    best_line = np.maximum(agreement, 1 - agreement).max()
    assert result["shares"]["cartesian"] <= best_line < 0.75
    assert result["shares"]["polar"] == 1
    w1, w2, b = result["weights"]["polar"]
    plane = points[:, 0] + 1j * points[:, 1]
    radius, angle = np.abs(plane), np.angle(plane)
    polar = gc.evaluate(module.polar(gc.constant(points)), {})
    np.testing.assert_allclose(polar, np.stack([radius, angle], axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(w1 * radius + w2 * angle + b > 0, is_inner)
    assert radius[is_inner].max() < -b / w1 < radius[~is_inner].min()
    assert abs(w2) < 0.1 * abs(w1)  # the angle tells nothing


# --- D6 -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gabor():
    return load("D6")


@pytest.mark.feature("D6")
@pytest.mark.parametrize("backend, seed", [("numpy", 0), ("llvm", 0), ("llvm", 1), ("llvm", 2)])
def test_gradient_descent_sticks_where_stochastic_descent_leaves(gabor, backend, seed):
    result = gabor.main(["--backend", backend, "--seed", str(seed)])
    x, y = result["x"], result["y"]

    def loss(phi):
        u = phi[0] + 0.06 * phi[1] * x
        return np.mean((np.sin(u) * np.exp(-(u**2) / 32) - y) ** 2)

    stuck, left = (result["paths"][name][-1] for name in ("GD", "SGD"))
    np.testing.assert_array_equal(result["paths"]["GD"][0], result["paths"]["SGD"][0])
    np.testing.assert_allclose(optimize.minimize(loss, stuck).x, stuck, atol=1e-3)  # a minimum, though a local one
    assert result["losses"]["GD"] == pytest.approx(loss(stuck)) and loss(stuck) > 10 * loss(left)
    grid = [(phi0, phi1) for phi0 in np.linspace(-8, 8, 33) for phi1 in np.linspace(2, 24, 45)]
    lowest = optimize.minimize(loss, min(grid, key=loss))
    assert loss(left) < 1.1 * lowest.fun
    np.testing.assert_allclose(left, lowest.x, atol=0.3)
    np.testing.assert_allclose(result["general"], [0.5, 1.0, -0.7], atol=1e-3)


@pytest.mark.feature("D6")
def test_both_forms_of_the_gabor_model(gabor):
    rng = np.random.default_rng(0)
    xs, weights = rng.normal(size=(5, 3)), rng.normal(size=3)
    x, phi0, phi = gc.constant(xs), gc.input("phi0", (), dtype="float64"), gc.input("phi", (3,), dtype="float64")
    value = gc.sum(gabor.general(x, phi0, phi) + gabor.gabor(x[:, 0], phi0, phi[1]))

    def by_hand(b, w):
        general = [np.sin(b + sum(w * row)) * np.exp(-sum(w**2 * row**2)) for row in xs]
        u = [b + 0.06 * w[1] * row[0] for row in xs]
        return sum(general) + sum(np.sin(one) * np.exp(-(one**2) / 32) for one in u)

    here = {phi0: 0.4, phi: weights}
    assert float(gc.evaluate(value, here)) == pytest.approx(by_hand(0.4, weights), rel=1e-12)
    d0, d = gc.evaluate(gc.grad(value, [phi0, phi]), here)
    tiny = 1e-30  # the complex step: nothing is subtracted, and nothing is lost
    assert d0 == pytest.approx(by_hand(0.4 + 1j * tiny, weights).imag / tiny, rel=1e-10)
    expected = [by_hand(0.4, weights + 1j * tiny * unit).imag / tiny for unit in np.eye(3)]
    np.testing.assert_allclose(d, expected, rtol=1e-10)


# --- All of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", MARKED)
def test_plot_writes_a_picture(row, tmp_path):
    load(row).main(["--steps", "6", "--plot", str(tmp_path / "picture.png")])
    assert (tmp_path / "picture.png").read_bytes()[:8] == PNG


@pytest.mark.parametrize("row", ROWS)
def test_without_matplotlib_plot_says_what_is_missing(row, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # an import of it fails, as if it were not installed
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit, match="--plot needs matplotlib: pip install"):
        load(row).main(["--steps", "6", "--plot", str(tmp_path / "picture.png")])


@pytest.mark.parametrize("row", ROWS)
def test_the_docstring_shows_how_to_run_it_and_what_it_prints(row, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = load(row)
    assert f"    python examples/{script(row).name} --plot " in module.__doc__
    module.main([])
    printed = capsys.readouterr().out.splitlines()
    shown = [line[4:] for line in module.__doc__.splitlines() if line.startswith("    ")]
    assert shape(shown[-len(printed) :]) == shape(printed)
    assert list(tmp_path.iterdir()) == []  # nothing is drawn unasked


def shape(lines):
    """Lines with their numbers taken out: last digits and counts of steps differ between machines."""
    return [" ".join(re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "#", line).split()) for line in lines]


@pytest.mark.parametrize("row", [row for row in ROWS if row != "D5"])
def test_a_run_without_steps_is_refused(row, capsys):
    with pytest.raises(SystemExit):
        load(row).main(["--steps", "0"])
    assert "--steps must be at least" in capsys.readouterr().err


def test_a_script_runs_as_a_program(tmp_path):
    done = subprocess.run(
        [sys.executable, script("D5"), "--steps", "20", "--plot", "picture.png"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cartesian")
    assert (tmp_path / "picture.png").read_bytes()[:8] == PNG


@pytest.mark.parametrize("row", ROWS)
def test_the_readme_lists_the_script(row):
    assert f"| {row} | [{script(row).name}]({script(row).name}) |" in (EXAMPLES / "README.md").read_text("utf-8")
