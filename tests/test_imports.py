"""Imports point left; backends see little of graphc, and graphc names no backend (docs/architecture.md)."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for root in ("graphc", "backends") for path in (ROOT / root).rglob("*.py"))
LAYERS = "errors config|cache|files ir|program|phased rules|lang backend|passes nn optim|compiler data|train render|cli"
LAYER = {part: i for i, layer in enumerate(LAYERS.split("|")) for part in layer.split()}
SEEN_BY_BACKENDS = {"errors", "config", "cache", "files", "ir", "program", "phased", "backend"}

def imports(tree):  # (part, is_lazy) of each import of graphc.part; to import graphc itself is to import cli
    lazy = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)):
        assert not getattr(node, "level", 0), f"line {node.lineno}: a relative import"
        for alias in node.names:
            name = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
            if name.split(".")[0] == "graphc":
                yield next((part for part in name.split(".")[1:2] if part in LAYER), "cli"), id(node) in lazy

@pytest.mark.parametrize("name", [p.relative_to(ROOT).as_posix() for p in FILES])
def test_imports_point_left(name):
    text, (root, part) = (ROOT / name).read_text(encoding="utf-8"), name.removesuffix(".py").split("/")[:2]
    for seen, is_lazy in imports(ast.parse(text)):
        if root == "backends" or (part == "backend" and seen != part):
            assert seen in SEEN_BY_BACKENDS, f"{name} imports graphc.{seen}"
        elif seen != part and not (part in ("lang", "compiler") and seen == "render" and is_lazy):
            assert LAYER[seen] < LAYER.get(part, len(LAYER)), f"{name} imports graphc.{seen}"
    assert root == "backends" or not ("graphc_numpy" in text or "graphc_llvm" in text), name
