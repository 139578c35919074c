"""D10, the image models: counts at full size, values of narrow ones against PyTorch, what the script prints.

Full-size passes and steps are in `full_size_d10.py` (`make test-models`).
"""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec

import numpy as np
import pytest

from tests.examples.d10_cases import CASES, by_graphc, by_torch, digest, recorded
from tests.examples.support import load, script

pytestmark = pytest.mark.feature("D10")

# Parameters and thousands of millions of multiply-adds of an image of 224x224, as torchvision's documentation lists
# them; the digest of torchvision 0.28's state_dict: of the sorted lines "name (shape)".
PUBLISHED = {
    "alexnet": (61_100_840, 0.714, "935c1ea73a7869ee"),
    "vgg19": (143_667_240, 19.632, "393fac8b08b63fbe"),
    "googlenet": (6_624_904, 1.498, "545eb1baab91f5d8"),
    "resnet18": (11_689_512, 1.814, "5191d63ec3989592"),
    "densenet121": (7_978_856, 2.834, "9c659ec278435e95"),
}

# (kernel, stride) of what lies on the widest path through the convolutions.
STEM = [(7, 2), (3, 2)]
WIDEST = {
    "alexnet": [(11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2)],
    "vgg19": [step for n in (2, 2, 4, 4, 4) for step in [(3, 1)] * n + [(2, 2)]],
    "googlenet": [*STEM, (3, 1), (3, 2), *[(3, 1)] * 2, (3, 2), *[(3, 1)] * 5, (2, 2), *[(3, 1)] * 2],
    "resnet18": [*STEM, *[(3, 1)] * 4, *([(3, 2)] + [(3, 1)] * 3) * 3],
    "densenet121": [*STEM, *[(3, 1)] * 6, (2, 2), *[(3, 1)] * 12, (2, 2), *[(3, 1)] * 24, (2, 2), *[(3, 1)] * 16],
}


def field(steps):
    """r = 1 + sum over the layers of (kernel - 1) times the strides before it (A. Araujo et al., Computing receptive
    fields of convolutional neural networks, Distill 2019, which gives 195 for AlexNet)."""
    size, stride = 1, 1
    for kernel, own in steps:
        size, stride = size + (kernel - 1) * stride, stride * own
    return size


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size_models_have_the_published_counts(name):
    parameters, giga, names = PUBLISHED[name]
    model = load("D10").build(name)
    table = model.summary((2, 3, 224, 224))
    assert table.parameters == parameters == sum(int(np.prod(p.shape)) for p in model.parameters())
    assert table.multiply_adds / 2e9 == pytest.approx(giga, abs=0.0006)
    assert table.rows[-1].output == ((2, 1000),)
    assert max(row.receptive_field[2] for row in table.rows if len(row.output[0]) == 4) == field(WIDEST[name])
    variables = [*model.named_parameters(), *model.named_states()]
    # A dropout layer counts its draws, which PyTorch's does not.
    lines = sorted(f"{name} {variable.shape}" for name, variable in variables if not name.endswith(".counter"))
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == names
    assert not any(parameter.is_made for parameter in model.parameters())  # counting needs no values


def test_alexnets_receptive_field_is_the_published_one():
    assert field(WIDEST["alexnet"]) == 195


@pytest.mark.parametrize("size, cells", [(63, 1), (92, 1), (94, 1), (95, 2), (127, 3), (222, 5), (224, 6)])
def test_alexnet_is_made_for_the_size_of_its_images(size, cells):
    model = load("D10").build("alexnet", size)
    assert model.summary((1, 3, size, size)).rows[-1].output == ((1, 1000),)
    assert dict(model.named_parameters())["classifier.1.weight"].shape == (4096, 256 * cells**2)


def agree(name, backend):
    """A step of the case on a backend beside PyTorch's."""
    found, expected, tolerance = by_graphc(CASES[name], backend), recorded()[name], CASES[name].tolerance
    assert found.keys() == expected.keys()
    for what, array in found.items():
        theirs = np.array(expected[what])
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(digest(array), theirs, rtol=tolerance, atol=tolerance * scale, err_msg=what)


# GoogLeNet as a whole takes LLVM nine seconds: one of its blocks here, all of it in `full_size_d10.py`.
CHECKED = [(name, "numpy") for name in CASES] + [(name, "llvm") for name in CASES if name != "googlenet"]


@pytest.mark.parametrize("name, backend", CHECKED)
def test_steps_of_narrow_models_agree_with_pytorch(name, backend):
    agree(name, backend)


if find_spec("torch") is not None:  # in the environment that `make bench` makes

    @pytest.mark.parametrize("name", CASES)
    def test_recorded_values_are_pytorchs(name):
        expected = recorded()[name]
        found = by_torch(CASES[name])
        assert found.keys() == expected.keys()
        for what, array in found.items():
            np.testing.assert_allclose(digest(array), expected[what], rtol=1e-7, atol=1e-9, err_msg=what)


# --- The script -------------------------------------------------------------------------------------------------------


def test_the_script_trains(capsys):
    arguments = "--narrow 8 --size 64 --batch 3 --classes 5 --summary --train-step --backend numpy".split()
    results = load("D10").main(arguments)
    printed = capsys.readouterr().out
    assert re.search(r"conv1 +Conv2d +\(3, 8, 32, 32\) +1,176 ", printed)
    count = results["summary"].parameters
    assert f"resnet18: {count:,} parameters, 0.01 G multiply-adds, receptive field 435" in printed
    assert results["scores"].shape == (3, 5) and np.isfinite(results["scores"]).all()
    first, second, third = results["losses"]
    assert first > second > third
    assert f"losses {first:.4f}, {second:.4f}, {third:.4f}" in printed
    counts = [state for name, state in results["model"].named_states() if name.endswith("num_batches_tracked")]
    assert len(counts) == 20 and all(count.value == 3 for count in counts)  # the steps train, and the pass does not
    if results["peak"] is not None:
        assert f"peak memory of the process: {results['peak'] / 2**30:.2f} GiB" in printed


def test_the_script_makes_one_pass_of_googlenet():
    results = load("D10").main("--model googlenet --narrow 8 --size 64".split())
    assert results["scores"].shape == (1, 1000) and np.isfinite(results["scores"]).all()
    assert "losses" not in results


@pytest.mark.parametrize("name, least", [("alexnet", 63), ("vgg19", 32), ("resnet18", 32)])
def test_the_script_names_the_least_size(name, least, capsys):
    with pytest.raises(SystemExit):
        load("D10").main(["--model", name, "--size", str(least - 1)])
    assert f"{name} needs images of {least} or more pixels each way, not {least - 1}" in capsys.readouterr().err
    results = load("D10").main(["--model", name, "--size", str(least), "--narrow", "8", "--backend", "numpy"])
    assert np.isfinite(results["scores"]).all()


def test_the_example_of_the_script_is_its_output():
    text = script("D10").read_text(encoding="utf-8").split('"""')[1]
    counted = re.search(r"resnet18: .*", text)
    assert counted is not None
    model = load("D10").build("resnet18").summary((1, 3, 224, 224))
    giga = model.multiply_adds / 1e9
    count = f"{model.parameters:,} parameters, {giga:.2f} G multiply-adds, receptive field {field(WIDEST['resnet18'])}"
    assert counted[0] == f"resnet18: {count}"
