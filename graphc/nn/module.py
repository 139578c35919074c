"""Module: a model of one's own, made of parameters and of other modules; Sequential: one after another."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

from graphc.errors import ArgumentTypeError, GraphcError
from graphc.lang.snapshot import Differences, restore, snapshot
from graphc.lang.source import scope, user_line
from graphc.lang.tensor import Array, Initialiser, Tensor, Variable, param
from graphc.nn.init import RandomInitialiser
from graphc.nn.saving import PathLike, load, save
from graphc.nn.summary import Recorder, Summary, inputs_of, made_of

_training: ContextVar[bool] = ContextVar("training", default=False)
_watcher: ContextVar[Callable[[Any, Any, Any], None] | None] = ContextVar("watcher", default=None)


@contextmanager
def in_training(is_training: bool) -> Iterator[None]:
    """Modules that are called inside the block, by a loss say, are built so unless their call says `training=`."""
    token = _training.set(is_training)
    try:
        yield
    finally:
        _training.reset(token)


@contextmanager
def watching(watcher: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """`watcher(module, (inputs, options), output)` is called after each call of a module inside the block."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


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

    counters: ClassVar[tuple[str, ...]] = ()
    """The states of a class of modules that count random draws."""

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
            title = type(self).__name__ if next(self.children(), None) else repr(self)
            with scope(self._attribute.replace(".", "/"), title, is_call=True) if self._attribute else nullcontext():
                output = self.forward(*inputs, **options)
            watcher = _watcher.get()
            if watcher is not None:
                watcher(self, (inputs, options), output)
            return output
        except GraphcError as error:
            raise self._located(error) from None
        finally:
            _training.reset(token)

    def _label(self) -> str:
        """What an error inside is preceded by: the place in the model ("features.3"), "" for a model itself."""
        return self._path()

    def _located(self, error: GraphcError) -> GraphcError:
        """The error with the label of the innermost module that has one."""
        label = self._label()
        if "module" in vars(error) or not label:
            return error
        located = type(error)(f"{label}: {error.message}", error.where or user_line())
        vars(located)["module"] = label
        return located

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
        return [(name, variable) for name, variable in self._variables() if is_param(variable)]

    def named_states(self) -> list[tuple[str, Variable]]:
        """The same for what is kept between calls and not learnt: running statistics, counters of draws."""
        return [(name, variable) for name, variable in self._variables() if not is_param(variable)]

    def _variables(self) -> list[tuple[str, Variable]]:
        found: dict[int, tuple[str, Variable]] = {}
        for name, variable in self._walk("", set()):
            found.setdefault(id(variable), (name, variable))
        return list(found.values())

    def _walk(self, prefix: str, seen: set[int], is_once: bool = True) -> Iterator[tuple[str, Variable]]:
        """Variables of this module and of those below it; a module that is shared once, or under each of its names."""
        if is_once:
            seen.add(id(self))
        else:
            seen = seen | {id(self)}
        for name in self._members:
            value = getattr(self, name, None)
            found = [(name, value)]
            if isinstance(value, (list, tuple)):
                found = [(f"{name}.{position}", item) for position, item in enumerate(value)]
            for label, item in found:
                if isinstance(item, Module) and id(item) not in seen:
                    yield from item._walk(f"{prefix}{label}.", seen, is_once)
                elif isinstance(item, Variable):
                    yield prefix + label, item

    def parameters(self) -> list[Variable]:
        """The parameters of this module and of those below it, in the order of declaration."""
        return [variable for _, variable in self.named_parameters()]

    def states(self) -> list[Variable]:
        """The states of this module and of those below it, in the order of declaration."""
        return [variable for _, variable in self.named_states()]

    def state_dict(self) -> dict[str, Array]:
        """A copy of each parameter and each state by its dotted name, as PyTorch names them.

        What is shared is listed under each of its names.
        """
        return snapshot(list(self._walk("", set(), is_once=False)))

    def load_state_dict(self, values: Mapping[str, Any], strict: bool = True) -> Differences:
        """Set parameters and states to the arrays of their names; all is checked before anything changes.

        Names must be there on both sides, unless strict=False: those that are not are returned. Counters of random
        draws may always be missing, as they are from other libraries' files; they keep their values. Shapes must be
        equal, dtypes of one kind; another width is converted where that changes no value. Errors: `ArgumentError` lists
        all that is wrong.
        """
        keep = set(self._counters("")).difference(values if isinstance(values, Mapping) else ())
        named = [(name, one) for name, one in self._walk("", set(), is_once=False) if name not in keep]
        return restore(f"{type(self).__name__}.load_state_dict", named, values, strict)

    def _counters(self, prefix: str) -> Iterator[str]:
        """The names of the states of this module and those below it that count random draws."""
        yield from (f"{prefix}{name}" for name in type(self).counters)
        for name, child in self.children():
            yield from child._counters(f"{prefix}{name}.")

    def save(self, path: PathLike) -> None:
        """Write the `state_dict` to a `.npz` or `.safetensors` file, as `gc.save` does."""
        save(path, self)

    def load(self, path: PathLike, strict: bool = True) -> Differences:
        """`load_state_dict` of a file. Errors: `DataError` for the file, `ArgumentError` for what does not fit."""
        return self.load_state_dict(load(path), strict)

    def summary(self, *inputs: Any, training: bool = False) -> Summary:
        """A table of the layers: output shapes, parameters, multiply-adds, operations, receptive fields.

        inputs: tensors, or shapes such as ("N", 3, 32, 32). Nothing is computed and no parameter gets its first value.
        The rows are data (`graphc.nn.summary.Row`). Errors: those of calling the model; `ArgumentTypeError`.

        >>> import graphc as gc
        >>> gc.nn.Sequential(gc.nn.Linear(2, 3), gc.nn.ReLU(), gc.nn.Linear(3, 1)).summary(("N", 2))
        layer          output  parameters  multiply-adds  operations  field
        -------------------------------------------------------------------
        0      Linear  (N, 3)           9            6*N        15*N      2
        1      ReLU    (N, 3)           0              0         3*N      2
        2      Linear  (N, 1)           4            3*N         7*N      2
        -------------------------------------------------------------------
        total                          13            9*N        25*N
        parameters: 52 bytes
        """
        tensors = inputs_of(self, inputs)
        recorder = Recorder(self, tensors)
        token = _watcher.set(recorder)
        try:
            output = self(*tensors, training=training)
        finally:
            _watcher.reset(token)
        return made_of(self, recorder.finished(output))

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
