"""The right features make a problem linear: a circle in a circle, in x, y and in polar coordinates.

Points in a disc belong to class 1, points in the ring around it to class 0. Logistic regression separates classes by
a straight line: no line in (x, y) does that here. In polar coordinates, r = sqrt(x^2 + y^2) and theta = atan2(y, x),
the same points are two strips, and the line r = constant lies between them.

    python examples/d05_polar_features.py --plot polar.png

prints for both sets of features the share of points that are classified correctly, and the weights:

    cartesian  54% correct, score = -0.05 * first + 0.00 * second + 0.00
    polar     100% correct, score = -9.04 * first + -0.02 * second + 11.37

The picture shows the points and the learnt lines in both coordinates.
"""

import argparse

import numpy as np

import graphc as gc


def cartesian(points):
    return points


def polar(points):
    """The same expression makes a graph from graphc's tensors and an array from NumPy's."""
    x, y = points[:, 0], points[:, 1]
    return np.stack([np.sqrt(x**2 + y**2), np.arctan2(y, x)], axis=1)


def circles(count, rng):
    """Half of the points in a disc of radius 1, half in the ring between the radii 1.5 and 2.5."""
    label = np.arange(count) % 2
    radius = np.where(label, rng.uniform(0, 1, count), rng.uniform(1.5, 2.5, count))
    angle = rng.uniform(-np.pi, np.pi, count)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points.astype("float32"), label.astype("float32")


def classify(features, points, labels, args):
    """Logistic regression on features of the points: the share classified correctly, and the weights w1, w2, b."""
    x, t = gc.input("x", ("N", 2)), gc.input("t", ("N",))
    w, b = gc.param("w", (2,), init=0), gc.param("b", (), init=0)
    score = features(x) @ w + b
    loss = gc.nn.binary_cross_entropy_with_logits(score, t)
    step = gc.compile([x, t], loss, gc.optim.Adam(lr=0.1).updates(loss, [w, b]), backend=args.backend)
    for _ in range(args.steps):
        step(points, labels)
    guess = gc.compile([x], score > 0, backend=args.backend)
    return np.mean(guess(points) == labels), (*w.value, b.value)


def picture(file, points, labels, weights):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install graphc[plot]") from None
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, features in zip(figure.subplots(1, 2), (cartesian, polar), strict=True):
        first, second = features(points).T
        axes.scatter(first, second, c=labels, s=8)
        w1, w2, b = weights[features.__name__]
        across, up = np.meshgrid(np.linspace(first.min(), first.max()), np.linspace(second.min(), second.max()))
        axes.contour(across, up, w1 * across + w2 * up + b, levels=[0])
        axes.set_title(features.__name__)
    figure.savefig(file)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--backend", help="numpy or llvm")
    parser.add_argument("--plot", metavar="FILE")
    args = parser.parse_args(argv)
    points, labels = circles(400, np.random.default_rng(args.seed))
    shares, weights = {}, {}
    for features in (cartesian, polar):
        name = features.__name__
        shares[name], weights[name] = classify(features, points, labels, args)
        w1, w2, b = weights[name]
        print(f"{name:9} {shares[name]:4.0%} correct, score = {w1:.2f} * first + {w2:.2f} * second + {b:.2f}")
    if args.plot:
        picture(args.plot, points, labels, weights)
    return {"points": points, "labels": labels, "shares": shares, "weights": weights}


if __name__ == "__main__":
    main()
