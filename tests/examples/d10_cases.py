"""Narrow versions of the models of D10, at numbers that are made anew each time, by graphc and by PyTorch.

`by_torch` is written for PyTorch's functions, without graphc's layers or the example: it finds the parameters by their
names. Without PyTorch, recorded values stand for it:

    python -m tests.examples.d10_cases

records them in `d10_torch.json`. Of each array it holds the norm and some elements (`digest`).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphc as gc
from tests.examples.support import load

FILE = Path(__file__).with_name("d10_torch.json")
CLASSES = 10
ELEMENTS = 8  # of each array, evenly spaced, beside its norm

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A model of the example, two images, and which of its parameters and states are compared.

    rate: of the step's learning. tolerance: of float32 beside PyTorch's float64, as a share of the largest element.
    """

    model: str
    options: dict[str, Any]
    size: int
    gradients: tuple[str, ...]
    states: tuple[str, ...] = ()
    rate: float = 1e-3
    tolerance: float = 1e-4


CASES = {
    "alexnet": Case("alexnet", {"dropout": 0}, 64, ("features.0.weight", "features.10.bias", "classifier.4.weight")),
    "vgg19": Case("vgg19", {"dropout": 0}, 32, ("features.0.weight", "features.21.weight", "classifier.6.bias")),
    "googlenet": Case(
        "googlenet",
        {"dropout": 0},
        64,
        ("conv1.conv.weight", "inception4b.branch2.1.conv.weight", "inception5b.branch4.1.bn.weight", "fc.weight"),
        ("conv3.bn.running_mean", "inception4e.branch3.1.bn.running_var"),
        rate=1e-5,  # narrow as it is, its slopes are steep,
        tolerance=1e-3,  # and its last batch norms see eight values of each channel
    ),
    "inception": Case("inception", {}, 16, ("0.branch2.0.conv.weight", "0.branch4.1.bn.weight", "2.weight")),
    "resnet18": Case(
        "resnet18",
        {},
        64,
        ("conv1.weight", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias", "fc.bias"),
        ("bn1.running_mean", "layer3.0.downsample.1.running_var"),
    ),
    "densenet": Case(
        "densenet121",
        {"blocks": (2, 2)},
        64,
        (
            "features.conv0.weight",
            "features.denseblock1.denselayer2.conv1.weight",
            "features.transition1.conv.weight",
            "classifier.weight",
        ),
        ("features.denseblock2.denselayer2.norm1.running_mean", "features.norm5.running_var"),
    ),
}


def numbers(shape: tuple[int, ...], name: str) -> Array:
    """Float32 numbers, uniform over (-1, 1), from the bits of NumPy's Philox, which no version changes."""
    bits = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    return (bits / 2.0**63 - 1).reshape(shape).astype(np.float32)


def value(name: str, shape: tuple[int, ...]) -> Array:
    """A parameter's: weights keep the size of what passes through (He), scales are around 1, biases small."""
    if len(shape) > 1:
        return numbers(shape, name) * np.float32(np.sqrt(6 / np.prod(shape[1:])))
    return numbers(shape, name) * np.float32(0.2) + np.float32(0 if name.endswith("bias") else 1)


def made(case: Case) -> gc.nn.Module:
    """The model, an eighth as wide, with these values."""
    example = load("D10")
    if case.model == "inception":
        block = example.Inception(3, 4, 5, 6, 3, 4, 2)
        model = gc.nn.Sequential(block, gc.nn.GlobalAvgPool(), gc.nn.Linear(16, CLASSES))
    else:
        model = example.build(case.model, case.size, classes=CLASSES, narrow=8, **case.options)
    for name, variable in model.named_parameters():
        variable.value = value(name, variable.shape)
    return model


def batch(case: Case) -> tuple[Array, Array]:
    """Two images and their classes."""
    return numbers((2, 3, case.size, case.size), f"images of {case.model}"), np.array([3, 7])


def by_graphc(case: Case, backend: str) -> dict[str, Array]:
    """A step of SGD with momentum: the loss, gradients, the same parameters after the step, statistics."""
    model, (images, labels) = made(case), batch(case)
    x, t = gc.input("x", images.shape), gc.input("t", labels.shape, dtype="int64")
    loss = gc.nn.cross_entropy(model(x, training=True), t)
    parameters, states = dict(model.named_parameters()), dict(model.named_states())
    wanted = gc.grad(loss, list(parameters.values()))
    shown = [gradient for name, gradient in zip(parameters, wanted, strict=True) if name in case.gradients]
    names = [name for name in parameters if name in case.gradients]
    updates = gc.optim.SGD(lr=case.rate, momentum=0.9).updates_from(wanted, list(parameters.values()))
    step = gc.compile([x, t], [loss, *shown], updates, backend=backend)
    first, *gradients = step(images, labels)
    found = {"loss": first} | {f"gradient {name}": one for name, one in zip(names, gradients, strict=True)}
    found |= {f"state {name}": states[name].value for name in case.states}
    again, *_ = step(images, labels)
    return found | {"loss of the next step": again}


def digest(array: Any) -> list[float]:
    """The norm, and some elements."""
    flat = np.asarray(array, dtype=np.float64).ravel()
    places = np.linspace(0, flat.size - 1, min(ELEMENTS, flat.size)).astype(int)
    return [float(np.linalg.norm(flat)), *flat[places].tolist()]


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def by_torch(case: Case) -> dict[str, Array]:
    """The same by PyTorch in float64."""
    import torch  # in few environments

    leaves = {
        name: torch.tensor(value(name, variable.shape), dtype=torch.float64, requires_grad=True)
        for name, variable in made(case).named_parameters()
    }
    images, labels = (torch.tensor(array) for array in batch(case))
    optimiser = torch.optim.SGD(leaves.values(), lr=case.rate, momentum=0.9)
    found: dict[str, Array] = {}
    for name in ("loss", "loss of the next step"):
        net = Net(leaves)
        scores = getattr(net, case.model)(images.double())
        loss = torch.nn.functional.cross_entropy(scores, labels)
        optimiser.zero_grad()
        loss.backward()
        found[name] = loss.detach().numpy()
        if name == "loss":
            found |= {f"gradient {key}": leaves[key].grad.numpy().copy() for key in case.gradients}
            found |= {f"state {key}": net.states[key].numpy() for key in case.states}
        optimiser.step()
    return found


class Net:
    """The models as functions of parameters that are found by name."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        import torch.nn.functional as functions  # in few environments

        self.p, self.f = parameters, functions
        self.states: dict[str, Any] = {}  # running statistics after this pass

    def conv(self, x: Any, name: str, **options: Any) -> Any:
        return self.f.conv2d(x, self.p[f"{name}.weight"], self.p.get(f"{name}.bias"), **options)

    def linear(self, x: Any, name: str) -> Any:
        return self.f.linear(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"])

    def norm(self, x: Any, name: str, eps: float = 1e-5) -> Any:
        mean, var = x.new_zeros(x.shape[1]), x.new_ones(x.shape[1])
        self.states |= {f"{name}.running_mean": mean, f"{name}.running_var": var}
        weight, bias = self.p[f"{name}.weight"], self.p[f"{name}.bias"]
        return self.f.batch_norm(x, mean, var, weight, bias, training=True, eps=eps)

    def chain(self, x: Any, plan: str, **first: Any) -> Any:
        """c: a convolution that keeps the size, then ReLU; f: the same with the options `first`; m: 2x2 pooling, M: 3x3
        pooling with stride 2. Convolutions are named by position, and ReLU and pooling have positions, too."""
        position = 0
        for part in plan:
            if part in "mM":
                x, position = self.f.max_pool2d(x, 2 if part == "m" else 3, 2), position + 1
            else:
                size = self.p[f"features.{position}.weight"].shape[-1]
                options = first if part == "f" else {"padding": size // 2}
                x = self.f.relu(self.conv(x, f"features.{position}", **options))
                position += 2
        return x.flatten(1)

    def head(self, x: Any, positions: tuple[int, int, int]) -> Any:
        for position in positions[:2]:
            x = self.f.relu(self.linear(x, f"classifier.{position}"))
        return self.linear(x, f"classifier.{positions[2]}")

    def alexnet(self, x: Any) -> Any:
        return self.head(self.chain(x, "fMcMcccM", stride=4, padding=2), (1, 4, 6))

    def vgg19(self, x: Any) -> Any:
        return self.head(self.chain(x, "ccmccmccccmccccmccccm"), (0, 3, 6))

    def googlenet(self, x: Any) -> Any:
        def pool(x: Any, size: int = 3) -> Any:
            return self.f.max_pool2d(x, size, 2, ceil_mode=True)

        x = pool(self.basic(x, "conv1", stride=2, padding=3))
        x = pool(self.basic(self.basic(x, "conv2"), "conv3", padding=1))
        for stage in ("3a", "3b"):
            x = self.block(x, f"inception{stage}")
        x = pool(x)
        for stage in ("4a", "4b", "4c", "4d", "4e"):
            x = self.block(x, f"inception{stage}")
        x = pool(x, 2)
        for stage in ("5a", "5b"):
            x = self.block(x, f"inception{stage}")
        return self.linear(x.mean((2, 3)), "fc")

    def inception(self, x: Any) -> Any:
        return self.linear(self.block(x, "0").mean((2, 3)), "2")

    def basic(self, x: Any, name: str, **options: Any) -> Any:
        return self.f.relu(self.norm(self.conv(x, f"{name}.conv", **options), f"{name}.bn", eps=1e-3))

    def block(self, x: Any, name: str) -> Any:
        branches = [self.basic(x, f"{name}.branch1")]
        for branch in ("branch2", "branch3"):
            branches.append(self.basic(self.basic(x, f"{name}.{branch}.0"), f"{name}.{branch}.1", padding=1))
        branches.append(self.basic(self.f.max_pool2d(x, 3, 1, 1), f"{name}.branch4.1"))
        return self.cat(branches)

    def resnet18(self, x: Any) -> Any:
        x = self.f.relu(self.norm(self.conv(x, "conv1", stride=2, padding=3), "bn1"))
        x = self.f.max_pool2d(x, 3, 2, 1)
        for name in (f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)):
            shortcut, stride = x, 1
            if f"{name}.downsample.0.weight" in self.p:
                stride = 2
                shortcut = self.norm(self.conv(x, f"{name}.downsample.0", stride=2), f"{name}.downsample.1")
            y = self.f.relu(self.norm(self.conv(x, f"{name}.conv1", stride=stride, padding=1), f"{name}.bn1"))
            x = self.f.relu(shortcut + self.norm(self.conv(y, f"{name}.conv2", padding=1), f"{name}.bn2"))
        return self.linear(x.mean((2, 3)), "fc")

    def densenet121(self, x: Any) -> Any:
        def before(x: Any, name: str, norm: str, conv: str, **options: Any) -> Any:
            return self.conv(self.f.relu(self.norm(x, f"{name}.{norm}")), f"{name}.{conv}", **options)

        x = self.f.relu(self.norm(self.conv(x, "features.conv0", stride=2, padding=3), "features.norm0"))
        x = self.f.max_pool2d(x, 3, 2, 1)
        for block in (1, 2):
            seen = [x]
            for layer in (1, 2):
                name = f"features.denseblock{block}.denselayer{layer}"
                y = before(self.cat(seen), name, "norm1", "conv1")
                seen.append(before(y, name, "norm2", "conv2", padding=1))
            x = self.cat(seen)
            if block == 1:
                x = self.f.avg_pool2d(before(x, "features.transition1", "norm", "conv"), 2)
        return self.linear(self.f.relu(self.norm(x, "features.norm5")).mean((2, 3)), "classifier")

    @property
    def cat(self) -> Callable[[list[Any]], Any]:
        import torch  # in few environments

        return lambda parts: torch.cat(parts, 1)


def record() -> None:
    """Write `d10_torch.json`."""
    found = {
        name: {what: digest(array) for what, array in by_torch(case).items()} for name, case in CASES.items()
    }
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8", newline="\n")


def recorded() -> dict[str, dict[str, list[float]]]:
    """{case: {what: digest}}."""
    found: dict[str, dict[str, list[float]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    record()
