"""Substitution of one Generic into another: the one step behind simplification, stability rewrites and fusion."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap
from graphc.ir.node import INSIDE, SKIP, ZERO, Generic, Node, generic


@dataclass
class Draft:
    """A Generic under construction: the consumer with some reads replaced by what they compute."""

    operands: list[Node]
    maps: list[AffineMap]
    modes: list[str]
    body: sc.Scalar

    @classmethod
    def of(cls, node: Generic) -> Draft:
        return cls(list(node.operands), list(node.maps), list(node.modes), node.body)

    def compact(self) -> None:
        """Equal reads become one, so that equal terms of the body are one object; reads without use go."""
        used = sc.args_of(self.body)
        numbers = [0] * len(self.operands)
        place: dict[tuple[Node, AffineMap, str], int] = {}
        for j, read in enumerate(zip(self.operands, self.maps, self.modes, strict=True)):
            if j in used or read[2] == SKIP:
                numbers[j] = place.setdefault(read, len(place))
        self.body = sc.renumber_args(self.body, numbers)
        self.operands = [operand for operand, _, _ in place]
        self.maps = [index_map for _, index_map, _ in place]
        self.modes = [mode for _, _, mode in place]

    def finish(self, node: Generic) -> Node:
        """The new node, with the domain, output map and reducer of the old one."""
        return generic(
            node.domain, node.shape, node.out_map, self.operands, self.maps, self.modes, self.body, node.reducer
        )


def can_inline(consumer: Generic, j: int) -> bool:
    """Whether operand j is a map that can be substituted where it is read."""
    producer = consumer.operands[j]
    if not isinstance(producer, Generic) or not producer.is_map or SKIP in producer.modes:
        return False
    return consumer.modes[j] != SKIP or consumer.reducer in (None, "sum") or _twin(producer) is not None


def _twin(producer: Generic) -> int | None:
    """An operand that is read exactly where the producer is: outside the one is outside the other."""
    for i, operand in enumerate(producer.operands):
        if producer.maps[i].is_identity and operand.shape == producer.shape:
            return i
    return None


def inline_into(draft: Draft, consumer: Generic, j: int) -> None:
    """Compute operand j of a draft in place; it must still be the consumer's, and `can_inline` must hold.

    A read outside the producer is handled as the consumer said: `zero` selects 0 (never multiplies by it), `skip`
    skips. The producer's own reads keep their modes inside, and give zeros that are not used outside.
    """
    producer = draft.operands[j]
    assert isinstance(producer, Generic)
    read, mode = draft.maps[j], draft.modes[j]
    first = len(draft.operands)
    inner = sc.move_axes(producer.body, read.rows, read.rank)
    inner = sc.renumber_args(inner, [first + i for i in range(len(producer.operands))])
    twin = _twin(producer) if mode != INSIDE else None
    for i, operand in enumerate(producer.operands):
        draft.operands.append(operand)
        draft.maps.append(producer.maps[i].compose(read))
        own = producer.modes[i]
        draft.modes.append(own if mode == INSIDE else (SKIP if mode == SKIP and i == twin else ZERO))
    value = inner
    if mode == ZERO and not (twin is not None and producer.body is sc.Arg(twin, producer.dtype)):
        inside = sc.InBounds(read, producer.shape)
        value = sc.apply("select", inside, inner, sc.literal(0, inner.dtype))
    body = sc.substitute(draft.body, {sc.Arg(j, producer.dtype): value})
    if mode == SKIP and twin is None:
        inside = sc.InBounds(read, producer.shape)
        body = sc.apply("select", inside, body, sc.literal(0, body.dtype))
    draft.body = body
    if mode == SKIP:
        draft.modes[j] = ZERO  # the read is gone from the body; what skipped through it now skips by other means
