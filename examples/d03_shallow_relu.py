"""A shallow ReLU network is piecewise linear, and its hidden units are its joints.

One input, D hidden units: y = phi_0 + sum_d phi_d relu(theta_d0 + theta_d1 x). Unit d bends the line at its joint
x = -theta_d0 / theta_d1, and nowhere else, so that there are at most D joints. With Di inputs each unit folds the
input space along a hyperplane; D of them cut it into at most sum_{j<=Di} C(D, j) regions (T. Zaslavsky, 1975).

    python examples/d03_shallow_relu.py --plot joints.png

prints the error of nets fitted to sin(pi x), the joints within [-1, 1] that their weights tell, and the bends that
second differences of their output show (fewer, where joints nearly meet or phi_d is zero); then the regions of layers
with two inputs, counted on a grid, and their bound:

    D =  1: loss 0.49219, 1 joints, 1 bends
    D =  2: loss 0.14597, 2 joints, 2 bends
    D =  4: loss 0.00578, 4 joints, 4 bends
    D =  8: loss 0.00136, 7 joints, 7 bends
    D = 16: loss 0.00014, 13 joints, 13 bends
    D =  1, 2 inputs: 2 regions of at most 2
    D =  2, 2 inputs: 4 regions of at most 4
    D =  3, 2 inputs: 7 regions of at most 7
    D =  4, 2 inputs: 11 regions of at most 11
    D =  5, 2 inputs: 15 regions of at most 16

The picture shows the fits with their joints, and the regions of three units.
"""

import argparse
import math

import numpy as np

import graphc as gc


def fit(hidden, xs, ys, args):
    """A net of one input, whose joints begin evenly spaced, after Adam; its last loss."""
    net = gc.nn.Sequential(
        gc.nn.Linear(1, hidden, dtype="float64"), gc.nn.ReLU(), gc.nn.Linear(hidden, 1, seed=args.seed, dtype="float64")
    )
    directions = (-1.0) ** np.arange(hidden)  # half of the units open to the right, half to the left
    net[0].weight.value = directions[:, None]
    net[0].bias.value = -directions * np.linspace(-1, 1, hidden + 2)[1:-1]
    x, y = gc.input("x", ("N", 1), dtype="float64"), gc.input("y", ("N", 1), dtype="float64")
    loss = gc.nn.mse_loss(net(x), y)
    step = gc.compile([x, y], loss, gc.optim.Adam(lr=0.01).updates(loss, net.parameters()), backend=args.backend)
    for _ in range(args.steps):
        error = step(xs, ys)
    return net, float(error)


def joints(net):
    """Where the units of a net with one input bend it, from its weights: those within [-1, 1]."""
    found = -net[0].bias.value / net[0].weight.value[:, 0]
    return np.sort(found[np.abs(found) < 1])


def bends(line, outputs):
    """Where the slope changes, from second differences: a joint shows at the one or two grid points beside it."""
    curved = np.abs(np.diff(outputs, 2)) > 1e-10
    return line[1:-1][curved & ~np.append(False, curved[:-1])]


def regions(hidden, seed, width=801, reach=20.0):
    """The pattern of active units, as a number, at each point of a grid over [-reach, reach]^2."""
    layer = gc.nn.Linear(2, hidden, seed=(seed, hidden), dtype="float64")
    x = gc.input("x", (width, width, 2), dtype="float64")
    axis = np.linspace(-reach, reach, width)
    active = gc.evaluate(layer(x) > 0, {x: np.stack(np.meshgrid(axis, axis), axis=-1)})
    return active @ 2 ** np.arange(hidden)


def picture(file, line, fits, patterns):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install graphc[plot]") from None
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(line, np.sin(np.pi * line), color="grey")
    for hidden, fitted in fits.items():
        left.plot(line, fitted["outputs"], label=f"D = {hidden}")
        left.plot(fitted["joints"], np.interp(fitted["joints"], line, fitted["outputs"]), "k.")
    left.legend()
    right.imshow(np.unique(patterns, return_inverse=True)[1].reshape(patterns.shape), cmap="Set2")
    right.set_axis_off()
    figure.savefig(file)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000, help="steps of training")
    parser.add_argument("--backend", help="numpy or llvm")
    parser.add_argument("--plot", metavar="FILE")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    xs = np.linspace(-1, 1, 64)[:, None]
    line = np.linspace(-1, 1, 20001)
    fits, counts = {}, {}
    for hidden in (1, 2, 4, 8, 16):
        net, error = fit(hidden, xs, np.sin(np.pi * xs), args)
        outputs = gc.evaluate(net(gc.constant(line[:, None])), {})[:, 0]
        fits[hidden] = {"loss": error, "joints": joints(net), "bends": bends(line, outputs), "outputs": outputs}
        print(f"D = {hidden:2}: loss {error:.5f}, {len(joints(net))} joints, {len(bends(line, outputs))} bends")
    for hidden in range(1, 6):
        patterns = regions(hidden, args.seed)
        counts[hidden] = len(np.unique(patterns)), sum(math.comb(hidden, j) for j in range(3))
        print(f"D = {hidden:2}, 2 inputs: {counts[hidden][0]} regions of at most {counts[hidden][1]}")
    if args.plot:
        picture(args.plot, line, fits, regions(3, args.seed, reach=3.0))
    return {"fits": fits, "regions": counts}


if __name__ == "__main__":
    main()
