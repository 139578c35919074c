"""What each value of a set of equations is called: once as a symbol, which LaTeX, text and code then write their way.

A value with the user's name has it. A layer's parameter "features.3.weight" is W with the layer's place above it, the
layer's output Z (of a product and a bias) or H. Any other value is v (an array of two axes or more: V) with a number.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from graphc.ir.node import Input, Node
from graphc.render.equations import latex_scalar as tex

_ROLES = {"weight": "W", "bias": "b"}  # how lectures call the parameters that PyTorch's layers call so


@dataclass(frozen=True)
class Symbol:
    """base: the name; place: the layer's place, or what tells equal names apart. rank: how many axes the value has.
    about: what an optimiser or a layer keeps for that value: its momentum."""

    base: str
    place: str = ""
    rank: int = 0
    about: str = ""

    @property
    def text(self) -> str:
        text = f"{self.base}_{self.place}" if self.place else self.base
        return f"{self.about}_{text}" if self.about else text

    @property
    def latex(self) -> str:
        base, index = tex.name_parts(self.base)
        above = f"^{{({tex.place(self.place)})}}" if self.place else ""
        text = f"{base}_{{{index}}}{above}" if index else f"{base}{above}"
        return rf"\mathrm{{{tex.escape(self.about)}}}_{{{text}}}" if self.about else text

    @property
    def code(self) -> str:
        """A Python identifier, not yet told apart from others."""
        word = re.sub(r"\W", "_", self.text)
        return word if word.isidentifier() else f"v_{word}"


def given_symbol(node: Node, name: str) -> Symbol:
    """The symbol of a value with a name."""
    rank = len(node.shape)
    about, slash, rest = name.rpartition("/")
    if slash and about and rest and isinstance(node, Input) and node.kind == "state":
        return replace(given_symbol(node, rest), about=about)
    layer, dot, role = name.rpartition(".")
    if isinstance(node, Input) and dot and layer and role.isidentifier():
        return Symbol(_ROLES.get(role, role), layer, rank)
    return Symbol(_ROLES.get(name, name) if isinstance(node, Input) and node.kind != "input" else name, "", rank)


def carried_symbol(leaf: Node, name: str) -> Symbol:
    """The symbol of what a loop carries; a loop backwards carries gradients of values, and sums of gradients."""
    about, _, rest = name.partition("_")
    if about in ("grad", "sum") and rest:
        return replace(given_symbol(leaf, rest), about=about)
    return given_symbol(leaf, name)


def distinct(symbol: Symbol, taken: Collection[str]) -> Symbol:
    """The symbol, or one with a number above it that nothing else has; `taken` holds texts, LaTeX and code."""
    number, found = 1, symbol
    while {found.text, found.latex, found.code} & set(taken):
        number += 1
        found = replace(symbol, place=f"{symbol.place},{number}" if symbol.place else str(number))
    return found
