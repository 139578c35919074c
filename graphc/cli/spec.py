"""SPEC: `file.py:name` or `module:name`, and what it names."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from graphc.compiler import Function
from graphc.errors import SpecError
from graphc.ir.graph import Graph
from graphc.ir.node import Input
from graphc.lang.tensor import Tensor, variables
from graphc.nn import Module

KINDS = "a tensor, a list of tensors or a compiled function"


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a SPEC names: tensors, and the compiled function when it is one. `namespace` holds the file's names."""

    spec: str
    tensors: tuple[Tensor, ...]
    function: Function | None
    namespace: Mapping[str, Any]

    @property
    def graph(self) -> Graph:
        """The outputs' graph; of a function without its updates."""
        names = tuple(tensor.name or "" for tensor in self.tensors)
        if len(self.tensors) == 1 and not names[0]:
            names = (self.spec.rpartition(":")[2],)
        return Graph(tuple(tensor.node for tensor in self.tensors), names)

    def leaf(self, name: str) -> Tensor:
        """A leaf of the graph by its name, or a tensor by its name in the file."""
        for leaf in self.graph.inputs:
            if leaf.name == name:
                return variables[leaf] if leaf in variables else Tensor(leaf)
        found = self.namespace.get(name)
        if isinstance(found, Tensor):
            return found
        names = ", ".join(dict.fromkeys(leaf.name for leaf in self.graph.inputs)) or "none"
        raise SpecError(f"{self.spec}: there is no leaf {name!r}; its leaves are {names}")


def load(spec: str) -> Loaded:
    """Import the file or module of a SPEC and find its name. Errors: `SpecError`, in one line."""
    place, separator, name = spec.rpartition(":")
    if not separator or not place or not name:
        raise SpecError(f"{spec!r} is no SPEC: file.py:name or module:name is needed, as in model.py:loss")
    module = _from_file(place) if place.endswith(".py") or os.sep in place else _from_path(place)
    namespace = vars(module)
    if name not in namespace:
        raise SpecError(f"{place} has no {name!r}; it offers {_offers(namespace)}")
    value = namespace[name]
    tensors = _tensors(value)
    if tensors:
        return Loaded(spec, tensors, None, namespace)
    if isinstance(value, Function):
        outputs = value.graph.outputs[: len(value.graph.names)]
        return Loaded(spec, tuple(Tensor(node) for node in outputs), value, namespace)
    what = f"{name!r} in {place} is {_article(type(value).__name__)}"
    if isinstance(value, Module):
        what += ", a model without an input: call it on one and name the result"
    raise SpecError(f"{what}; {KINDS} is needed, and {place} offers {_offers(namespace)}")


def _tensors(value: Any) -> tuple[Tensor, ...]:
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Tensor) for item in value):
        return tuple(value)
    return ()


def _article(word: str) -> str:
    return f"an {word}" if word[:1].lower() in "aeiou" else f"a {word}"


def _offers(namespace: Mapping[str, Any]) -> str:
    """The names of a file that a SPEC can use: expressions first, leaves last."""
    good: list[str] = []
    leaves: list[str] = []
    for name, value in namespace.items():
        if name.startswith("_"):
            continue
        if isinstance(value, Tensor) and isinstance(value.node, Input):
            leaves.append(name)
        elif isinstance(value, Function) or _tensors(value):
            good.append(name)
    return ", ".join([*good, *leaves]) or f"nothing that is {KINDS}"


def _from_file(place: str) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        beside = sorted(file.name for file in path.parent.glob("*.py")) if path.parent.is_dir() else []
        there = f"the folder has {', '.join(beside[:8])}" if beside else "its folder has no Python file"
        raise SpecError(f"there is no file {place}; {there}")
    name = f"graphc_spec_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path.resolve())
    if found is None or found.loader is None:
        raise SpecError(f"{place} cannot be imported: its name must end in .py")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))  # as Python does for a script: its neighbours can be imported
    try:
        found.loader.exec_module(module)
    except SyntaxError as error:
        raise SpecError(f"{error.filename or place}:{error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise SpecError(_what_happened(place, error, path.resolve())) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _from_path(place: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(f"{error.name}.")):
            hint = f"; a file is named with its .py, as in {place}.py" if Path(f"{place}.py").is_file() else ""
            raise SpecError(f"there is no module {place!r} on Python's path or in this folder{hint}") from None
        raise SpecError(_what_happened(place, error, None)) from error
    except SyntaxError as error:
        raise SpecError(f"{error.filename or place}:{error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise SpecError(_what_happened(place, error, None)) from error
    finally:
        sys.path.remove(os.getcwd())


def _what_happened(place: str, error: BaseException, path: Path | None) -> str:
    """The last line of an exception, with the line of the user's file that led to it."""
    frames: Sequence[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is not None and Path(frame.filename) == path]
    user = own or [frame for frame in frames if "importlib" not in frame.filename]
    where = f"{place if own else user[-1].filename}:{user[-1].lineno}: " if user else f"{place}: "
    message = getattr(error, "message", None) or str(error)
    first = " ".join(str(message).split())
    return f"{where}{type(error).__name__}{': ' if first else ''}{first} (while importing {place})"
