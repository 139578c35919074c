"""What an exported program looks like from outside: its tensors by group, its dimensions, its status codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from graphc.ir.extent import format_shape
from graphc.phased import PhasedProgram
from graphc.program import ALIGNMENT, ITEM_SIZES, Buffer, Program
from graphc_llvm.export_names import field_names, macro_prefix
from graphc_llvm.layout import Layout

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
    ("BAD_THREADS", "the number of threads is below 1, or above what this was made for"),
    ("NO_THREADS", "the system gives no more threads"),
    ("BAD_SIZE", "the size of a dimension is less, or more, than this was made for"),
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
    buffer that owns its memory. rows: the place of the dimension that the first extent is a multiple of."""

    name: str
    field: str
    buffer: Buffer
    root: str
    is_written: bool
    rows: int | None = None

    @property
    def item_size(self) -> int:
        return ITEM_SIZES[self.buffer.dtype]


RESERVED: Final = (*GROUPS, "workspace", "workspace_bytes")
"""The other arguments of run: no dimension is called so."""


@dataclass(frozen=True)
class Dimension:
    """A size that is an argument of each call, from `least` to `most`. name: as in Python; argument: in C; cell: the
    program's buffer that holds it."""

    name: str
    argument: str
    cell: str
    least: int
    most: int


@dataclass(frozen=True)
class Interface:
    """All that header, entry points and loaders agree on. `fields`: of each of GROUPS, in order of declaration; their
    buffers, as the program's, are for the sizes of dimensions that the program has, 1 each unless it is for a test.
    growing: (place of a dimension, bytes a row) of each part of the workspace, in whole cache lines, that comes to its
    `fixed_bytes`. threads: the most that a call may use; above 1 there are functions that start and stop them."""

    prefix: str
    program: Program | PhasedProgram
    fields: Mapping[str, tuple[Field, ...]]
    dimensions: tuple[Dimension, ...]
    fixed_bytes: int
    growing: tuple[tuple[int, int], ...]
    threads: int

    @property
    def macro(self) -> str:
        """What macros begin with: another word for each prefix."""
        return macro_prefix(self.prefix)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the dimensions for which the buffers are."""
        return tuple(self.program.sizes.values()) if isinstance(self.program, PhasedProgram) else ()

    @property
    def workspace_bytes(self) -> int:
        """Of a call with these sizes."""
        rows = sum(-(-self.sizes[place] * nbytes // ALIGNMENT) * ALIGNMENT for place, nbytes in self.growing)
        return self.fixed_bytes + rows

    def shape_text(self, field: Field) -> str:
        """A tensor's shape, with the names of dimensions."""
        if field.rows is None:
            return format_shape(field.buffer.shape)
        each, *others = field.buffer.shape
        name = self.dimensions[field.rows].argument
        inner = ", ".join((name if each == 1 else f"{each}*{name}", *map(str, others)))
        return f"({inner},)" if not others else f"({inner})"

    def arguments(self) -> list[tuple[str, int, Field]]:
        """(group, position in it, field) of all tensors, in order."""
        return [(group, at, field) for group in GROUPS for at, field in enumerate(self.fields[group])]


def interface_of(
    program: Program | PhasedProgram,
    prefix: str,
    passed: Sequence[str],
    names: Mapping[str, str],
    output_names: Sequence[str],
    layout: Layout,
    pointer_bits: int,
    threads: int,
) -> Interface:
    """passed: the params and states that are no data of the object. names: the users' names of inputs, params and
    states. output_names: theirs of outputs, "" where there is none: such a one is called output, or output0, output1
    ... in the order of all outputs."""
    dimensions = _dimensions(program, layout, pointer_bits)
    numbers = {dimension.name: number for number, dimension in enumerate(dimensions)}
    rows = {name: numbers[one] for name, one in program.rows.items()} if isinstance(program, PhasedProgram) else {}
    updated = {target for _, target in program.updates}
    inputs = [name for name in program.inputs if program.by_name[name].kind == "input"]
    given = [*output_names, *[""] * (len(program.outputs) - len(output_names))]
    only = len(program.outputs) == 1
    titles = [title or ("output" if only else f"output{at}") for at, title in enumerate(given)]

    def group(buffers: Sequence[str], called: Sequence[str], written: set[str]) -> tuple[Field, ...]:
        return tuple(
            Field(title, field, program.by_name[buffer], program.root(buffer).name, buffer in written, rows.get(buffer))
            for buffer, title, field in zip(buffers, called, field_names(called), strict=True)
        )

    fields = {
        "inputs": group(inputs, [names.get(name, name) for name in inputs], set()),
        "params": group(passed, [names.get(name, name) for name in passed], updated),
        "outputs": group(program.outputs, titles, set(program.outputs)),
    }
    growing = tuple((numbers[name], nbytes) for name, nbytes in layout.growing)
    return Interface(prefix, program, fields, dimensions, layout.arena_bytes, growing, threads)


def _dimensions(program: Program | PhasedProgram, layout: Layout, pointer_bits: int) -> tuple[Dimension, ...]:
    """Those of a phased program. No array and no workspace of the greatest size fills more than a quarter of what a
    pointer reaches, so that no address can overflow."""
    if not isinstance(program, PhasedProgram):
        return ()
    found: list[Dimension] = []
    arguments = field_names([*RESERVED, *(name for name, _, _ in program.dimensions)])[len(RESERVED) :]
    for argument, (name, cell, least) in zip(arguments, program.dimensions, strict=True):
        rows = [program.open.by_name[one].nbytes for one, dimension in program.rows.items() if dimension == name]
        rows.append(sum(nbytes + ALIGNMENT for dimension, nbytes in layout.growing if dimension == name))
        room = (1 << (pointer_bits - 2)) - layout.arena_bytes
        found.append(Dimension(name, argument, cell, least, max(room, 0) // max(*rows, 1)))
    return tuple(found)
