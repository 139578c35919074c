"""The nodes of a graph, and the factories that make them in normal form.

The grammar and the meaning of each kind stand in the package's docstring (`graphc.ir`). Nodes are immutable and
interned: two nodes with the same content are one object, except `Input`s, which are nominal. Make nodes through
`generic`, `view`, `join`, `const` and `opaque`; the classes themselves check nothing.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphc.errors import VerifyError
from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_row, identity
from graphc.ir.extent import Extent, Shape, format_shape, product
from graphc.ir.intern import Interned
from graphc.ir.origin import record

INSIDE, ZERO, SKIP = "inside", "zero", "skip"
REDUCERS = ("sum", "prod", "max", "min", "argmax", "argmin")
_REDUCER_NUMBERS: dict[str | None, int] = {reducer: number for number, reducer in enumerate(REDUCERS)}
_serial = itertools.count(1)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Input(metaclass=Interned):
    """A leaf whose value comes at run time. kind: "input", "param" or "state"."""

    name: str
    shape: Shape
    dtype: str
    kind: str
    serial: int
    operands: tuple[Node, ...] = field(init=False, default=(), repr=False)
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", (0, self.serial, zlib.crc32(self.name.encode())))


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Const(metaclass=Interned):
    """An array known when the graph is built."""

    content: bytes
    shape: tuple[int, ...]
    dtype: str
    operands: tuple[Node, ...] = field(init=False, default=(), repr=False)
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", (1, zlib.crc32(self.content), hash(self.shape)))

    @property
    def value(self) -> NDArray[Any]:
        """The array, read-only."""
        return np.frombuffer(self.content, dtype=self.dtype).reshape(self.shape)


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Generic(metaclass=Interned):
    """out[out_map(d)] (+)= body(operand_0[map_0(d)], ...) for each point d of the box `domain`."""

    domain: Shape
    shape: Shape
    out_map: AffineMap
    operands: tuple[Node, ...]
    maps: tuple[AffineMap, ...]
    modes: tuple[str, ...]
    body: sc.Scalar
    reducer: str | None
    dtype: str = field(init=False)
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        arg_reducer = self.reducer in ("argmax", "argmin")
        object.__setattr__(self, "dtype", "int64" if arg_reducer else self.body.dtype)
        content = hash(
            (
                *[extent if type(extent) is int else _hash_extent(extent) for extent in self.domain],
                self.out_map.digest,
                *map(_digest, self.operands),
                *[index_map.digest for index_map in self.maps],
                self.body.order,
                _REDUCER_NUMBERS.get(self.reducer, -1),
            )
        )
        object.__setattr__(self, "order", (_depth(self.operands), 0, content))

    @property
    def reduced_axes(self) -> tuple[int, ...]:
        """The axes of the domain that the output map does not read."""
        kept = self.out_map.axes
        return tuple(axis for axis in range(len(self.domain)) if axis not in kept)

    @property
    def is_map(self) -> bool:
        """Each point of the domain writes one element of its own, in the same order, and all are written."""
        return self.reducer is None and self.out_map.is_identity and self.domain == self.shape


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class View(metaclass=Interned):
    """The same contiguous elements in another shape (row-major)."""

    operand: Node
    shape: Shape
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        content = hash((2, _digest(self.operand), *(_hash_extent(extent) for extent in self.shape)))
        object.__setattr__(self, "order", (_depth((self.operand,)), 0, content))

    @property
    def operands(self) -> tuple[Node, ...]:
        return (self.operand,)

    @property
    def dtype(self) -> str:
        return self.operand.dtype


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Join(metaclass=Interned):
    """Generics that write disjoint parts of one array and together all of it."""

    parts: tuple[Generic, ...]
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        content = hash((3, *map(_digest, self.parts)))
        object.__setattr__(self, "order", (_depth(self.parts), 0, content))

    @property
    def operands(self) -> tuple[Node, ...]:
        return self.parts

    @property
    def shape(self) -> Shape:
        return self.parts[0].shape

    @property
    def dtype(self) -> str:
        return self.parts[0].dtype


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Step(metaclass=Interned):
    """One step of a loop (`graphc.ir.loop`): its own leaves, the next value of each carried one, and a value that is
    asked for. Its nodes read nothing but these leaves."""

    leaves: tuple[Input, ...]
    following: tuple[Node, ...]
    value: Node


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Opaque(metaclass=Interned):
    """An op that index notation does not cover; its meaning stands in `graphc.ir.opaque`, a loop's in
    `graphc.ir.loop`. step: what a loop does."""

    op: str
    operands: tuple[Node, ...]
    attributes: tuple[tuple[str, int], ...]
    shape: Shape
    dtype: str
    step: Step | None = None
    order: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        inside: tuple[Any, ...] = ()
        if self.step is not None:
            numbers = (number for _, number in self.attributes)
            inside = (*numbers, *map(_digest, (*self.step.following, self.step.value)))
        content = hash((4, zlib.crc32(self.op.encode()), *map(_digest, self.operands), *inside))
        object.__setattr__(self, "order", (_depth(self.operands), 0, content))

    def attribute(self, name: str) -> int:
        return dict(self.attributes)[name]


Node: TypeAlias = Input | Const | Generic | View | Join | Opaque


def alias_of(node: Node) -> Node | None:
    """The node whose memory a View, or an Opaque `again`, shows; None for every other node."""
    if isinstance(node, View) or (isinstance(node, Opaque) and node.op == "again"):
        return node.operands[0]
    return None


def _digest(node: Node) -> int | tuple[int, ...]:
    """What goes into the order of the nodes above: of a leaf its name, since its number depends on what else the
    process declared."""
    return node.order[2] if type(node) is Input else node.order


def _depth(operands: Sequence[Node]) -> int:
    return 2 + max((operand.order[0] for operand in operands), default=0)


def _hash_extent(extent: Extent) -> int:
    return extent if isinstance(extent, int) else extent.digest


def leaf(name: str, shape: Shape, dtype: str, kind: str) -> Input:
    """A new leaf, different from every other."""
    return Input(name, shape, dtype, kind, next(_serial))


def const(value: Any, dtype: str | None = None) -> Const:
    """An array as a node."""
    array = np.asarray(value, dtype=dtype)
    array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    node: Const = Const(array.tobytes(), tuple(int(extent) for extent in array.shape), array.dtype.name)
    record(node)
    return node


def view(operand: Node, shape: Shape) -> Node:
    """`operand` in another shape with as many elements."""
    if isinstance(operand, View):
        operand = operand.operand
    if operand.shape == shape:
        return operand
    if product(operand.shape) != product(shape):
        raise VerifyError(f"view: {format_shape(operand.shape)} and {format_shape(shape)} differ in size")
    node: View = View(operand, shape)
    record(node)
    return node


def join(parts: Sequence[Generic]) -> Node:
    """One array from Generics that write disjoint parts of it; a single part that writes all is that part."""
    parts = [part for part in parts if all(extent != 0 for extent in part.domain)] or list(parts[:1])
    if len(parts) == 1 and parts[0].out_map.is_identity and parts[0].domain == parts[0].shape:
        return parts[0]
    node: Join = Join(tuple(parts))
    record(node)
    return node


def opaque(
    op: str, operands: Sequence[Node], shape: Shape, dtype: str, step: Step | None = None, /, **attributes: int
) -> Opaque:
    """An op outside index notation."""
    node: Opaque = Opaque(op, tuple(operands), tuple(sorted(attributes.items())), shape, dtype, step)
    record(node)
    return node


def generic(
    domain: Shape,
    shape: Shape,
    out_map: AffineMap,
    operands: Sequence[Node],
    maps: Sequence[AffineMap],
    modes: Sequence[str],
    body: sc.Scalar,
    reducer: str | None,
) -> Node:
    """A Generic in normal form.

    The output's axes come first in the domain, equal reads become one, reads without use go (unless they skip points),
    modes become "inside" where every read provably is, a symmetric body's two operands are ordered, a sum with one
    term an element becomes a plain map, and a plain copy becomes its operand.
    """
    operands, maps, modes = list(operands), list(maps), list(modes)
    order = out_map.projection
    if order is not None and order != tuple(range(len(order))):
        domain, out_map, maps, body = _outputs_first(order, domain, out_map, maps, body)
    for j, (operand, index_map) in enumerate(zip(operands, maps, strict=True)):
        if modes[j] != INSIDE and index_map.stays_inside(domain, operand.shape):
            modes[j] = INSIDE
    operands, maps, modes, body = _merge_reads(domain, shape, out_map, operands, maps, modes, body)
    if reducer in ("sum", "prod", "max", "min") and _writes_once(domain, shape, out_map, modes, reducer):
        reducer = None
    if reducer is None and len(operands) == 2 and operands[1].order < operands[0].order:
        if sc.renumber_args(body, (1, 0)) is body:  # symmetric: commutative arguments are ordered when made
            operands, maps, modes = operands[::-1], maps[::-1], modes[::-1]
    if isinstance(body, sc.Arg) and reducer is None and out_map.is_identity and domain == shape:
        source = operands[0]
        if len(operands) == 1 and maps[0].is_identity and source.shape == shape:
            return source
    node: Generic = Generic(domain, shape, out_map, tuple(operands), tuple(maps), tuple(modes), body, reducer)
    record(node)
    return node


def _outputs_first(
    order: tuple[int, ...], domain: Shape, out_map: AffineMap, maps: list[AffineMap], body: sc.Scalar
) -> tuple[Shape, AffineMap, list[AffineMap], sc.Scalar]:
    """The domain's axes in the order in which the output has them, then the reduced ones."""
    rank = len(domain)
    full = (*order, *(axis for axis in range(rank) if axis not in order))
    place = [full.index(axis) for axis in range(rank)]
    body = sc.move_axes(body, [axis_row(axis) for axis in place], rank)
    maps = [index_map.renumber(rank, place) for index_map in maps]
    return tuple(domain[axis] for axis in full), out_map.renumber(rank, place), maps, body


