"""Program: an ordered list of kernels over named buffers, what a backend receives.

    Program  ::= buffers, kernels, inputs, outputs, updates
    Kernel   ::= kind, outer, Stage, Stage, ..., Loop (of a scan)
    Loop     ::= length, the Program of one step, ...
    Stage    ::= a Generic or an Opaque, the buffers that it reads (one for each operand) and the one that it writes

All extents are known. A kernel is one fused loop nest: its stages share the outermost `outer` axes (the first axes of
each stage's domain, in order), run one after another inside one outer iteration, and may hand values on through
`scratch` buffers, which are shaped like the whole array but of which only the current outer iteration's slice is ever
live. kind is

    loops        plain loops; any mixture of maps and reductions
    contraction  the first stage is a sum of products; the stages after it are elementwise on its result
    opaque       one op outside index notation
    scan         a loop (`graphc.ir.loop`), with a stage for each of its results

A stage with `initialise` fills its buffer with the reducer's identity first, because its points do not write every
element. Several stages may write parts of one buffer (a Join). After the last kernel each update copies a buffer into
a param or a state: nothing before that writes to what the caller owns, so a failed call changes nothing.

Buffer kinds: input, param, state, constant (with its array), temporary (at `offset` bytes of one arena), scratch,
output, update: the next value of a param or state, written where nothing reads the old one any more, so that it may
have the memory of its target, and then need not be copied. A buffer with `alias` is the memory of another, in a
different shape or under another name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from graphc.ir.affine import axis_name
from graphc.ir.extent import format_shape
from graphc.ir.node import Generic, Opaque
from graphc.ir.printer import format_generic

ITEM_SIZES = {"bool": 1, "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "float64": 8}
ALIGNMENT = 64  # bytes: a cache line, and the widest vector of the processors that we know


@dataclass(frozen=True, eq=False)
class Buffer:
    """A named array of known shape."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    offset: int | None = None
    alias: str | None = None
    value: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """The number of elements."""
        total = 1
        for extent in self.shape:
            total *= extent
        return total

    @property
    def nbytes(self) -> int:
        return self.size * ITEM_SIZES[self.dtype]

    @property
    def strides(self) -> tuple[int, ...]:
        """Row-major, in elements."""
        strides: list[int] = []
        step = 1
        for extent in reversed(self.shape):
            strides.append(step)
            step *= extent
        return tuple(reversed(strides))


@dataclass(frozen=True, eq=False)
class Stage:
    """One Generic or Opaque with its buffers. `where` is the user's line, `scope` the part of the model."""

    node: Generic | Opaque
    reads: tuple[str, ...]
    write: str
    initialise: bool = False
    where: str | None = None
    scope: str = ""
    op: str = ""

    def __str__(self) -> str:
        if isinstance(self.node, Generic):
            text = format_generic(self.node, self.reads)
        else:
            attributes = "".join(f", {key}={value}" for key, value in self.node.attributes)
            text = f"{self.node.op}({', '.join(self.reads)}{attributes})"
        return f"{self.write} {'<-' if self.initialise else '='} {text}"


@dataclass(frozen=True, eq=False)
class Loop:
    """What the kernel of a scan does `length` times.

    program: one step. Its inputs are the leaves of the step in order: `carried` of them, `sliced` slices, constants; a
        stage of the kernel reads where each comes from, in the same order. Its outputs are computed once each; it has
        no updates and no constants.
    following: for each carried one the position of the output that it becomes.
    results: for each stage of the kernel the position of the output that it stacks, or, where `finals` has the number
        of a carried one and not -1, which that one is after the last step.
    """

    program: Program
    length: int
    reverse: bool
    carried: int
    sliced: int
    following: tuple[int, ...]
    results: tuple[int, ...]
    finals: tuple[int, ...]

    def __str__(self) -> str:
        results = ", ".join(
            f"stack {place}" if final < 0 else f"carried {final}"
            for place, final in zip(self.results, self.finals, strict=True)
        )
        direction = "backwards" if self.reverse else "forwards"
        return (
            f"{self.length} steps {direction}, carried {self.carried} from outputs {self.following}, "
            f"sliced {self.sliced}, results {results}\n{self.program}"
        )


@dataclass(frozen=True, eq=False)
class Kernel:
    """One fused loop nest; see the module's text."""

    name: str
    kind: str
    outer: int
    stages: tuple[Stage, ...]
    loop: Loop | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The buffers read, each once, without those that the kernel itself writes first."""
        seen: dict[str, None] = {}
        written: set[str] = set()
        for stage in self.stages:
            for name in stage.reads:
                if name not in written:
                    seen.setdefault(name)
            written.add(stage.write)
        return tuple(seen)

    @property
    def writes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stage.write for stage in self.stages))

    def __str__(self) -> str:
        first = self.stages[0].node
        axes = ""
        if isinstance(first, Generic) and self.outer:
            axes = f" for {', '.join(f'{axis_name(a)}<{first.domain[a]}' for a in range(self.outer))}"
        lines = [f"{self.kind} {self.name}{axes}:"]
        lines += [f"    {stage}" for stage in self.stages]
        if self.loop is not None:
            lines.append("    " + str(self.loop).replace("\n", "\n    "))
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Program:
    """What a backend compiles. `inputs` are the buffers of the leaves in the order in which a call passes them."""

    name: str
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    updates: tuple[tuple[str, str], ...]  # (source buffer, target param or state)
    arena_bytes: int = 0
    by_name: dict[str, Buffer] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {buffer.name: buffer for buffer in self.buffers})

    def root(self, name: str) -> Buffer:
        """The buffer that owns the memory of `name`."""
        buffer = self.by_name[name]
        while buffer.alias is not None:
            buffer = self.by_name[buffer.alias]
        return buffer

    def stages(self) -> Iterator[Stage]:
        """All stages of all kernels, in order; not those of the steps of loops."""
        for kernel in self.kernels:
            yield from kernel.stages

    def all_stages(self) -> Iterator[Stage]:
        """All stages of all kernels, those of the steps of loops before the loop's own."""
        for kernel in self.kernels:
            if isinstance(kernel.loop, Loop):
                yield from kernel.loop.program.all_stages()
            yield from kernel.stages

    @property
    def digest(self) -> str:
        """A hash of the text, the constants' values included: equal programs have equal digests."""
        hasher = hashlib.sha256(str(self).encode())
        for buffer in self.buffers:
            if buffer.value is not None:
                hasher.update(buffer.value.tobytes())
        return hasher.hexdigest()

    def __str__(self) -> str:
        lines = [f"program {self.name}({', '.join(self.inputs)})"]
        for buffer in self.buffers:
            place = f" at {buffer.offset}" if buffer.offset is not None else ""
            alias = f" = {buffer.alias}" if buffer.alias is not None else ""
            lines.append(f"  {buffer.kind} {buffer.name}: {buffer.dtype}{format_shape(buffer.shape)}{place}{alias}")
        lines.extend("  " + str(kernel).replace("\n", "\n  ") for kernel in self.kernels)
        lines.extend(f"  {target} := {source}" for source, target in self.updates)
        lines.append(f"  return {', '.join(self.outputs)}")
        return "\n".join(lines)
