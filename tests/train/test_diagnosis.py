"""diagnose: nets that were made ill get their finding, healthy ones none; the numbers are NumPy's."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest

import graphc as gc
from graphc.backend import available
from graphc.data import digits
from graphc.errors import BackendError
from graphc.nn import cross_entropy, mse_loss
from graphc.train.history import History

WIDTH, ROWS = 32, 64


def net(sigma=None, activation=gc.nn.ReLU, depth=6, bias=0.0, seed=0):
    """Layers with weights of deviation sigma (None: He's)."""
    rng = np.random.default_rng(seed)
    layers = []
    for number in range(depth):
        out = WIDTH if number < depth - 1 else 10
        layer = gc.nn.Linear(WIDTH, out, seed=number)
        layer.weight.value = rng.normal(size=(out, WIDTH)) * (sigma or (2 / WIDTH) ** 0.5)
        layer.bias.value = np.full(out, bias)
        layers += [layer, activation()]
    return gc.nn.Sequential(*layers[:-1])


def batch(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, WIDTH)).astype("float32"), rng.integers(0, 10, rows)


def kinds(report):
    return [finding.split(":")[0] for finding in report.findings]


@pytest.mark.feature("F.vanishing")
@pytest.mark.parametrize("backend", available())
def test_too_small_a_sigma(backend):
    report = gc.diagnose(net(0.01), cross_entropy, batch(), backend=backend)
    assert kinds(report) == ["vanishing"]
    finding = report.findings[0]
    assert "the gradient at 0 has norm" in finding and "of that at 10" in finding
    assert "sigma of the initialiser may be too small" in finding and "He's initialiser gives 0.25" in finding


@pytest.mark.feature("F.exploding")
def test_too_large_a_sigma():
    report = gc.diagnose(net(3.0), cross_entropy, batch())
    assert kinds(report) == ["exploding"] and "sigma of the initialiser may be too large" in report.findings[0]


@pytest.mark.feature("F.dead")
def test_dead_units():
    report = gc.diagnose(net(depth=3, bias=-20.0), cross_entropy, batch())
    assert "dead" in kinds(report) and "vanishing" in kinds(report)
    assert any("100% of the units of 1 are 0 for all 64 rows" in finding for finding in report.findings)
    assert "dead units hand on nothing" in report.findings[0]
    few = gc.diagnose(net(depth=3, bias=-20.0), cross_entropy, batch(0, 8))
    assert "dead" not in kinds(few), "8 rows tell nothing"


@pytest.mark.feature("F.saturated")
@pytest.mark.parametrize("activation", [gc.nn.Sigmoid, gc.nn.Tanh])
def test_saturated_units(activation):
    report = gc.diagnose(net(4.0, activation, depth=3), cross_entropy, batch())
    assert "saturated" in kinds(report)
    healthy = gc.diagnose(net(None, activation, depth=3), cross_entropy, batch())
    assert healthy.findings == ()


@pytest.mark.feature("F.vanishing")
def test_sigmoids_in_depth_vanish_without_anything_else_being_wrong():
    report = gc.diagnose(net((2 / WIDTH) ** 0.5, gc.nn.Sigmoid, depth=9), cross_entropy, batch())
    assert kinds(report) == ["vanishing"] and "a normalisation, residual connections or ReLU" in report.findings[0]


@pytest.mark.feature("F.vanishing", "F.exploding", "F.dead", "F.saturated")
@pytest.mark.parametrize("depth", [2, 10])
def test_a_healthy_net_has_no_findings(depth):
    for seed in range(2):
        report = gc.diagnose(net(depth=depth, seed=seed), cross_entropy, batch(seed), optimiser=gc.optim.Adam(1e-3))
        assert report.findings == () and str(report).endswith("nothing to report")


def test_the_digits_nets_are_healthy():
    images, labels = (part[:128] for part in digits())
    mlp = gc.nn.Sequential(gc.nn.Linear(64, 256, seed=0), gc.nn.ReLU(), gc.nn.Linear(256, 10, seed=1))
    cnn = gc.nn.Sequential(
        gc.nn.Conv2d(1, 8, 3, padding=1, seed=0),
        gc.nn.ReLU(),
        gc.nn.MaxPool2d(2),
        gc.nn.Flatten(),
        gc.nn.Linear(128, 10, seed=1),
    )
    for model, x in ((mlp, 4 * images - 2), (cnn, images.reshape(-1, 1, 8, 8))):
        report = gc.diagnose(model, cross_entropy, (x, labels), optimiser=gc.optim.Adam(1e-3))
        assert report.findings == ()
        assert [layer.kind for layer in report.layers] == [type(layer).__name__ for layer in model]


@pytest.mark.feature("F.magnitudes")
def test_the_numbers_are_those_of_numpy():
    model = net(depth=2)
    x, t = batch()
    report = gc.diagnose(model, cross_entropy, (x, t), optimiser=gc.optim.SGD(0.1))
    w0, b0, w1, b1 = (p.value.astype(np.float64) for p in model.parameters())
    h = np.maximum(x @ w0.T + b0, 0)
    z = h @ w1.T + b1
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    dz = (p - np.eye(10)[t]) / ROWS
    dh = dz @ w1
    dw0 = (dh * (h > 0)).T @ x
    names = [layer.name for layer in report.layers]
    assert names == ["0", "1", "2"] and report.rows == ROWS
    relu, last = report.layers[1:]
    for spread, values in ((relu.activation, h), (relu.gradient, dh), (last.activation, z), (last.gradient, dz)):
        found = (spread.mean, spread.deviation, spread.least, spread.greatest, spread.norm)
        expected = (values.mean(), values.std(), values.min(), values.max(), np.linalg.norm(values))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert relu.dead == np.mean((h == 0).all(axis=0)) and relu.saturated is None
    weight = report.parameters[0]
    np.testing.assert_allclose(weight.gradient.norm, np.linalg.norm(dw0), rtol=1e-4)
    np.testing.assert_allclose(weight.update_ratio, 0.1 * np.linalg.norm(dw0) / np.linalg.norm(w0), rtol=1e-3)
    assert report.parameters[1].update_ratio is None
    assert report.loss == pytest.approx(-np.log(p[np.arange(ROWS), t]).mean(), rel=1e-5)