def _merge_reads(
    domain: Shape,
    shape: Shape,
    out_map: AffineMap,
    operands: list[Node],
    maps: list[AffineMap],
    modes: list[str],
    body: sc.Scalar,
) -> tuple[list[Node], list[AffineMap], list[str], sc.Scalar]:
    used = sc.args_of(body)
    if len(used) == len(operands) and (len(operands) == 1 or len(set(operands)) == len(operands)):
        return operands, maps, modes, body
    numbers = [0] * len(operands)
    place: dict[tuple[Node, AffineMap, str], int] = {}
    for j, read in enumerate(zip(operands, maps, modes, strict=True)):
        operand, index_map, mode = read
        if j not in used:
            redundant = index_map is out_map and operand.shape == shape
            if mode != SKIP or redundant:
                continue
        numbers[j] = place.setdefault(read, len(place))
    merged = sc.renumber_args(body, numbers)
    return [r[0] for r in place], [r[1] for r in place], [r[2] for r in place], merged


def _writes_once(domain: Shape, shape: Shape, out_map: AffineMap, modes: list[str], reducer: str) -> bool:
    """Each element is written at most once (and, unless 0 is what an unwritten element holds, at least once)."""
    if out_map.is_identity and domain == shape:
        return reducer == "sum" or SKIP not in modes
    if reducer != "sum":
        return False
    axes: set[int] = set()
    for row in out_map.rows:
        if len(row.terms) > 1 or any(axis in axes for axis, _ in row.terms):
            return False
        axes |= {axis for axis, _ in row.terms}
    return all(axis in axes or domain[axis] == 1 for axis in range(len(domain)))


def scalar_map(
    shape: Shape,
    operands: Sequence[Node],
    maps: Sequence[AffineMap],
    body: sc.Scalar,
    modes: Sequence[str] | None = None,
) -> Node:
    """A Generic that computes each element of `shape` from reads that stay inside."""
    rank = identity(len(shape))
    return generic(shape, shape, rank, operands, maps, modes or [INSIDE] * len(operands), body, None)
