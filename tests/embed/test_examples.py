"""Each example of examples/embed is one command, which ends with the right digit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import requires_tool

EXAMPLES = Path(__file__).parents[2] / "examples" / "embed"
TOOLS = {"c": ["cc"], "cpp": ["c++"], "rust": ["rustc"], "python": ["cc"], "node": ["node"], "train_c": ["cc"]}


def made(name, folder):
    for tool in ("make", *TOOLS[name]):
        requires_tool(tool)
    command = ["make", "-s", "-C", EXAMPLES / name, f"OUT={folder}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["c", "cpp", "rust", "python", "node"])
def test_a_real_digit_is_read(name, tmp_path):
    said = made(name, tmp_path)
    label = (tmp_path / "digit.label").read_text().strip()
    assert said.splitlines()[-1].startswith(f"this is a {label} (probability "), said
    right, _, count = said.splitlines()[0].split()[:3]
    assert int(right) >= 0.95 * int(count)


def test_c_learns_the_digits_with_the_exported_step_alone(tmp_path):
    said = made("train_c", tmp_path)
    losses = [float(line.split()[-1]) for line in said.splitlines() if line.startswith("epoch")]
    assert losses[0] > 0.5 and losses[-1] < 0.05
    percent = float(said.splitlines()[-1].split("%")[0])
    assert percent >= 95, said
