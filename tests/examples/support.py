"""What the tests of examples share: the scripts, imported by their paths, as examples/ is no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "examples"


def script(row: str) -> Path:
    """The path of the script of a row: "D1" is examples/d01_*.py."""
    (path,) = EXAMPLES.glob(f"d{int(row[1:]):02}_*.py")
    return path


def load(row: str) -> ModuleType:
    """The script of a row, imported afresh."""
    path = script(row)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
