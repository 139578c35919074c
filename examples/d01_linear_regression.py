"""Linear regression by gradient descent, on features of x.

The model is a weighted sum of features, y = phi_0 f_0(x) + phi_1 f_1(x) + ..., of which the straight line
y = phi_0 + phi_1 x is the simplest. The loss L is the mean of the squared errors, a convex parabola in phi. Gradient
descent, phi <- phi - lr dL/dphi, stops where |dL/dphi| < eps: there the normal equations hold, which NumPy's lstsq
solves directly.

    python examples/d01_linear_regression.py --plot fit.png

prints for each set of features how far gradient descent went, and how near it came to the direct answer:

    line    56 steps, loss 0.2224, |dL| 9.7e-09, 1.4e-08 from lstsq
    cubic 1127 steps, loss 0.0158, |dL| 9.9e-09, 2.8e-07 from lstsq
    waves  210 steps, loss 0.0094, |dL| 9.7e-09, 4.8e-08 from lstsq

The picture shows the data with the fits, and the loss surface of the line with the path of gradient descent.
"""

import argparse

import numpy as np

import graphc as gc

FEATURES = {  # NumPy's functions make arrays of arrays, and graphs of graphc's tensors
    "line": lambda x: [x**0, x],
    "cubic": lambda x: [x**0, x, x**2, x**3],
    "waves": lambda x: [x**0, x, np.sin(np.pi * x), np.cos(np.pi * x)],
}


def descend(features, xs, ys, args):
    """Gradient descent from phi = 0: the phi before each step, then the loss and |dL/dphi| at the last of them."""
    x, y = gc.input("x", ("N",), dtype="float64"), gc.input("y", ("N",), dtype="float64")
    columns = gc.stack(features(x), axis=1)
    phi = gc.param("phi", (columns.shape[1],), init=0, dtype="float64")
    loss = gc.nn.mse_loss(columns @ phi, y)
    slope = gc.grad(loss, phi)
    updates = {phi: phi - args.lr * slope}
    step = gc.compile([x, y], [loss, gc.sqrt(gc.sum(slope**2))], updates, backend=args.backend)
    path = []
    for _ in range(args.steps):
        path.append(phi.value)
        error, steepness = step(xs, ys)
        if steepness < args.eps:
            break
    return np.array(path), float(error), float(steepness)


def picture(file, xs, ys, paths):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install graphc[plot]") from None
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.scatter(xs, ys, color="grey", label="data")
    line = np.linspace(-1, 1, 200)
    for name, path in paths.items():
        left.plot(line, path[-1] @ FEATURES[name](line), label=name)
    left.legend()
    phi0, phi1 = np.meshgrid(np.linspace(-0.5, 2.5, 80), np.linspace(-0.5, 2.5, 80))
    right.contour(phi0, phi1, np.mean((phi0[..., None] + phi1[..., None] * xs - ys) ** 2, axis=-1), 30)
    right.plot(*paths["line"].T, "r.-")
    right.set(xlabel="phi 0", ylabel="phi 1", title="loss of the line")
    figure.savefig(file)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5000, help="stop after so many steps at the latest")
    parser.add_argument("--lr", type=float, default=0.4)
    parser.add_argument("--eps", type=float, default=1e-8)
    parser.add_argument("--backend", help="numpy or llvm")
    parser.add_argument("--plot", metavar="FILE")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    rng = np.random.default_rng(args.seed)
    xs = rng.uniform(-1, 1, 60)
    ys = 1 + 2 * xs - np.sin(np.pi * xs) + rng.normal(0, 0.1, 60)

    results, paths = {}, {}
    for name, features in FEATURES.items():
        paths[name], error, steepness = descend(features, xs, ys, args)
        phi = paths[name][-1]
        columns = np.stack(features(xs), axis=1)
        distance = np.linalg.norm(phi - np.linalg.lstsq(columns, ys)[0])
        print(f"{name:5} {len(paths[name]):4} steps, loss {error:.4f}, |dL| {steepness:.1e}, {distance:.1e} from lstsq")
        results[name] = {"phi": phi, "steepness": steepness, "columns": columns, "y": ys}
    if args.plot:
        picture(args.plot, xs, ys, paths)
    return results


if __name__ == "__main__":
    main()
