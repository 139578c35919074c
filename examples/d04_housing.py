"""A structured network for the price of a house: what is known about the inputs decides which connections exist.

    x1 size      --+-> a1 family size   --+
    x2 bedrooms  --+                      |
    x3 location  --+-> a2 walkability   --+--> price
                   |                      |
    x3 location  --+-> a3 school quality -+
    x4 wealth    --+

With s the sigmoid: a1 = s(w11 x1 + w12 x2 + b1), a2 = s(w23 x3 + b2), a3 = s(w33 x3 + w34 x4 + b3) and
price = v1 a1 + v2 a2 + v3 a3 + c: 3 + 2 + 3 + 4 = 12 parameters, where a dense network of this size has 19. Connections
that are left out are not weights that happen to be zero: there is nothing that a gradient could move, and da1/dx3 is
zero whatever is learnt.

    python examples/d04_housing.py --plot prices.png

prints the parameters, the loss before and after training on made-up houses, and which inputs reach which a:

    12 parameters, loss 7.049 in the first epoch, 0.0026 in the last
    a1 depends on x1 x2
    a2 depends on x3
    a3 depends on x3 x4

The picture shows the history of the loss, and the learnt prices against the true ones.
"""

import argparse

import numpy as np

import graphc as gc


class Housing(gc.nn.Module):
    """(N, 4) inputs to (N, 1) prices, over three hidden units that each see some of the inputs."""

    def __init__(self, seed):
        self.family = gc.nn.Linear(2, 1, seed=(seed, 1))
        self.walkability = gc.nn.Linear(1, 1, seed=(seed, 2))
        self.schools = gc.nn.Linear(2, 1, seed=(seed, 3))
        self.price = gc.nn.Linear(3, 1, seed=(seed, 4))

    def hidden(self, x):
        a1 = gc.sigmoid(self.family(x[:, 0:2]))
        a2 = gc.sigmoid(self.walkability(x[:, 2:3]))
        a3 = gc.sigmoid(self.schools(x[:, 2:4]))
        return gc.concatenate([a1, a2, a3], axis=1)

    def forward(self, x):
        return self.price(self.hidden(x))


def houses(count, seed):
    """Made-up houses: four inputs between -1 and 1, and a price with a little noise."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (count, 4))
    a = 1 / (1 + np.exp(-np.stack([3 * x[:, 0] + x[:, 1], 2 * x[:, 2] - 1, 2 * x[:, 2] + 4 * x[:, 3]], axis=1)))
    price = a @ [3.0, 2.0, 1.0] + 1 + rng.normal(0, 0.05, count)
    return x.astype("float32"), price[:, None].astype("float32")


def picture(file, losses, prices, guesses):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install graphc[plot]") from None
    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(losses)
    left.set(xlabel="epoch", ylabel="loss")
    right.plot(prices, guesses, ".")
    right.set(xlabel="price", ylabel="guess")
    figure.savefig(file)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=100, help="epochs of training")
    parser.add_argument("--backend", help="numpy or llvm")
    parser.add_argument("--plot", metavar="FILE")
    args = parser.parse_args(argv)
    if args.steps < 1:
        parser.error("--steps must be at least 1")
    xs, prices = houses(512, args.seed)
    model = Housing(args.seed)
    history = gc.fit(
        model, gc.nn.mse_loss, (xs, prices), optimiser=gc.optim.Adam(lr=0.05), epochs=args.steps, backend=args.backend
    )
    losses = history["loss"]
    parameters = sum(p.value.size for p in model.parameters())
    print(f"{parameters} parameters, loss {losses[0]:.3f} in the first epoch, {losses[-1]:.4f} in the last")

    x = gc.input("x", (len(xs), 4))
    reached = np.array([gc.evaluate(gc.grad(gc.sum(model.hidden(x)[:, j]), x), {x: xs}).any(axis=0) for j in range(3)])
    for j in range(3):
        print(f"a{j + 1} depends on", *(f"x{i + 1}" for i in range(4) if reached[j, i]))
    guesses = gc.evaluate(model(x), {x: xs})
    if args.plot:
        picture(args.plot, losses, prices, guesses)
    return {"model": model, "parameters": parameters, "losses": losses, "reached": reached}


if __name__ == "__main__":
    main()
