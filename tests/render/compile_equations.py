"""Every formula that graphc prints compiles under LaTeX and KaTeX: `make test-equations`, not part of `make test`.

It needs pdflatex and node, and KaTeX in build/katex (the make target installs it).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import graphc as gc
from graphc.render.equations.derive import equations_of
from graphc.render.equations.latex import latex_document_of, latex_of_graph
from graphc.render.gradients import Gradients, gradients_of, scalar_loss
from tests.render.equation_models import HOSTILE_NAMES, MODELS

KATEX = Path(__file__).parents[2] / "build" / "katex" / "node_modules" / "katex"
PROGRAM = """
const katex = require(process.argv[1]);
let text = "";
process.stdin.on("data", part => text += part);
process.stdin.on("end", () => {
  for (const [name, formula] of JSON.parse(text)) {
    try { katex.renderToString(formula, {displayMode: true, strict: "error", throwOnError: true}); }
    catch (error) { console.log(name + ": " + error.message.slice(0, 300)); }
  }
});
"""


def vgg19() -> gc.Tensor:
    """The features and classifier of VGG-19 (arXiv:1409.1556), at a width and size that compile at once."""
    layers: list[gc.nn.Module] = []
    channels = 3
    for width, count in ((4, 2), (8, 2), (16, 4), (32, 4), (32, 4)):
        for _ in range(count):
            layers += [gc.nn.Conv2d(channels, width, 3, padding=1), gc.nn.ReLU()]
            channels = width
        layers.append(gc.nn.MaxPool2d(2))
    layers += [gc.nn.Flatten(), gc.nn.Linear(32, 64), gc.nn.ReLU(), gc.nn.Linear(64, 64), gc.nn.ReLU()]
    layers.append(gc.nn.Linear(64, 10))
    model = gc.nn.Sequential(*layers)
    image, label = gc.input("image", ("N", 3, 32, 32)), gc.input("label", ("N",), dtype="int64")
    return gc.nn.cross_entropy(model(image), label)


def hostile() -> gc.Tensor:
    """Names that would be commands: of scalars, arrays, and read in index notation."""
    total = gc.input("x")
    for name in HOSTILE_NAMES:
        total = (total * gc.input(name)).named(name)
        array = gc.input(name, (3, 4)).named(name + "!")
        total = total + gc.sum(gc.tanh(array[:, 1:]).named(name + "?") @ gc.param(f"{name}.weight", (3, 2)))
    return total


def training_step() -> gc.Function:
    """A compiled step with updates, states and running statistics."""
    x, t = gc.input("x", ("N", 8)), gc.input("t", ("N",), dtype="int64")
    model = gc.nn.Sequential(gc.nn.Linear(8, 6), gc.nn.BatchNorm1d(6), gc.nn.Dropout(0.5), gc.nn.Linear(6, 3))
    loss = gc.nn.cross_entropy(model(x, training=True), t)
    updates = gc.optim.Adam(lr=1e-3).updates(loss, model.parameters())
    return gc.compile([x, t], [loss], updates=updates, backend="numpy")


@pytest.fixture(scope="module")
def formulas() -> list[tuple[str, str]]:
    """Each model forward and backward, in matrix and in index notation, for a page and for a formula."""
    found: list[tuple[str, str]] = []
    for name, make in {**MODELS, "vgg19": vgg19, "hostile": hostile}.items():
        tensor = make()
        outputs = [tensor.node]
        gradients = gradients_of(outputs) if scalar_loss(outputs) is not None else None
        graph = gradients.graph if isinstance(gradients, Gradients) else gc.render.graph_of(tensor)
        for index in (False, True):
            kind = f"{name}{' index' if index else ''}"
            parts = latex_document_of(equations_of(graph, gradients, index=index), index).split("\n\n")
            found += [(f"{kind} {number}", part) for number, part in enumerate(parts, 1)]
            if name != "vgg19":  # KaTeX does not take so long a formula at once
                found.append((f"{kind} aligned", latex_of_graph(graph, gradients, index=index)))
    for index in (False, True):
        step = training_step()
        written = equations_of(step.graph, index=index, targets=[target.node for target in step.targets])
        found += [(f"step {index}", part) for part in latex_document_of(written, index).split("\n\n")]
    return found


def test_katex(formulas: list[tuple[str, str]]) -> None:
    assert shutil.which("node"), "node is needed, which runs KaTeX"
    assert KATEX.is_dir(), f"KaTeX is needed in {KATEX}: `make test-equations` installs it with npm"
    result = subprocess.run(
        ["node", "-e", PROGRAM, str(KATEX)], input=json.dumps(formulas), capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def test_latex(formulas: list[tuple[str, str]], tmp_path: Path) -> None:
    assert shutil.which("pdflatex"), "pdflatex is needed (texlive with amsmath and amssymb)"
    lines = [r"\documentclass{article}", r"\usepackage{amsmath, amssymb}", r"\begin{document}"]
    for name, formula in formulas:
        aligned = formula.startswith(r"\begin{aligned}")
        lines += [f"% {name}", rf"\[{formula}\]" if aligned else formula, ""]
    (tmp_path / "all.tex").write_text("\n".join([*lines, r"\end{document}"]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-file-line-error", "all.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    output = result.stdout.decode(errors="replace")
    errors = [line for line in output.splitlines() if line.startswith(("!", "./all.tex"))]
    assert (errors, result.returncode) == ([], 0), output[-3000:]
