"""Models whose equations and code the tests of graphc.render look at, as lectures write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import graphc as gc

HOSTILE_NAMES = (
    *("$", "%", "#", "_", "__", "^", "\\", "{", "}", "&", "~", "<", ">", "|", "@", "}}", "$$"),
    *("''", '"', "`", "x'", "\\\\"),
    *("a_b_c", "x^2", "50%", "\\input{x}", "a\nb", "\x00\x07", "a b", "-1", "0", "lambda", "np", "i"),
    *("\u00e9t\u00e9", "\u03b1", "\u65e5\u672c", "\U0001f642", "\u202e"),
)


def a1() -> gc.Tensor:
    """f = (x + y) z."""
    x, y, z = gc.input("x"), gc.input("y"), gc.input("z")
    q = x + y
    f = q * z
    return f.named("f")


def a2() -> gc.Tensor:
    """A neuron with a sigmoid, step by step."""
    w0, w1, w2 = (gc.param(f"w{k}", (), init=value) for k, value in enumerate((2.0, -3.0, -3.0)))
    x0, x1 = gc.input("x0"), gc.input("x1")
    z = w0 * x0 + w1 * x1 + w2
    e = gc.exp(-z)
    s = 1 + e
    f = 1 / s
    return f


def neuron() -> gc.Tensor:
    """The same in one line, and the sigmoid as one function."""
    w0, w1, w2 = (gc.param(f"w{k}", (), init=value) for k, value in enumerate((2.0, -3.0, -3.0)))
    x0, x1 = gc.input("x0"), gc.input("x1")
    f = gc.sigmoid(w0 * x0 + w1 * x1 + w2)
    return f


def a4() -> gc.Tensor:
    """l = (b3 + w3 cos(b2 + w2 exp(b1 + w1 sin(b0 + w0 x))) - y)^2."""
    x, y = gc.input("x"), gc.input("y")
    b0, b1, b2, b3 = (gc.param(f"b{k}", (), init=value) for k, value in enumerate((1.0, 2.0, 3.0, 0.4)))
    w0, w1, w2, w3 = (gc.param(f"w{k}", (), init=value) for k, value in enumerate((0.1, -0.7, 0.6, -1.3)))
    f0 = b0 + w0 * x
    h1 = gc.sin(f0)
    f1 = b1 + w1 * h1
    h2 = gc.exp(f1)
    f2 = b2 + w2 * h2
    h3 = gc.cos(f2)
    f3 = b3 + w3 * h3
    l = (f3 - y) ** 2  # as the lecture calls it
    return l


def a6() -> gc.Tensor:
    """h(t) = exp(x1 x2^2), x1 = t cos t, x2 = t sin t."""
    t = gc.input("t")
    x1 = t * gc.cos(t)
    x2 = t * gc.sin(t)
    h = gc.exp(x1 * x2**2)
    return h


def a7() -> gc.Tensor:
    """f = x1^2 x2 + x1 x2^3, twice along two paths from (s, t)."""
    s, t = gc.input("s"), gc.input("t")
    x1 = s * t
    x2 = s + 2 * t
    f = x1**2 * x2 + x1 * x2**3
    return f


def rows() -> gc.Tensor:
    """A layer with the batch as rows (A11)."""
    X, W, b = gc.input("X", ("N", 3)), gc.param("W", (3, 2), init=0.1), gc.param("b", (2,))
    Z = X @ W + b
    H = gc.relu(Z)
    L = gc.mean(H**2)
    return L


def columns() -> gc.Tensor:
    """A layer with the batch as columns (A11)."""
    X, W, b = gc.input("X", (3, "N")), gc.param("W", (2, 3), init=0.1), gc.param("b", (2, 1))
    Z = W @ X + b
    H = gc.relu(Z)
    L = gc.mean(H**2)
    return L


def mlp() -> gc.Tensor:
    """Two layers and the cross-entropy."""
    x, t = gc.input("x", ("N", 64)), gc.input("t", ("N",), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(64, 32), gc.nn.ReLU(), gc.nn.Linear(32, 10))
    loss = gc.nn.cross_entropy(model(x), t)
    return loss


def cnn() -> gc.Tensor:
    """Two convolutions as in LeNet-5."""
    image, t = gc.input("image", ("N", 1, 12, 12)), gc.input("t", ("N",), dtype="int64")
    features = gc.nn.Sequential(
        gc.nn.Conv2d(1, 3, 5, padding=2), gc.nn.ReLU(), gc.nn.MaxPool2d(2), gc.nn.Conv2d(3, 4, 3), gc.nn.Flatten()
    )
    loss = gc.nn.cross_entropy(gc.nn.Linear(64, 10)(features(image)), t)
    return loss


def layer_norm() -> gc.Tensor:
    """Layer normalisation and the squared error."""
    x, y = gc.input("x", ("N", 8)), gc.input("y", ("N", 8))
    loss = gc.nn.mse_loss(gc.nn.LayerNorm(8)(x), y)
    return loss


def attention() -> gc.Tensor:
    """A block of a transformer."""
    x = gc.input("x", ("N", 5, 8))
    norm, heads = gc.nn.LayerNorm(8), gc.nn.MultiheadAttention(8, 2, batch_first=True)
    h = norm(x)
    y = x + heads(h, h, h)[0]
    loss = gc.mean(gc.gelu(gc.nn.Linear(8, 8)(y)) ** 2)
    return loss


def recurrent() -> gc.Tensor:
    """h_{t+1} = tanh(U x_t + V h_t), by gc.scan."""
    x, h0 = gc.input("x", ("T", 3)), gc.input("h0", (4,))
    U, V = gc.param("U", (4, 3), init=0.1), gc.param("V", (4, 4), init=0.1)

    def step(h: gc.Tensor, x: gc.Tensor) -> tuple[gc.Tensor, None]:
        h = gc.tanh(U @ x + V @ h)
        return h, None

    last, _ = gc.scan(step, h0, x)
    L = gc.sum(last * last)
    return L


MODELS: Mapping[str, Callable[[], gc.Tensor]] = {
    model.__name__: model
    for model in (a1, a2, neuron, a4, a6, a7, rows, columns, mlp, cnn, layer_norm, attention, recurrent)
}
