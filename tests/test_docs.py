"""Pages of docs/ show real output: their code is run, and each line of output must come out."""

from __future__ import annotations

import linecache
import re
from pathlib import Path

from graphc.ir.graph import Graph

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "architecture.md"


def run(page: Path, code: str, changed: str = "") -> dict:
    """What a page's code defines; lines of the page name the nodes, as lines of a script would. `changed`: is run."""
    file = str(page.with_suffix(".py"))
    linecache.cache[file] = (len(code), None, code.splitlines(True), file)
    names: dict = {}
    exec(compile(changed or code, file, "exec"), names)
    return names


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


def test_profiling_page_shows_real_counts():
    text = (DOCS / "profiling.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = run(DOCS / "profiling.md", code)
    for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        assert set(block.splitlines()) <= set(names["shown"])
    (table,) = re.findall(r"```\n(step on .*?)```", text, re.DOTALL)  # its times are those of one day
    rows = re.compile(r"^(\w+) +(contraction|loops|copies) ", re.MULTILINE)
    assert sorted(rows.findall(table)) == sorted(rows.findall(str(names["found"])))


def test_architecture_page_shows_real_output():
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = run(PAGE, code, code.replace("gc.grad(loss, x)", "dx := gc.grad(loss, x)"))
    step = names["step"]
    made = [str(Graph((names["loss"].node, names["dx"].node)))]
    made += [step.source(kind) for kind in ("graph", "program", "numpy", "llvm")]
    shown = {line.strip() for one in made for line in one.splitlines()}
    everything = "\n".join(made)
    for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            assert line.strip() in shown or line.strip() in everything, line
