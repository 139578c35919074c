"""The image models of the textbooks, at their full size: AlexNet, VGG-19, GoogLeNet, ResNet-18 and DenseNet-121.

Each takes colour images, (N, 3, size, size), and gives the scores of 1000 classes. Parameters have the names and
shapes of torchvision's models, so that a state_dict fits by name: VGG-19 has 143,667,240 of them, ResNet-18 11,689,512.

    python examples/d10_image_models.py --model resnet18 --summary --train-step

prints a table of the layers, which computes nothing and needs no memory for parameters; then one forward pass and steps
of stochastic gradient descent with momentum on random images, with times and the peak memory of the process:

    resnet18: 11,689,512 parameters, 1.81 G multiply-adds, receptive field 435
    forward: compiled in 0.57 s; first pass 0.021 s, then 0.020 s
    training: compiled in 1.55 s; steps of 0.086, 0.069, 0.076 s; losses 6.0435, 5.1156, 3.6819
    peak memory of the process: 0.26 GiB

`--narrow 8` divides all channels by 8, and `--size 64` makes the images smaller: a model for a first look. Weights of
torchvision's are loaded by `model.load_state_dict(weights, strict=False)`: dropout has a state here, its counter.
"""

import argparse
import sys
import time

import numpy as np

import graphc as gc
from graphc import nn


