"""Modules that hold others without saying how they are called: ModuleList and ModuleDict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from graphc.errors import ArgumentError, ArgumentTypeError
from graphc.lang.source import user_line
from graphc.nn.module import Module


class ModuleList(Module):
    """Modules in a row, found by number; parameters are named "0.weight", "1.weight", ... as in PyTorch.

    A plain list as an attribute does as well; this one can grow. Errors: `ArgumentTypeError` for what is not a module.

    >>> import graphc as gc
    >>> layers = gc.nn.ModuleList(gc.nn.Linear(4, 4) for _ in range(3))
    >>> len(layers), layers[-1]
    (3, Linear(4, 4))
    """

    _items: list[Module]

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.__dict__["_items"] = []  # not through __setattr__: each is a member of its own
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        """One more module at the end; returns the list."""
        _check("ModuleList", module)
        setattr(self, str(len(self._items)), module)
        self._items.append(module)
        return self

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, position: int) -> Module:
        return self._items[position]

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items)


class ModuleDict(Module):
    """Modules found by name; parameters are named "key.weight", as in PyTorch.

    Errors: `ArgumentTypeError` for what is not a module, `ArgumentError` for a key that cannot be part of a name.

    >>> import graphc as gc
    >>> heads = gc.nn.ModuleDict({"class": gc.nn.Linear(8, 10), "size": gc.nn.Linear(8, 1)})
    >>> [name for name, _ in heads.named_parameters()]
    ['class.weight', 'class.bias', 'size.weight', 'size.bias']
    """

    _items: dict[str, Module]

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.__dict__["_items"] = {}
        for key, module in (modules or {}).items():
            self[key] = module

    def __setitem__(self, key: str, module: Module) -> None:
        _check("ModuleDict", module)
        if not isinstance(key, str) or not key or "." in key or hasattr(type(self), key):
            raise ArgumentError(
                f"ModuleDict: a key is a text without a dot that no method has as its name, not {key!r}", user_line()
            )
        setattr(self, key, module)
        self._items[key] = module

    def __getitem__(self, key: str) -> Module:
        return self._items[key]

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._items.keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._items.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """(name, module)."""
        return self._items.items()


def _check(what: str, module: object) -> None:
    if not isinstance(module, Module):
        raise ArgumentTypeError(f"{what}: {module!r} is not a module", user_line())
