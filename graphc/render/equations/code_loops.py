"""Generics that matrix notation does not cover as NumPy: index arrays, products by einsum, scatters by add.at.

i, m, k, l, n, p = np.ogrid[:N, :1, :8, :8, :3, :3]
conv = np.einsum("imklnp,jmnp->ijkl", at(image, i, m, k + n - 1, l + p - 1), W_0)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graphc.ir import scalar as sc
from graphc.ir.affine import AffineMap, axis_name
from graphc.ir.node import INSIDE, SKIP, ZERO, Generic
from graphc.render.equations.code_terms import CodeTerms, extent_code, shape_code
from graphc.render.equations.formula import Term
from graphc.render.equations.latex_scalar import ADD, ATOM
from graphc.render.equations.matrix import scalar_term

HELPERS: Mapping[str, str] = {
    "sigmoid": """
def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))
""",
    "erf": """
def erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)
""",
    "ndtr": """
def ndtr(x):
    return np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2, otypes=[float])(x)
""",
    "inside": '''
def inside(shape, *index):
    """Where an index lies inside of an array of this shape."""
    result = True
    for place, size in zip(index, shape):
        result = result & (0 <= place) & (place < size)
    return result
''',
    "at": '''
def at(x, *index):
    """x at an index; 0 where that lies outside."""
    near = tuple(np.clip(place, 0, size - 1) for place, size in zip(index, x.shape))
    return np.where(inside(x.shape, *index), x[near], 0)
''',
    "put": '''
def put(shape, values, *index, add=False):
    """Zeros with values at their index, or with values added there; what lies outside is left out."""
    values, *index = np.broadcast_arrays(values, *index)
    keep, out = inside(shape, *index), np.zeros(shape, values.dtype)
    places = tuple(place[keep] for place in index)
    if add:
        np.add.at(out, places, values[keep])
    else:
        out[places] = values[keep]
    return out
''',
    "scatter_add": '''
def scatter_add(shape, updates, indices, axis):
    """Zeros, to which each slice of the updates is added at its index along an axis."""
    out, rank = np.zeros(shape, updates.dtype), indices.ndim
    np.add.at(np.moveaxis(out, axis, 0), indices, np.moveaxis(updates, range(axis, axis + rank), range(rank)))
    return out
''',
}
_EXTREMES = {"max": "-np.inf", "min": "np.inf", "argmax": "-np.inf", "argmin": "np.inf", "sum": "0", "prod": "1"}


class LoopCode:
    """Lines for one Generic at a time. fresh: gives a name that nothing else has."""

    def __init__(self, terms: CodeTerms, fresh: Callable[[str], str]) -> None:
        self.terms, self.fresh = terms, fresh
        self.axes: dict[int, str] = {}

    def lines(self, name: str, node: Generic, operands: Sequence[str]) -> list[str]:
        """`name` becomes the value of the node."""
        rank = len(node.domain)
        letters = [self._axis(axis) for axis in range(rank)]
        product = _product(node)
        if product is not None:
            return self._einsum(name, node, operands, letters)
        lines: list[str] = []
        if rank:
            sizes = ", ".join(f":{extent_code(extent)}" for extent in node.domain)
            left = ", ".join(letters) + ("," if rank == 1 else "")
            lines.append(f"{left} = np.ogrid[{sizes}{',' if rank == 1 else ''}]")
        reads = [self._read(o, node, j, letters) for j, o in enumerate(operands)]
        body = self._body(node, reads, letters, lines)
        skipped = [
            f"inside({shape_code(operand.shape)}, {self._index(m, letters)})"
            for operand, m, mode in zip(node.operands, node.maps, node.modes, strict=True)
            if mode == SKIP
        ]
        if skipped:
            body = f"np.where({' & '.join(skipped)}, {body}, {_EXTREMES[node.reducer or 'sum']})"
        return [*lines, f"{name} = {self._combined(node, body, letters)}"]

    def _axis(self, axis: int) -> str:
        if axis not in self.axes:
            self.axes[axis] = self.fresh(axis_name(axis))
        return self.axes[axis]

    def _row(self, index_map: AffineMap, place: int, letters: Sequence[str]) -> str:
        row = index_map.rows[place]
        text = row.text(letters) if isinstance(row.const, int) else ""
        if not text:
            inner = type(row)(row.terms, 0).text(letters)
            text = f"{inner} + {extent_code(row.const)}"
        return text

    def _index(self, index_map: AffineMap, letters: Sequence[str]) -> str:
        return ", ".join(self._row(index_map, place, letters) for place in range(len(index_map.rows)))

    def _read(self, operand: str, node: Generic, place: int, letters: Sequence[str]) -> str:
        index_map, mode = node.maps[place], node.modes[place]
        if not index_map.rows:
            return operand
        index = self._index(index_map, letters)
        return f"{operand}[{index}]" if mode == INSIDE else f"at({operand}, {index})"

    def _body(self, node: Generic, reads: Sequence[str], letters: Sequence[str], lines: list[str]) -> str:
        """The body as an expression; parts that occur several times get lines of their own."""
        order = sc.postorder(node.body)
        uses = sc.use_counts(order)
        done: dict[sc.Scalar, Term] = {}
        for part in order:
            match part:
                case sc.Arg():
                    done[part] = _raw(reads[part.index])
                case sc.Index():
                    done[part] = _raw(letters[part.axis])
                case sc.InBounds():
                    index = self._index(part.map, letters)
                    done[part] = _raw(f"inside({shape_code(part.shape)}, {index})")
                case _:
                    done[part] = self._scalar(part, done)
            if isinstance(part, sc.Apply) and uses.get(part, 0) > 1 and done[part].weight > 2:
                name = self.fresh("t")
                lines.append(f"{name} = {self.terms(done[part])}")
                done[part] = _raw(name)
        return self.terms(done[node.body])

    def _scalar(self, part: sc.Scalar, done: Mapping[sc.Scalar, Term]) -> Term:
        if isinstance(part, sc.Apply) and part.op == "cast":
            source = part.args[0].dtype
            if "uint32" in (part.dtype, source) or (source == "bool" and not part.dtype.startswith("float")):
                return _raw(f"np.asarray({self.terms(done[part.args[0]])}).astype(np.{part.dtype})")
        if isinstance(part, sc.Literal) and part.dtype == "uint32":
            return _raw(f"np.uint32({part.value})")
        return scalar_term(part, done)

    def _combined(self, node: Generic, body: str, letters: Sequence[str]) -> str:
        kept, reduced = node.out_map, node.reduced_axes
        direct = kept.projection == tuple(range(len(node.shape))) and node.domain[: len(node.shape)] == node.shape
        wide = f"np.broadcast_to({body}, {shape_code(node.domain)})"
        if direct and node.reducer is None:
            if len(node.domain) > len(node.shape):
                return f"{wide}.reshape({shape_code(node.shape)})"
            return wide if node.domain else body
        over = f"axis={reduced[0] if len(reduced) == 1 else reduced}"
        if direct and node.reducer in ("argmax", "argmin"):
            flat = f"{wide}.reshape(({', '.join([*map(extent_code, node.shape), '-1'])}))"
            return f"np.{node.reducer}({flat}, axis=-1)"
        if direct:
            return f"np.{node.reducer}({wide}, {over})"
        index = self._index(kept, letters)
        if node.reducer in (None, "sum"):
            add = ", add=True" if node.reducer == "sum" else ""
            return f"put({shape_code(node.shape)}, {body if not reduced else wide}, {index}{add})"
        raise ValueError(node.reducer)

    def _einsum(self, name: str, node: Generic, operands: Sequence[str], letters: Sequence[str]) -> list[str]:
        reads: list[str] = []
        lines: list[str] = []
        for place, operand in enumerate(operands):
            index_map = node.maps[place]
            if index_map.projection is not None and node.modes[place] != ZERO and _whole(node, place):
                reads.append(operand)
                continue
            lines += self._grid(node, sorted(index_map.axes), letters)
            reads.append(self.fresh("part"))
            index = self._index(index_map, letters)
            text = f"{operand}[{index}]" if node.modes[place] == INSIDE else f"at({operand}, {index})"
            lines.append(f"{reads[-1]} = {text}")
        names = [_letters(_axes_of(node, place)) for place in range(2)]
        out = node.out_map
        direct = out.projection is not None and tuple(node.domain[a] for a in out.projection) == node.shape
        kept = out.projection if direct and out.projection is not None else tuple(sorted(out.axes))
        present = {letter for text in names for letter in text}
        missing = [axis for axis in kept if axis_name(axis) not in present]
        spec = f"{names[0]},{names[1]}->{_letters([axis for axis in kept if axis not in missing])}"
        text = f'np.einsum("{spec}", {reads[0]}, {reads[1]})'
        if direct and not missing:
            return [*lines, f"{name} = {text}"]
        lines += self._grid(node, kept, letters)
        if missing:
            text = f"np.expand_dims({text}, {tuple(place for place, axis in enumerate(kept) if axis in missing)})"
        return [*lines, f"{name} = put({shape_code(node.shape)}, {text}, {self._index(out, letters)}, add=True)"]

    def _grid(self, node: Generic, axes: Sequence[int], letters: Sequence[str]) -> list[str]:
        if not axes:
            return []
        sizes = ", ".join(f":{extent_code(node.domain[axis])}" for axis in axes)
        end = "," if len(axes) == 1 else ""
        return [f"{', '.join(letters[axis] for axis in axes)}{end} = np.ogrid[{sizes}{end}]"]


def _raw(text: str) -> Term:
    is_atom = text.replace("_", "").isalnum() or text.endswith((")", "]"))
    return Term("raw", (), (), (text, ATOM if is_atom else ADD))


def _letters(axes: Sequence[int]) -> str:
    return "".join(axis_name(axis) for axis in axes)


def _axes_of(node: Generic, place: int) -> list[int]:
    """The axes that an operand of a product has, in the order in which it is read."""
    index_map = node.maps[place]
    if index_map.projection is not None and node.modes[place] != ZERO and _whole(node, place):
        return list(index_map.projection)
    return sorted(index_map.axes)


def _whole(node: Generic, place: int) -> bool:
    """Whether the read goes over the whole operand."""
    axes = node.maps[place].projection or ()
    return tuple(node.domain[axis] for axis in axes) == node.operands[place].shape


def _product(node: Generic) -> bool | None:
    """Whether a sum of products of two reads, as einsum computes it."""
    body = node.body
    if node.reducer != "sum" or len(node.operands) != 2 or not isinstance(body, sc.Apply) or body.op != "mul":
        return None
    plain = all(isinstance(arg, sc.Arg) for arg in body.args) and body.args[0] is not body.args[1]
    small = len(node.domain) <= len("ijklmnpqrstuvwxyzabcdefgh")
    return True if plain and small and SKIP not in node.modes else None
