"""Logistic and softmax regression: convex losses, whose one optimum gradient descent finds.

Two classes: p(1 | x) = sigmoid(w x + b). C classes: p(c | x) = softmax(W x + b)_c. The loss is the mean of
-log p(t | x), computed from the scores w x + b; both losses are convex in the parameters. A term that is common to
all C classes changes no softmax; gradient descent leaves it as it was, for the gradient in the scores, p - e_t, sums
to zero over the classes.

    python examples/d02_logistic_regression.py --plot classes.png

prints the steps to the optimum, the loss there, and the share of the points that are classified correctly:

    logistic, 2 classes:  309 steps, loss 0.2745, 87% correct
    softmax,  3 classes:  324 steps, loss 0.5173, 74% correct

The picture shows the points and the lines between the classes. Where classes overlap, as here, the optimum is finite;
the test of this script finds the same one with a convex solver.
"""

import argparse

import numpy as np

import graphc as gc

CENTRES = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.5]])


def descend(loss, parameters, x, t, points, labels, args):
    """Gradient descent with momentum until the gradient is shorter than eps: the loss of each step."""
    slopes = gc.grad(loss, parameters)
    steepness = gc.sqrt(sum(gc.sum(slope**2) for slope in slopes))
    updates = gc.optim.SGD(lr=args.lr, momentum=0.9).updates_from(slopes, parameters)
    step = gc.compile([x, t], [loss, steepness], updates, backend=args.backend)
    losses = []
    for _ in range(args.steps):
        error, steep = step(points, labels)
        losses.append(float(error))
        if steep < args.eps:
            break
    return losses


def picture(file, points, labels, W, B):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install graphc[plot]") from None
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    across, up = np.meshgrid(np.linspace(-4, 4, 200), np.linspace(-3, 5, 200))
    classes = np.argmax(np.stack([across, up], axis=-1) @ W + B, axis=-1)
    axes.contourf(across, up, classes, levels=[-0.5, 0.5, 1.5, 2.5], alpha=0.3)
    axes.scatter(*points.T, c=labels)
    figure.savefig(file)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5000, help="stop after so many steps at the latest")
    parser.add_argument("--lr", type=float, default=0.3)
    parser.add_argument("--eps", type=float, default=1e-8)
    parser.add_argument("--backend", help="numpy or llvm")
    parser.add_argument("--plot", metavar="FILE")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    rng = np.random.default_rng(args.seed)
    labels = np.repeat([0, 1, 2], 50)
    points = CENTRES[labels] + rng.normal(0, 0.8, (150, 2))

    pair = labels < 2

    x, t = gc.input("x", ("N", 2), dtype="float64"), gc.input("t", ("N",), dtype="int64")
    w, b = gc.param("w", (2,), init=0, dtype="float64"), gc.param("b", (), init=0, dtype="float64")
    score = x @ w + b
    loss = gc.nn.binary_cross_entropy_with_logits(score, t.astype("float64"))
    two = descend(loss, [w, b], x, t, points[pair], labels[pair], args)
    right = np.mean((gc.evaluate(score, {x: points[pair]}) > 0) == labels[pair])
    print(f"logistic, 2 classes: {len(two):4} steps, loss {two[-1]:.4f}, {right:.0%} correct")

    W, B = gc.param("W", (2, 3), init=0, dtype="float64"), gc.param("B", (3,), init=0, dtype="float64")
    scores = x @ W + B
    three = descend(gc.nn.cross_entropy(scores, t), [W, B], x, t, points, labels, args)
    right = np.mean(np.argmax(gc.evaluate(scores, {x: points}), axis=1) == labels)
    print(f"softmax,  3 classes: {len(three):4} steps, loss {three[-1]:.4f}, {right:.0%} correct")
    if args.plot:
        picture(args.plot, points, labels, W.value, B.value)
    return {
        "points": points,
        "labels": labels,
        "logistic": {"loss": two[-1], "phi": (w.value, b.value)},
        "softmax": {"loss": three[-1], "phi": (W.value, B.value)},
    }


if __name__ == "__main__":
    main()
