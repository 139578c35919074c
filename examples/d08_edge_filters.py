"""Two filters of three by three find the edges of an image, and what they find moves with the image.

    across:  -1 0 1      down:  -1 -1 -1        y[i, j] = sum over a, b of filter[a, b] x[i + a, j + b]
             -1 0 1              0  0  0
             -1 0 1              1  1  1

The first tells how much brighter it is to the right of a point than to the left, the second below than above: each
sees edges along one direction and is blind to the other. The formula is the same at each place, so that shifting the
image shifts the result (it is equivariant). Max pooling over two by two keeps this for even shifts alone.

    python examples/d08_edge_filters.py --plot edges.png

prints, for a drawn square and a handwritten digit, the range of both results, and the largest difference between the
result of the shifted image and the shifted result, in the part that both show:

    square: across -3.00 to 3.00, down -3.00 to 3.00
    square: shifted by (2, 4), filters differ by 0, pooled ones by 0
    square: shifted by (1, 3), filters differ by 0, pooled ones by 3
    digit:  across -2.19 to 2.50, down -2.00 to 2.50
    digit:  shifted by (2, 4), filters differ by 0, pooled ones by 0
    digit:  shifted by (1, 3), filters differ by 0, pooled ones by 3

The picture shows both images with the results of both filters.
"""

import argparse

import numpy as np

import graphc as gc

ACROSS = np.array([[-1, 0, 1]] * 3, dtype="float32")
FILTERS = {"across": ACROSS, "down": ACROSS.T}
SHIFTS = ((2, 4), (1, 3))


def images(number):
    """A white square and a handwritten digit, each 20 by 20 with a dark border that is wider than the shifts."""
    square = np.zeros((20, 20), dtype="float32")
    square[6:14, 5:12] = 1
    digit = np.pad(gc.data.digits(as_images=True)[0][number, 0], 6)
    return {"square": square, "digit": digit}


def edges(image):
    """(H, W) to (2, H - 2, W - 2), one for each filter; and the largest of each two by two of those."""
    weight = gc.constant(np.stack(list(FILTERS.values()))[:, None])
    found = gc.conv2d(image[None, None], weight)
    return found[0], gc.max_pool2d(found, 2)[0]


def difference(moved, still, shift):
    """The largest difference between `moved` and `still` shifted down and to the right, where both have values."""
    down, right = shift
    kept = still[:, : still.shape[1] - down, : still.shape[2] - right]
    return np.abs(moved[:, down:, right:] - kept).max()


def picture(file, results):
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit("--plot needs matplotlib: pip install graphc[plot]") from None
    figure = Figure(figsize=(9, 6), layout="constrained")
    for row, (name, result) in zip(figure.subplots(2, 3), results.items(), strict=True):
        for axes, title, values in zip(row, (name, *FILTERS), (result["image"], *result["edges"]), strict=True):
            limit = np.abs(values).max()
            axes.imshow(values, cmap="coolwarm", vmin=-limit, vmax=limit)
            axes.set_title(title)
            axes.set_axis_off()
    figure.savefig(file)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digit", type=int, default=0, help="which of the 1,797 digits, counted from 0")
    parser.add_argument("--backend", help="numpy or llvm")
    parser.add_argument("--plot", metavar="FILE")
    args = parser.parse_args(argv)
    if not 0 <= args.digit < 1797:
        parser.error("--digit must be from 0 to 1796")
    x = gc.input("x", (20, 20))
    find = gc.compile([x], list(edges(x)), backend=args.backend)
    results = {}
    for name, image in images(args.digit).items():
        found, pooled = find(image)
        results[name] = {"image": image, "edges": found, "differences": {}}
        ranges = [f"{which} {one.min():.2f} to {one.max():.2f}" for which, one in zip(FILTERS, found, strict=True)]
        print(f"{name + ':':7} {', '.join(ranges)}")
        for shift in SHIFTS:
            moved, moved_pooled = find(np.roll(image, shift, axis=(0, 1)))
            halves = shift[0] // 2, shift[1] // 2
            both = difference(moved, found, shift), difference(moved_pooled, pooled, halves)
            results[name]["differences"][shift] = both
            print(f"{name + ':':7} shifted by {shift}, filters differ by {both[0]:.3g}, pooled ones by {both[1]:.3g}")
    if args.plot:
        picture(args.plot, results)
    return results


if __name__ == "__main__":
    main()
