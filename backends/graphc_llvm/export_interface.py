"""What an exported program looks like from outside: its tensors by group, its dimensions, its status codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from graphc.program import ALIGNMENT, ITEM_SIZES, Buffer, Program
from graphc_llvm.export_names import field_names

ABI_VERSION: Final = 1
"""Of the functions and structs; another number where a caller that was compiled before would go wrong."""

STATUS: Final = (
    ("OK", "success"),
    ("BAD_INDEX", "an index is outside its axis"),
    ("NULL", "a pointer is null"),
    ("MISALIGNED", "a pointer is not aligned to the elements of its array"),
    ("OVERLAP", "an array that is written overlaps another argument"),
    ("WORKSPACE_NULL", "the workspace is null"),
    ("WORKSPACE_TOO_SMALL", "the workspace is smaller than is needed"),
    ("WORKSPACE_MISALIGNED", f"the workspace is not {ALIGNMENT}-byte aligned"),
    ("WORKSPACE_OVERLAP", "the workspace overlaps an argument"),
    ("SELFTEST_FAILED", "the self-test computed something else than what was recorded"),
)
"""Status codes from 0 up: the suffix of the macro and what strerror says."""

GROUPS: Final = ("inputs", "params", "outputs")
KINDS: Final = ("INPUT", "PARAM", "OUTPUT")
"""The first argument of describe, from 0 up: one for each of GROUPS."""

DTYPES: Final = ("float32", "float64", "int32", "int64", "uint32", "bool")
"""Codes of element types, from 0 up."""

C_TYPES: Final = {
    "float32": "float",
    "float64": "double",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint32": "uint32_t",
    "bool": "uint8_t",
}


def status_code(name: str) -> int:
    """The number of a status."""
    return [known for known, _ in STATUS].index(name)


@dataclass(frozen=True)
class Field:
    """A tensor that the caller passes: `name` is the user's, `field` that of the struct's field; `root` names the
    buffer that owns its memory."""

    name: str
    field: str
    buffer: Buffer
    root: str
    is_written: bool

    @property
    def item_size(self) -> int:
        return ITEM_SIZES[self.buffer.dtype]


@dataclass(frozen=True)
class Interface:
    """All that header, entry points and loaders agree on. `fields`: of each of GROUPS, in order of declaration.
    dimensions: the names of those whose sizes are arguments of a call."""

    prefix: str
    program: Program
    fields: Mapping[str, tuple[Field, ...]]
    dimensions: tuple[str, ...]
    workspace_bytes: int

    @property
    def macro(self) -> str:
        """What macros begin with."""
        return self.prefix.upper()

    def arguments(self) -> list[tuple[str, int, Field]]:
        """(group, position in it, field) of all tensors, in order."""
        return [(group, at, field) for group in GROUPS for at, field in enumerate(self.fields[group])]


def interface_of(
    program: Program,
    prefix: str,
    passed: Sequence[str],
    names: Mapping[str, str],
    output_names: Sequence[str],
    workspace_bytes: int,
) -> Interface:
    """passed: the params and states that are no data of the object. names: the users' names of inputs, params and
    states. output_names: theirs of outputs, "" where there is none: such a one is called output, or output0, output1
    ... in the order of all outputs."""
    updated = {target for _, target in program.updates}
    inputs = [name for name in program.inputs if program.by_name[name].kind == "input"]
    given = [*output_names, *[""] * (len(program.outputs) - len(output_names))]
    only = len(program.outputs) == 1
    titles = [title or ("output" if only else f"output{at}") for at, title in enumerate(given)]

    def group(buffers: Sequence[str], called: Sequence[str], written: set[str]) -> tuple[Field, ...]:
        return tuple(
            Field(title, field, program.by_name[buffer], program.root(buffer).name, buffer in written)
            for buffer, title, field in zip(buffers, called, field_names(called), strict=True)
        )

    fields = {
        "inputs": group(inputs, [names.get(name, name) for name in inputs], set()),
        "params": group(passed, [names.get(name, name) for name in passed], updated),
        "outputs": group(program.outputs, titles, set(program.outputs)),
    }
    return Interface(prefix, program, fields, (), workspace_bytes)
