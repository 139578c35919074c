"""What the generated code is made of before it is text: expressions aligned with loop axes, and lines.

A line that is one ufunc keeps its parts, so that `graphc_numpy.reuse` may still choose where its result goes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from graphc_numpy.helpers import HELPERS
from graphc_numpy.names import Names

Memory = tuple[tuple[int, ...], str]  # shape and dtype
_LARGEST_SHARED = 1 << 16  # elements of a temporary that is kept for when it is needed again


@dataclass(frozen=True)
class Frame:
    """Loop axes in the order in which arrays lay them out, with their extents."""

    axes: tuple[int, ...]
    extents: tuple[int, ...]

    def extent(self, axis: int) -> int:
        return self.extents[self.axes.index(axis)]


@dataclass(frozen=True)
class Ref:
    """An expression aligned with `axes`: it broadcasts to their extents.

    shape has an extent for each axis, 1 where the expression does not depend on it; the first `lead` axes are absent
    from the array, as NumPy's broadcasting allows. in_order: the strides fall from axis to axis, so that the result
    of a ufunc is contiguous. fresh: new memory that nothing else refers to.
    """

    text: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    reads: tuple[str, ...] = ()
    lead: int = 0
    in_order: bool = True
    atomic: bool = True
    literal: bool = False
    fresh: bool = False

    @property
    def array_shape(self) -> tuple[int, ...]:
        """The shape of the NumPy array."""
        return self.shape[self.lead :]

    @property
    def operand(self) -> str:
        """The text as an operand of an infix operator, an index or a method."""
        return self.text if self.atomic else f"({self.text})"

    def permuted(self, axes: Sequence[int]) -> Ref:
        """The same with its axes in another order."""
        if tuple(axes) == self.axes:
            return self
        order = [self.axes.index(axis) for axis in axes]
        shape = tuple(self.shape[position] for position in order)
        if not self.array_shape:
            return replace(self, axes=tuple(axes), shape=shape)
        text = self.operand + (f"[{'None, ' * self.lead}...]" if self.lead else "") + transposition(order)
        return replace(self, text=text, axes=tuple(axes), shape=shape, lead=0, in_order=False, atomic=True, fresh=False)


def transposition(order: Sequence[int]) -> str:
    """The method call that puts an array's axes in this order.

    >>> transposition((0, 1)), transposition((1, 0)), transposition((0, 2, 1))
    ('', '.T', '.transpose(0, 2, 1)')
    """
    if list(order) == sorted(order):
        return ""
    if list(order) == sorted(order, reverse=True):
        return ".T"
    return f".transpose({', '.join(map(str, order))})"


def shape_text(shape: Sequence[int]) -> str:
    """A shape as a Python tuple."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


@dataclass(frozen=True)
class Call:
    """A ufunc on operands: their texts, and for each the variable that it is when it is one whole array."""

    function: str
    symbol: str | None
    operands: tuple[str, ...]
    arguments: tuple[str, ...]
    whole: tuple[str | None, ...]
    is_ordered: bool

    def text(self, out: str | None = None) -> str:
        if out is not None:
            return f"{self.function}({', '.join(self.arguments)}, out={out})"
        if not self.is_ordered:
            return f'{self.function}({", ".join(self.arguments)}, order="C")'
        if self.symbol is None:
            return f"{self.function}({', '.join(self.arguments)})"
        if len(self.operands) == 1:
            return f"{self.symbol}{self.operands[0]}"
        return f"{self.operands[0]} {self.symbol} {self.operands[1]}"


@dataclass(frozen=True)
class Line:
    """One statement (or one small loop) of a kernel. `memory` is set when the target is new, contiguous memory of its
    own."""

    text: str
    reads: tuple[str, ...]
    target: str | None = None
    memory: Memory | None = None
    view_of: str | None = None
    call: Call | None = None
    kernel: int = 0


@dataclass
class Code:
    """The lines so far, with the names, arrays and helper functions that they use. `kernel`: whose lines come next."""

    names: Names = field(default_factory=Names)
    lines: list[Line] = field(default_factory=list)
    arrays: dict[str, Memory] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)
    cache: dict[tuple[object, ...], Ref] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    stem: str = "value"
    kernel: int = 0

    def helper(self, name: str) -> str:
        """The name of a helper function, which will be printed."""
        assert name in HELPERS
        self.helpers.add(name)
        return name

    def fresh_name(self, stem: str | None = None) -> str:
        """A name like `stem`; without one, the name of what is being computed with a letter behind it."""
        if stem is not None:
            return self.names.unique(stem)
        count = self.steps[self.stem] = self.steps.get(self.stem, -1) + 1
        letters = chr(ord("a") + count % 26)
        while count >= 26:
            count = count // 26 - 1
            letters = chr(ord("a") + count % 26) + letters
        return self.names.unique(f"{self.stem}_{letters}")

    def statement(self, text: str, reads: Sequence[str]) -> None:
        """A statement that defines nothing; what it writes counts as read."""
        self.lines.append(Line(text, tuple(reads), kernel=self.kernel))

    def assign(
        self, text: str, reads: Sequence[str], memory: Memory, target: str | None = None, view_of: str | None = None
    ) -> str:
        """`target = text`; the variable's name. New memory, unless it is a view of another variable."""
        name = target or self.fresh_name()
        owned = memory if view_of is None and memory[0] else None
        self.lines.append(Line(text, tuple(reads), name, owned, view_of, kernel=self.kernel))
        self.arrays[name] = memory
        return name

    def bind(self, ref: Ref, target: str | None = None) -> Ref:
        """A variable of its own, contiguous memory, that holds the expression."""
        if ref.fresh and self.arrays.get(ref.text) is not None and target in (None, ref.text):
            return ref
        text = ref.text if ref.fresh else f"{ref.operand}.copy()"
        name = self.assign(text, ref.reads, (ref.array_shape, ref.dtype), target)
        return replace(ref, text=name, reads=(name,), in_order=True, atomic=True, fresh=True)

    def ufunc(
        self, function: str, symbol: str | None, operands: Sequence[Ref], dtype: str, target: str | None = None
    ) -> Ref:
        """`target = function(*operands)`, as an infix expression where there is a symbol.

        A small temporary that was computed before is not computed again.
        """
        texts = tuple(ref.text for ref in operands)
        key = (function, texts, tuple(ref.shape for ref in operands), operands[0].axes)
        if target is None and key in self.cache:
            return replace(self.cache[key], fresh=False)  # others refer to it
        axes = next(ref.axes for ref in operands)
        shape = tuple(max(extents) for extents in zip(*(ref.shape for ref in operands), strict=True)) if axes else ()
        lead = min(ref.lead for ref in operands)
        memory = (shape[lead:], dtype)
        whole = tuple(self._whole(ref) for ref in operands)
        is_ordered = all(ref.in_order for ref in operands)
        infix = tuple(ref.operand for ref in operands)
        if symbol == "**" and infix[0].startswith("-"):
            infix = (f"({infix[0]})", *infix[1:])
        call = Call(function, symbol, infix, texts, whole, is_ordered)
        name = target or self.fresh_name()
        reads = tuple(read for ref in operands for read in ref.reads)
        self.lines.append(Line("", reads, name, memory if memory[0] else None, None, call, self.kernel))
        self.arrays[name] = memory
        result = Ref(name, axes, shape, dtype, (name,), lead, fresh=True)
        if math.prod(memory[0]) <= _LARGEST_SHARED:
            self.cache[key] = result
        return result

    def _whole(self, ref: Ref) -> str | None:
        memory = self.arrays.get(ref.text)
        return ref.text if memory is not None and memory[0] == ref.array_shape else None
