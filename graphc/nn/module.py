"""Module: a model of one's own, made of parameters and of other modules; Sequential: one after another."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from graphc.errors import ArgumentTypeError
from graphc.lang.source import scope, user_line
from graphc.lang.tensor import Initialiser, Tensor, Variable, param
from graphc.nn.init import RandomInitialiser

_training: ContextVar[bool] = ContextVar("training", default=False)


@dataclass(frozen=True)
class _Declared:
    """A parameter of a layer before its first use, when its full name is settled."""

    shape: tuple[int, ...]
    init: Initialiser
    dtype: str


class Module:
    """Base of models. A subclass sets parameters and modules as attributes and defines `forward`.

    Attributes that are Variables, Modules, or lists and tuples of Modules are found by `parameters`, in the order in
    which they were set; no call of a base __init__ is needed. Calling the module runs `forward` in the scope of the
    attribute that holds it ("encoder/layer2" when nested). `training=` of a call is fixed when the graph is built and
    holds for all modules called inside; `forward` receives it when it has a parameter of that name.

    >>> import graphc as gc
    >>> class Line(gc.nn.Module):
    ...     def __init__(self):
    ...         self.slope = gc.param("slope", (), init=2.0)
    ...         self.offset = gc.param("offset", (), init=1.0)
    ...     def forward(self, x):
    ...         return self.slope * x + self.offset
    >>> line = Line()
    >>> float(gc.evaluate(line(gc.constant(3.0)), {}))
    7.0
    >>> [name for name, _ in line.named_parameters()]
    ['slope', 'offset']
    """

    _members: dict[str, None]
    _declared: dict[str, _Declared]
    _owner: weakref.ref[Module] | None
    _attribute: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Module:
        self = super().__new__(cls)
        self.__dict__.update(_members={}, _declared={}, _owner=None, _attribute="")
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Module, Variable, list, tuple)):
            self._members.setdefault(name)
        if isinstance(value, Module):
            value._attach(self, name)
        elif isinstance(value, (list, tuple)):
            for position, item in enumerate(value):
                if isinstance(item, Module):
                    item._attach(self, f"{name}.{position}")
        object.__setattr__(self, name, value)

    def _attach(self, owner: Module, attribute: str) -> None:
        """The first owner names the module; it may be shared with others."""
        if (self._owner is None or self._owner() is None) and owner is not self:
            self.__dict__.update(_owner=weakref.ref(owner), _attribute=attribute)

    def _path(self) -> str:
        owner = self._owner() if self._owner is not None else None
        above = owner._path() if owner is not None else ""
        return f"{above}.{self._attribute}" if above else self._attribute

    def declare(self, name: str, shape: tuple[int, ...], init: Initialiser, dtype: str = "float32") -> None:
        """A parameter that is made when it is first asked for, when its full name ("encoder.0.weight") is known."""
        self._members.setdefault(name)
        self._declared[name] = _Declared(shape, init, dtype)

    def __getattr__(self, name: str) -> Any:
        declared = self.__dict__["_declared"].pop(name, None)
        if declared is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        path = self._path()
        full_name = f"{path}.{name}" if path else name
        init = declared.init
        if isinstance(init, RandomInitialiser):
            init = init.named(full_name)
        variable = param(full_name, declared.shape, init=init, dtype=declared.dtype)
        object.__setattr__(self, name, variable)
        return variable

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The module's expression; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *inputs: Any, training: bool | None = None, **options: Any) -> Any:
        """`forward` on tensors. training: as in the module that calls, False outside of any."""
        is_training = _training.get() if training is None else bool(training)
        token = _training.set(is_training)
        try:
            if _takes_training(self):
                options["training"] = is_training
            with scope(self._attribute.replace(".", "/")) if self._attribute else nullcontext():
                return self.forward(*inputs, **options)
        finally:
            _training.reset(token)

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules right below this one, with the names of their attributes."""
        for name in self._members:
            value = self.__dict__.get(name)
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                yield from ((f"{name}.{n}", item) for n, item in enumerate(value) if isinstance(item, Module))

    def named_parameters(self) -> list[tuple[str, Variable]]:
        """(dotted name, parameter) in the order of declaration; one that is shared is listed once."""
        found: dict[int, tuple[str, Variable]] = {}
        for name, variable in self._walk("", set()):
            found.setdefault(id(variable), (name, variable))
        return list(found.values())

    def _walk(self, prefix: str, seen: set[int]) -> Iterator[tuple[str, Variable]]:
        seen.add(id(self))
        for name in self._members:
            value = getattr(self, name, None)
            found = [(name, value)]
            if isinstance(value, (list, tuple)):
                found = [(f"{name}.{position}", item) for position, item in enumerate(value)]
            for label, item in found:
                if isinstance(item, Module) and id(item) not in seen:
                    yield from item._walk(f"{prefix}{label}.", seen)
                elif isinstance(item, Variable) and is_param(item):
                    yield prefix + label, item

    def parameters(self) -> list[Variable]:
        """The parameters of this module and of those below it, in the order of declaration."""
        return [variable for _, variable in self.named_parameters()]

    def __repr__(self) -> str:
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children()]
        body = "\n" + "\n".join(lines) + "\n" if lines else ""
        return f"{type(self).__name__}({body})"


def _takes_training(module: Module) -> bool:
    parameters = inspect.signature(module.forward).parameters
    return "training" in parameters or (
        any(p.kind is p.VAR_KEYWORD for p in parameters.values()) and type(module).forward is not Module.forward
    )


def is_param(variable: Variable) -> bool:
    """Whether a variable is learnt; states (statistics, counters) are not."""
    return getattr(variable.node, "kind", "") == "param"


class Sequential(Module):
    """Modules, and functions of one tensor such as `gc.relu`, one after another.

    Parameters are named by position, as in PyTorch: "0.weight", "0.bias", "2.weight", ... Errors: `ArgumentTypeError`
    for something that cannot be called.

    >>> import graphc as gc
    >>> model = gc.nn.Sequential(gc.nn.Linear(2, 3), gc.nn.Sigmoid(), gc.nn.Linear(3, 1))
    >>> model(gc.input("x", ("N", 2))).shape
    (N, 1)
    >>> sum(p.value.size for p in model.parameters())
    13
    """

    _layers: tuple[Any, ...]

    def __init__(self, *layers: Any) -> None:
        for position, layer in enumerate(layers):
            if not callable(layer) or isinstance(layer, type):
                raise ArgumentTypeError(
                    f"Sequential: layer {position} is {layer!r}; a module or a function is needed", user_line()
                )
            setattr(self, str(position), layer)
        self.__dict__["_layers"] = layers  # not through __setattr__: they are members already

    def forward(self, x: Tensor) -> Tensor:
        """The layers applied in order."""
        for layer in self._layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, position: int) -> Any:
        return self._layers[position]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._layers)
