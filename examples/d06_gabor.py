"""The Gabor model: gradient descent rests in the nearest minimum of its loss, stochastic gradient descent leaves it.

In general f(x) = sin(phi_0 + sum_i phi_i x_i) exp(-sum_i phi_i^2 x_i^2), a wave under a bell. With two parameters
and one input, f(x) = sin(u) exp(-u^2 / 32) with u = phi_0 + 0.06 phi_1 x. Its mean squared error over 30 points is
far from convex. Both descents start at one place, with one schedule of rates; the stochastic one takes batches of five
points, without replacement in an epoch, whose gradients differ from the whole one: this noise carries it on.

    python examples/d06_gabor.py --plot contours.png

prints where each of the two comes to rest, and the parameters of the general form with two inputs, fitted to its own
values from a start near by:

    GD  rests at phi = (-0.30, 8.48) with loss 0.1460
    SGD rests at phi = (-0.08, 16.01) with loss 0.0077
    general form: phi = 0.500 1.000 -0.700

The picture shows the loss over (phi_0, phi_1) with both paths.
"""

import argparse

import numpy as np

import graphc as gc

START = (-1.0, 7.5)
TRUE = (0.0, 16.6)
BATCH = 5


def gabor(x, phi0, phi1):
    """The two-parameter form, of NumPy's arrays or graphc's tensors."""
    u = phi0 + 0.06 * phi1 * x
    return np.sin(u) * np.exp(-(u**2) / 32)


def general(x, phi0, phi):
    """The general form for x of shape (N, D) and phi of shape (D,)."""
    return np.sin(phi0 + x @ phi) * np.exp(-(x**2) @ phi**2)


def descend(xs, ys, batches, steps, args):
    """The path from START over the given batches of indices."""
    x, y = gc.input("x", ("N",), dtype="float64"), gc.input("y", ("N",), dtype="float64")
    phi = [gc.param(f"phi{i}", (), init=START[i], dtype="float64") for i in range(2)]
    loss = gc.nn.mse_loss(gabor(x, *phi), y)
    sgd = gc.optim.SGD(lr=args.lr, schedule=gc.optim.StepLR(steps // 3, gamma=0.3))
    step = gc.compile([x, y], loss, sgd.updates(loss, phi), backend=args.backend)
    path = [START]
    for batch in batches:
        step(xs[batch], ys[batch])
        path.append((float(phi[0].value), float(phi[1].value)))
    return np.array(path)


def fit_general(args):
    """phi_0, phi_1, phi_2 by gradient descent from a start near those that made the values, (0.5, 1.0, -0.7)."""
    xs = np.random.default_rng(0).normal(size=(100, 2))
    phi0, phi = gc.param("phi0", (), init=0.2, dtype="float64"), gc.param("phi", init=np.array([0.7, -0.4]))
    x = gc.constant(xs)
    loss = gc.nn.mse_loss(general(x, phi0, phi), gc.constant(general(xs, 0.5, np.array([1.0, -0.7]))))
    step = gc.compile([], loss, gc.optim.SGD(lr=1.0).updates(loss, [phi0, phi]), backend=args.backend)
    for _ in range(args.steps):
        step()
    return np.array([phi0.value, *phi.value])


def picture(file, xs, ys, paths):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install graphc[plot]") from None
    axes = Figure(figsize=(6, 5), layout="constrained").subplots()
    phi0, phi1 = np.meshgrid(np.linspace(-8, 8, 200), np.linspace(2, 24, 200))
    axes.contourf(phi0, phi1, np.mean((gabor(xs, phi0[..., None], phi1[..., None]) - ys) ** 2, axis=-1), 40)
    for name, colour in (("SGD", "red"), ("GD", "white")):
        axes.plot(*paths[name].T, color=colour, linewidth=0.8, label=name)
        axes.plot(*paths[name][-1], "o", color=colour)
    axes.legend()
    axes.set(xlabel="phi 0", ylabel="phi 1")
    axes.figure.savefig(file)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the order of the batches")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--backend", help="numpy or llvm")
    parser.add_argument("--plot", metavar="FILE")
    args = parser.parse_args(argv)
    if args.steps < 6:
        parser.error("--steps must be at least 6")
    data = np.random.default_rng(1)
    xs = data.uniform(-15, 15, 30)
    ys = gabor(xs, *TRUE) + data.normal(0, 0.1, 30)
    order = np.random.default_rng(args.seed)
    epochs = args.steps * BATCH // len(xs)
    batches = {
        "GD": [np.arange(30)] * args.steps,
        "SGD": [batch for _ in range(epochs) for batch in order.permutation(30).reshape(-1, BATCH)],
    }
    paths = {name: descend(xs, ys, some, args.steps, args) for name, some in batches.items()}
    losses = {}
    for name, path in paths.items():
        losses[name] = np.mean((gabor(xs, *path[-1]) - ys) ** 2)
        print(f"{name:3} rests at phi = ({path[-1][0]:.2f}, {path[-1][1]:.2f}) with loss {losses[name]:.4f}")
    phi = fit_general(args)
    print("general form: phi =", " ".join(f"{p:.3f}" for p in phi))
    if args.plot:
        picture(args.plot, xs, ys, paths)
    return {"x": xs, "y": ys, "paths": paths, "losses": losses, "general": phi}


if __name__ == "__main__":
    main()
