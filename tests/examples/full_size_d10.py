"""The models of D10 at full size: a pass and training steps of each within 12 GiB. `make test-models` runs this file,
and no other command does: it takes a minute or two, and most of a small machine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.examples.support import EXAMPLES
from tests.examples.test_d10 import agree

pytestmark = [pytest.mark.feature("D10"), pytest.mark.slow]

MOST_MEMORY = 12 * 2**30  # bytes

# A process of its own for each, so that the peak of its memory is that of one model.
PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
import d10_image_models
results = d10_image_models.main(sys.argv[2:] + ["--train-step"])
print(json.dumps({key: results[key] for key in ("losses", "peak")} | {"shape": results["scores"].shape}))
"""


SINGLE = ["alexnet", "vgg19", "googlenet", "resnet18", "densenet121"]


@pytest.mark.parametrize("name, batch", [*((name, 1) for name in SINGLE), ("resnet18", 8)])
def test_a_pass_and_steps_within_12_gib(name, batch):
    arguments = [str(EXAMPLES), "--model", name, "--batch", str(batch)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
    print(done.stdout)  # times and memory, for `pytest -s`
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["shape"] == [batch, 1000]
    assert found["losses"][-1] < found["losses"][0]
    if found["peak"] is not None:  # some systems do not tell
        assert found["peak"] < MOST_MEMORY


def test_googlenets_narrow_step_agrees_with_pytorch_on_llvm():
    agree("googlenet", "llvm")
