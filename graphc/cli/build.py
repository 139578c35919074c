"""graphc build SPEC -o DIR: the code of what a SPEC names as files for other programs (docs/embedding.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graphc.cli.options import sizes_of
from graphc.cli.spec import Loaded, load
from graphc.compiler import Function, compile
from graphc.errors import ExportError
from graphc.lang.tensor import Tensor, variables

SIZE = 1  # of a named dimension: most programs pass one example at a time


@dataclass(frozen=True)
class Options:
    """The command's options, as `Function.export` has them; `sizes` and `formats` as they were typed."""

    name: str | None
    sizes: tuple[str, ...]
    weights: str | None
    formats: str | None
    loader: str | None
    target: str | None
    cpu: str | None
    threads: int
    dynamic: str | None


def build(spec: str, folder: str, options: Options) -> int:
    """Write the files; print each with its size, then how much of the object is code and data; 0."""
    loaded = load(spec)
    name = options.name or spec.rpartition(":")[2]
    function = loaded.function or _compiled(loaded, name)
    dynamic = None if options.dynamic is None else [one.strip() for one in options.dynamic.split(",")]
    fixed = [one for one in function.dimensions if one not in (dynamic or function.dynamic)]
    try:
        exported = function.export(
            Path(folder, name),
            sizes=sizes_of(loaded, options.sizes, fixed, SIZE),
            dynamic=dynamic,
            weights=options.weights,
            formats=None if options.formats is None else [one.strip() for one in options.formats.split(",")],
            loader=options.loader,
            target=options.target,
            cpu=options.cpu,
            threads=options.threads,
        )
    except ExportError as error:  # no line of the user's is to blame, but an option
        raise ExportError(error.message) from None
    for path in exported:
        print(f"{path}  {Path(path).stat().st_size:,} bytes")
    if exported.code_bytes:
        print(f"{exported.code_bytes:,} bytes of code, {exported.data_bytes:,} of read-only data")
    for sentence in (*exported.left_out, *exported.notes):
        print(sentence)
    return 0


def _compiled(loaded: Loaded, name: str) -> Function:
    """The function of the expressions, with their inputs in the order in which they are met."""
    inputs = [Tensor(leaf) for leaf in loaded.graph.inputs if leaf not in variables]
    return compile(inputs, list(loaded.tensors), backend="llvm", name=name)