def test_steps_that_are_too_large_or_lost():
    large = gc.diagnose(net(), cross_entropy, batch(), optimiser=gc.optim.Adam(0.5))
    assert set(kinds(large)) == {"large step"} and "0.weight" in large.findings[0]
    lost = gc.diagnose(net(), cross_entropy, batch(), optimiser=gc.optim.Adam(3e-9))
    assert set(kinds(lost)) == {"lost step"}


def test_nothing_is_changed():
    model, optimiser = net(), gc.optim.Adam(0.1)
    before = [p.value for p in model.parameters()]
    gc.diagnose(model, cross_entropy, batch(), optimiser=optimiser)
    assert all((p.value == b).all() for p, b in zip(model.parameters(), before, strict=True))
    assert float(optimiser._count().value) == 0


class Block(gc.nn.Module):
    """Activations as functions, a layer that is used twice, and a state."""

    def __init__(self):
        self.first, self.again = gc.nn.Linear(WIDTH, WIDTH, seed=0), gc.nn.Linear(WIDTH, WIDTH, seed=1)
        self.inner = gc.nn.Sequential(gc.nn.Linear(WIDTH, 10, seed=2))
        self.count = gc.state("count", (), init=0)

    def forward(self, x, training):
        self.count.set_next(self.count + 1)
        h = gc.relu(self.first(x)) * (1 + 0 * self.count)
        return self.inner(gc.tanh(self.again(self.again(h))))


def test_names_of_a_model_of_ones_own():
    model = Block()
    report = gc.diagnose(model, cross_entropy, batch())
    assert [layer.name for layer in report.layers] == ["first", "relu", "again", "again (2)", "tanh", "inner.0"]
    assert report.layers[1].dead is not None and report.layers[4].saturated is not None
    assert model.count.value == 0, "states do not move"
    assert [one.name for one in report.parameters][:2] == ["first.weight", "first.bias"]


def test_a_loss_that_takes_the_model():
    def loss(model, x, t):
        return cross_entropy(model(x), t) + 0.1 * gc.sum(model[0].weight ** 2)

    report = gc.diagnose(net(), loss, batch())
    assert [layer.name for layer in report.layers] == [str(number) for number in range(11)]


def test_no_gradient_at_all():
    model = gc.nn.Sequential(gc.nn.Linear(WIDTH, 4, seed=0), gc.nn.Linear(4, 1, seed=1))
    report = gc.diagnose(model, lambda p, t: gc.sum(gc.stop_gradient(p)), batch())
    assert kinds(report) == ["no gradient"]


@pytest.mark.feature("F.nan")
def test_nan_is_traced():
    class Bad(gc.nn.Module):
        def __init__(self):
            self.linear = gc.nn.Linear(WIDTH, 10, seed=0)

        def forward(self, x):
            return gc.log(self.linear(x))  # of negative numbers

    report = gc.diagnose(Bad(), cross_entropy, batch())
    assert len(report.findings) == 1 and report.nan is not None and report.nan.op == "log"
    assert report.findings[0].startswith("not finite: the first NaN comes from log (")
    assert "test_diagnosis.py" in report.findings[0] and "nan" in str(report)


def test_the_report_as_a_table():
    text = str(gc.diagnose(net(0.01), cross_entropy, batch(), optimiser=gc.optim.Adam(1e-3)))
    lines = text.splitlines()
    assert lines[0].startswith("loss 2.3 over 64 rows")
    assert lines[2].split()[:4] == ["layer", "kind", "mean", "deviation"]
    assert lines[3].split()[:2] == ["0", "Linear"] and lines[4].split()[-1] == "0%"
    assert text.splitlines()[-1].startswith("- vanishing: ")
    assert len({len(line) for line in lines[2:14:2]}) <= 2, "the columns stand below each other"


# --- Pictures -------------------------------------------------------------------------------------------------------


def history():
    found = History({"loss": [3.0, 2.0], "accuracy": [0.1, 0.5], "validation_loss": [3.0, 2.5], "seconds": [1.0, 1.0]})
    found.best_epoch = 2
    return found


@pytest.mark.feature("E.history")
def test_plots(tmp_path):
    pytest.importorskip("matplotlib", reason="an optional extra")
    path = tmp_path / "history.png"
    assert history().plot(path) == str(path)
    assert path.stat().st_size > 3000
    path = tmp_path / "report.svg"
    gc.diagnose(net(), mse_loss, (batch()[0], np.zeros((ROWS, 10)))).plot(path)
    assert path.stat().st_size > 3000


def test_without_matplotlib(tmp_path, monkeypatch):
    load = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(BackendError, match=r"pip install graphc\[plot\]"):
        history().plot(tmp_path / "h.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.feature("E.history")
def test_a_history_is_json_and_back():
    found = history()
    found.append({"loss": 1 / 3, "lately": float("nan"), "seconds": 0.1})
    found.steps, found.skipped, found.interrupted = 7, 1, True
    back = History.from_json(json.loads(json.dumps(found.to_json())))
    assert repr(dict(back)) == repr(dict(found)) and found.epochs == 3
    assert (back.best_epoch, back.steps, back.skipped, back.interrupted) == (2, 7, 1, True)
    assert str(found["lately"]) == "[nan, nan, nan]"