class AlexNet(nn.Module):
    """Five convolutions and three dense layers, in one tower (A. Krizhevsky, arXiv:1404.5997)."""

    def __init__(self, size=224, classes=1000, narrow=1, dropout=0.5):
        a, b, c, d, wide = (channels // narrow for channels in (64, 192, 384, 256, 4096))
        side = (size - 7) // 4 + 1  # after the first convolution; each pooling makes (side - 1) // 2 of it
        for _ in range(3):
            side = (side - 1) // 2
        self.features = nn.Sequential(
            nn.Conv2d(3, a, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
            nn.Conv2d(d, d, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(min(side, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(d * min(side, 6) ** 2, wide), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(wide, wide), nn.ReLU(),
            nn.Linear(wide, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(gc.flatten(self.avgpool(self.features(x)), 1))


class VGG19(nn.Module):
    """Sixteen 3x3 convolutions, with a pooling wherever the channels double (arXiv:1409.1556, configuration E)."""

    def __init__(self, size=224, classes=1000, narrow=1, dropout=0.5):
        layers, before = [], 3
        for repeats, channels in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
            for _ in range(repeats):
                layers += [nn.Conv2d(before, channels // narrow, 3, padding=1), nn.ReLU()]
                before = channels // narrow
            layers.append(nn.MaxPool2d(2))
        side, wide = min(size // 32, 7), 4096 // narrow
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(before * side**2, wide), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(wide, wide), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(wide, classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(gc.flatten(self.avgpool(self.features(x)), 1))


class BasicConv2d(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs, outputs, kernel, **options):
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return gc.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four views of one image side by side: 1x1, two of 1x1 then 3x3, and pooling then 1x1.

    The paper's third branch is 5x5; torchvision's models and weights have 3x3 there.
    """

    def __init__(self, inputs, one, before_three, three, before_five, five, pooled):
        self.branch1 = BasicConv2d(inputs, one, 1)
        self.branch2 = nn.Sequential(
            BasicConv2d(inputs, before_three, 1), BasicConv2d(before_three, three, 3, padding=1)
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(inputs, before_five, 1), BasicConv2d(before_five, five, 3, padding=1)
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), BasicConv2d(inputs, pooled, 1))

    def forward(self, x):
        return gc.concatenate([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], axis=1)


class GoogLeNet(nn.Module):
    """Nine inception blocks, with batch norm and without auxiliary heads (arXiv:1409.4842)."""

    def __init__(self, classes=1000, narrow=1, dropout=0.2):
        def block(*channels):
            return Inception(*(count // narrow for count in channels))

        a, b = 64 // narrow, 192 // narrow
        self.conv1 = BasicConv2d(3, a, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(a, a, 1)
        self.conv3 = BasicConv2d(a, b, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = block(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = block(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = block(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = block(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = block(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = block(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = block(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = block(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = block(832, 384, 192, 384, 48, 128, 128)
        self.avgpool = nn.GlobalAvgPool()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024 // narrow, classes)

    def forward(self, x):
        for _, layer in self.children():  # in the order in which they were set
            x = layer(x)
        return x


class BasicBlock(nn.Module):
    """relu(x + f(x)), f two 3x3 convolutions with batch norm; where f changes the shape, x goes through a 1x1 one."""

    def __init__(self, inputs, outputs, stride):
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = gc.relu(self.bn1(self.conv1(x)))
        return gc.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet18(nn.Module):
    """Eight residual blocks in four stages; each but the first halves the image (arXiv:1512.03385)."""

    def __init__(self, classes=1000, narrow=1):
        a, b, c, d = (channels // narrow for channels in (64, 128, 256, 512))
        self.conv1 = nn.Conv2d(3, a, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(a)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(a, a, 1), BasicBlock(a, a, 1))
        self.layer2 = nn.Sequential(BasicBlock(a, b, 2), BasicBlock(b, b, 1))
        self.layer3 = nn.Sequential(BasicBlock(b, c, 2), BasicBlock(c, c, 1))
        self.layer4 = nn.Sequential(BasicBlock(c, d, 2), BasicBlock(d, d, 1))
        self.avgpool = nn.GlobalAvgPool()
        self.fc = nn.Linear(d, classes)

    def forward(self, x):
        x = self.maxpool(gc.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x))


class DenseLayer(nn.Module):
    """`growth` new channels, from all channels so far."""

    def __init__(self, inputs, growth):
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(gc.relu(self.norm1(x)))
        return self.conv2(gc.relu(self.norm2(y)))


class DenseBlock(nn.ModuleDict):
    """Each layer sees what all layers before it have made."""

    def __init__(self, layers, inputs, growth):
        super().__init__({f"denselayer{n + 1}": DenseLayer(inputs + n * growth, growth) for n in range(layers)})

    def forward(self, x):
        for layer in self.values():
            x = gc.concatenate([x, layer(x)], axis=1)
        return x


class Transition(nn.Module):
    """Between two blocks: fewer channels, and half the image."""

    def __init__(self, inputs, outputs):
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x):
        return self.pool(self.conv(gc.relu(self.norm(x))))


class DenseNet121(nn.Module):
    """Dense blocks of 6, 12, 24 and 16 layers with transitions between them (arXiv:1608.06993)."""

    def __init__(self, classes=1000, narrow=1, blocks=(6, 12, 24, 16)):
        channels, growth = 64 // narrow, 32 // narrow
        features = {
            "conv0": nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
            "norm0": nn.BatchNorm2d(channels),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, stride=2, padding=1),
        }
        for n, layers in enumerate(blocks, 1):
            features[f"denseblock{n}"] = DenseBlock(layers, channels, growth)
            channels += layers * growth
            if n < len(blocks):
                features[f"transition{n}"] = Transition(channels, channels // 2)
                channels //= 2
        features["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.ModuleDict(features)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        for layer in self.features.values():
            x = layer(x)
        return self.classifier(gc.global_avg_pool(gc.relu(x)))


MODELS = {
    "alexnet": AlexNet,
    "vgg19": VGG19,
    "googlenet": GoogLeNet,
    "resnet18": ResNet18,
    "densenet121": DenseNet121,
}
LEAST_SIZE = {"alexnet": 63}  # of the images; 32 for the others: each of five halvings leaves something


def build(name, size=224, **options):
    """The model for images of this size. The first two are made for one size, the others for any."""
    if name in ("alexnet", "vgg19"):
        options["size"] = size
    return MODELS[name](**options)


def initialise(model, seed):
    """First weights that keep the size of what passes through many ReLU layers (K. He, arXiv:1502.01852)."""
    for position, weight in enumerate(model.parameters()):
        if weight.ndim > 1:
            weight.value = gc.init.he_normal((seed, position), layout="oi")(weight.shape, weight.dtype)


def peak_memory():
    """The most memory that this process has had, in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def timed(function, *arguments):
    begin = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - begin


def training_step(model, x, t, backend):
    """Stochastic gradient descent on the cross-entropy; statistics of batch norms move along."""
    loss = nn.cross_entropy(model(x, training=True), t)
    updates = gc.optim.SGD(lr=1e-3, momentum=0.9).updates(loss, model.parameters())
    return gc.compile([x, t], loss, updates, backend=backend, name="step")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="resnet18")
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--batch", type=int, default=1, help="images at once")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--narrow", type=int, default=1, choices=(1, 2, 4, 8), help="divide all channels by this")
    parser.add_argument("--summary", action="store_true", help="print the table of the layers")
    parser.add_argument("--train-step", action="store_true", help="compile a training step and run it three times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", help="numpy or llvm")
    args = parser.parse_args(argv)
    least = LEAST_SIZE.get(args.model, 32)
    if args.size < least:
        parser.error(f"{args.model} needs images of {least} or more pixels each way, not {args.size}")
    images = (args.batch, 3, args.size, args.size)
    rng = np.random.default_rng(args.seed)

    model = build(args.model, args.size, classes=args.classes, narrow=args.narrow)
    table = model.summary(images)
    if args.summary:
        print(table)
    field = max(row.receptive_field[2] for row in table.rows if len(row.output[0]) == 4)
    print(f"{args.model}: {table.parameters:,} parameters, {table.multiply_adds / 1e9:.2f} G multiply-adds, "
          f"receptive field {field}")  # fmt: skip

    initialise(model, args.seed)
    x, t = gc.input("x", images), gc.input("t", (args.batch,), dtype="int64")
    pictures, labels = rng.standard_normal(images, dtype=np.float32), rng.integers(0, args.classes, args.batch)
    predict, compiling = timed(lambda: gc.compile([x], model(x), backend=args.backend, name="predict"))
    scores, first = timed(predict, pictures)
    scores, again = timed(predict, pictures)
    print(f"forward: compiled in {compiling:.2f} s; first pass {first:.3f} s, then {again:.3f} s")
    results = {"model": model, "summary": table, "scores": scores, "forward": [compiling, first, again]}

    if args.train_step:
        step, compiling = timed(training_step, model, x, t, args.backend)
        losses, seconds = zip(*(timed(step, pictures, labels) for _ in range(3)), strict=True)
        print(f"training: compiled in {compiling:.2f} s; steps of " + ", ".join(f"{s:.3f}" for s in seconds)
              + " s; losses " + ", ".join(f"{loss:.4f}" for loss in losses))  # fmt: skip
        results |= {"losses": [float(loss) for loss in losses], "training": [compiling, *seconds]}
    results["peak"] = peak_memory()
    if results["peak"] is not None:
        print(f"peak memory of the process: {results['peak'] / 2**30:.2f} GiB")
    return results


if __name__ == "__main__":
    main()
