"""Pages of docs/ show real output: their code is run, and each line of output must come out."""

from __future__ import annotations

import re
from pathlib import Path

from graphc.ir.graph import Graph

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "architecture.md"


def test_contractions_page_shows_real_output():
    text = (DOCS / "contractions.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    exec(code, names)
    lines = {line.strip() for value in names["shown"] for line in str(value).splitlines()}
    made = "\n".join(lines)
    for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            assert line.strip() in lines or line.strip() in made, line


def test_architecture_page_shows_real_output():
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {}
    file = PAGE.with_suffix(".py")  # lines of the page name the nodes, as lines of a script would
    import linecache

    linecache.cache[str(file)] = (len(code), None, code.splitlines(True), str(file))
    exec(compile(code.replace("gc.grad(loss, x)", "dx := gc.grad(loss, x)"), str(file), "exec"), names)
    step = names["step"]
    made = [str(Graph((names["loss"].node, names["dx"].node)))]
    made += [step.source(kind) for kind in ("graph", "program", "numpy", "llvm")]
    shown = {line.strip() for one in made for line in one.splitlines()}
    everything = "\n".join(made)
    for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            assert line.strip() in shown or line.strip() in everything, line
