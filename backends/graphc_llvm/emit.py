"""The builder of textual LLVM IR: modules, functions, control flow.

Instructions are appended as lines of text; nothing of llvmlite's IR classes is used, because text is some
fifty times cheaper to make. Names count up from zero in each function, so the same calls give the same
text. The arithmetic methods are inherited from `Instructions`.

    module = Module()
    b = module.function("twice", [("x", PTR), ("n", I64)])
    x, n = b.params
    with b.loop(0, n, 1) as loop:
        place = b.gep(x, loop.index, "f32")
        b.store(b.mul(b.load(place, F32), 2.0), place)
    b.ret()
    text = module.text()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from graphc_llvm.emit_types import F32, F64, I1, I8, I16, I32, I64, PTR, Operand, Type, Value, literal
from graphc_llvm.instructions import Instructions
from graphc_llvm.target import Target

__all__ = [
    "F32", "F64", "I1", "I8", "I16", "I32", "I64", "PTR",
    "Type", "Value", "Operand", "Module", "Builder", "Loop", "Branch",
]


# LLVM's calling convention whose callee saves all general registers but r11 (LangRef, "Calling Conventions"), so that a
# caller of nothing else saves none. With the one that saves vector registers, too, LLVM 22 puts a vzeroupper behind
# their restoration.
_PRESERVE_REGISTERS = "preserve_mostcc "


class Module:
    """A compilation unit: functions, declarations and constant arrays, each in order of first use.

    `target` (None: FMA and rounding instructions are assumed, AVX-512 is not) decides only which instructions
    the builder may choose; no triple or data layout is written into the text. `threads`: the most that a
    parallel section may use.
    """

    def __init__(self, target: Target | None = None, threads: int = 1) -> None:
        self.target, self.threads = target, threads
        self.has_fma = True if target is None else target.has_fma
        self.has_rounding = True if target is None else target.has_rounding
        self.has_avx512 = False if target is None else target.has_avx512
        self.has_doubles = True if target is None else target.has_doubles
        self.pointer_bits = 64 if target is None else target.pointer_bits
        self.rare_convention = _PRESERVE_REGISTERS if target and target.triple.startswith("x86_64") else ""
        self.division_bits = 64 if target is None else target.division_bits
        self.has_division = True if target is None else target.has_division
        self._declarations: dict[str, str] = {}
        self._intrinsics: dict[tuple[str, Type], str] = {}
        self._arrays: dict[tuple[str, tuple[str, ...]], str] = {}
        self._array_names: set[str] = set()
        self._functions: dict[str, Builder] = {}

    def fuses(self, type_: Type) -> bool:
        """Whether floats of this type are multiplied and added by one instruction."""
        return self.has_fma and (self.has_doubles or type_.kind == "f32")

    def rounds(self, type_: Type) -> bool:
        """Whether an instruction rounds floats of this type to whole numbers."""
        return self.has_rounding and (self.has_doubles or type_.kind == "f32")

    def declare(self, name: str, ret: str, params: Sequence[str], attributes: str = "") -> None:
        """Declare an external function or intrinsic once; types are IR spellings."""
        if name not in self._declarations:
            self._declarations[name] = f"declare {ret} @{name}({', '.join(params)}) {attributes}".rstrip()

    def intrinsic(self, stem: str, type_: Type, arguments: int) -> str:
        """`call T @llvm.stem.T`: an intrinsic whose arguments and result share one type, declared once."""
        known = self._intrinsics.get((stem, type_))
        if known is None:
            name = f"llvm.{stem}.{type_.suffix}"
            self.declare(name, type_.text, [type_.text] * arguments)
            known = self._intrinsics[stem, type_] = f"call {type_.text} @{name}"
        return known

    def global_array(self, name: str, values: Sequence[float | int], kind: str, align: int = 64) -> Value:
        """A private constant array [len(values)] of `kind`; equal contents share one array.  Gives its ptr.

        The name is made unique with a counter when another array holds it.
        """
        element = Type(kind)
        texts = tuple(literal(element, value) for value in values)
        found = self._arrays.get((kind, texts))
        if found is None:
            found, count = name, 1
            while found in self._array_names:
                found, count = f"{name}.{count}", count + 1
            self._array_names.add(found)
            self._arrays[kind, texts] = found
            body = ", ".join(f"{element.text} {text}" for text in texts)
            typed = f"[{len(texts)} x {element.text}] [{body}]"
            self._declarations[found] = f"@{found} = private unnamed_addr constant {typed}, align {align}"
        return Value(f"@{found}", PTR)

    def define_bytes(self, name: str, size: int, escaped: str) -> None:
        """A private constant of `size` bytes, given as LLVM's escaped text ("\\00\\FF...")."""
        self._declarations[name] = (
            f'@{name} = private unnamed_addr constant [{size} x i8] c"{escaped}", align 64'
        )

    def define_zeros(self, name: str, size: int) -> Value:
        """A constant of `size` zero bytes whose name is in the object file, where it can be found. Gives its ptr."""
        self._declarations[name] = f"@{name} = internal constant [{size} x i8] zeroinitializer, align 64"
        return Value(f"@{name}", PTR)

    def define_state(self, name: str, size: int, linkage: str) -> Value:
        """A variable of `size` zero bytes, on cache lines of its own. Gives its ptr."""
        self._declarations[name] = f"@{name} = {linkage} global [{size} x i8] zeroinitializer, align 128"
        return Value(f"@{name}", PTR)

    @property
    def functions(self) -> Mapping[str, Builder]:
        """The functions defined so far, by name."""
        return self._functions

    @property
    def declarations(self) -> Mapping[str, str]:
        """The lines that declare or define anything else, by name."""
        return self._declarations

    def has_function(self, name: str) -> bool:
        """Whether a function of this name was begun: helpers are emitted once per module."""
        return name in self._functions

    def convention(self, name: str) -> str:
        """The calling convention of a function, as LLVM words it before a type."""
        known = self._functions.get(name)
        return known.convention if known else ""

    def function(
        self, name: str, params: Sequence[tuple[str, Type]], ret: Type | None = None, *,
        noalias: Sequence[str] = (), linkage: str = "", attributes: str = "", rare: bool = False,
    ) -> Builder:
        """Begin a function definition and return the builder of its body.

        `noalias` names pointer parameters that no other pointer overlaps; `linkage` is written before the
        return type (`internal`, `linkonce_odr hidden`), `attributes` after `nounwind "no-builtins"`. `rare`: only
        functions of this module call it, and hardly ever, so that it should not cost them registers. Raises ValueError
        when the name is taken.
        """
        if name in self._functions:
            raise ValueError(f"function {name!r} is defined twice in one module")
        convention = self.rare_convention if rare else ""
        made = Builder(self, name, params, ret, frozenset(noalias), linkage, attributes, convention)
        self._functions[name] = made
        return made

    def text(self) -> str:
        """The whole module as LLVM assembly, declarations first."""
        declared = [line for name, line in self._declarations.items() if name not in self._functions]
        return "\n".join([*declared, *(function.text() for function in self._functions.values()), ""])


class Loop:
    """An open counted loop: `index` (i64), `carried` (values of this iteration), and `results` once it is
    closed.
    """

    def __init__(self, index: Value, carried: list[Value]) -> None:
        self.index = index
        self.carried = carried
        self.results: list[Value] = []
        self._next: list[Value] | None = None

    def yield_(self, values: Sequence[Value]) -> None:
        """Give the carried values of the next iteration; call it once, last in the body."""
        if len(values) != len(self.carried):
            raise ValueError(f"the loop carries {len(self.carried)} values, {len(values)} were yielded")
        self._next = list(values)


class Branch:
    """An open conditional; `results` hold the merged values once it is closed."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._yielded: list[Value] = []
        self._arms: list[tuple[str, list[Value]]] = []
        self._labels: list[str] = []
        self.results: list[Value] = []

    def yield_(self, values: Sequence[Value]) -> None:
        """Give the values of this arm; each arm must give as many."""
        self._yielded = list(values)

    @contextmanager
    def then(self) -> Iterator[None]:
        """The arm taken when the condition holds."""
        with self._arm(0):
            yield

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """The arm taken when it does not."""
        with self._arm(1):
            yield

    @contextmanager
    def _arm(self, which: int) -> Iterator[None]:
        self._yielded = []
        self._builder.start_block(self._labels[which])
        yield
        self._arms.append((self._builder.block, self._yielded))
        self._builder.jump(self._labels[2])


class Builder(Instructions):
    """The body of one function under construction; `params` are its arguments."""

    def __init__(
        self, module: Module, name: str, params: Sequence[tuple[str, Type]], ret: Type | None,
        noalias: frozenset[str], linkage: str, attributes: str, convention: str,
    ) -> None:
        super().__init__(module)
        self.name = name
        self.params = [Value(f"%{param}", type_) for param, type_ in params]
        self.block = "entry"
        self._labels = 0
        self._allocas: list[str] = []
        self._made: dict[tuple[str, str], tuple[Value, ...]] = {}
        listed = ", ".join(
            f"{type_.text}{' noalias' if param in noalias else ''} %{param}" for param, type_ in params
        )
        result = ret.text if ret else "void"
        self._linkage, self.convention = linkage, convention
        self._declared = f"{convention}{result} @{name}({', '.join(type_.text for _, type_ in params)})"
        words = ["define", linkage, convention.strip(), result, f"@{name}({listed})", 'nounwind "no-builtins"']
        if module.has_avx512:  # otherwise some processors' defaults split 512-bit operations in two
            words.append('"prefer-vector-width"="512"')
        self._head = " ".join(word for word in (*words, attributes) if word)

    def text(self, hidden: bool = False) -> str:
        """The definition as LLVM assembly; with `hidden`, an internal function is for other modules, too."""
        head = self._head
        if hidden and self._linkage == "internal":
            head = head.replace("internal", "hidden", 1)
        return "\n".join([f"{head} {{", "entry:", *self._allocas, *self.lines, "}"])

    def declaration(self) -> str:
        """What a module that calls the function, but does not define it, says of it. Not that it is hidden: then its
        address would have to lie within 2 GiB of the module's code, and modules are loaded anywhere."""
        return f"declare {self._declared}"

    def alloca(self, kind: str, count: int, align: int = 64) -> Value:
        """Stack space for `count` elements of `kind`, taken once in the entry block; gives its ptr."""
        self.counter += 1
        name = f"%v{self.counter}"
        self._allocas.append(f"  {name} = alloca [{count} x {Type(kind).text}], align {align}")
        return Value(name, PTR)

    def ret(self, value: Value | None = None) -> None:
        """Return from the function."""
        self.lines.append(f"  ret {value.type.text} {value.text}" if value is not None else "  ret void")

    def new_label(self, stem: str) -> str:
        """A block label that is unique in the function."""
        self._labels += 1
        return f"{stem}{self._labels}"

    def start_block(self, label: str) -> None:
        """Begin a basic block; the one before must have ended in a jump or return."""
        self.lines.append(f"{label}:")
        self.block = label
        self._made = {}

    def once(self, what: str, x: Value, make: Callable[[], tuple[Value, ...]]) -> tuple[Value, ...]:
        """What `make` emits for x; emitted again only where the values made before are not at hand.

        They are in the block where they were made, and after an `if_` in it: there LLVM no longer sees by itself that
        it computes the same again.
        """
        key = what, f"{x.type.text} {x.text}"
        found = self._made.get(key)
        if found is None:
            found = make()
            self._made[key] = found
        return found

    def jump(self, label: str) -> None:
        """An unconditional branch."""
        self.lines.append(f"  br label %{label}")

    def jump_if(self, cond: Value, then: str, otherwise: str) -> None:
        """A conditional branch on an i1."""
        self.lines.append(f"  br i1 {cond.text}, label %{then}, label %{otherwise}")

    def phi(self, type_: Type, incoming: Sequence[tuple[Value, str]]) -> Value:
        """The value that arrives from each predecessor block, as (value, label) pairs."""
        arms = ", ".join(f"[ {value.text}, %{label} ]" for value, label in incoming)
        return self.emit(f"phi {type_.text} {arms}", type_)

    @contextmanager
    def loop(
        self, start: Value | int, stop: Value | int, step: int = 1, name: str = "i",
        carried: Sequence[Value] = (),
    ) -> Iterator[Loop]:
        """`for index in range(start, stop, step)` with carried values; right for zero iterations.

        index is i64 and step a positive int. The test stands at the bottom, so the body is one block when it
        has no control flow of its own; a guard before it is left out where both bounds are Python ints that
        give a trip. The index must not overflow i64; with pointers of 32 bits it is counted in i32.
        """
        if step <= 0:
            raise ValueError(f"loop step must be positive, not {step}")
        counter = I32 if self.module.pointer_bits == 32 and all(map(_fits_i32, (start, stop))) else I64
        first, last = self._bound(start, counter), self._bound(stop, counter)
        body, after = self.new_label(f"loop.{name}."), self.new_label(f"done.{name}.")
        before = self.block
        certain = isinstance(start, int) and isinstance(stop, int) and start < stop
        if certain:
            self.jump(body)
        else:
            self.jump_if(self.icmp("slt", Value(first, counter), Value(last, counter)), body, after)
        self.start_block(body)
        place = len(self.lines)
        phis = [self.emit("", type_) for type_ in (counter, *(value.type for value in carried))]
        loop = Loop(self.sext(phis[0], I64), phis[1:])
        yield loop
        following = loop._next if loop._next is not None else list(loop.carried)
        advanced = self.emit(f"add nsw {counter.text} {phis[0].text}, {step}", counter)
        again = self.icmp("slt", advanced, Value(last, counter))
        latch = self.block
        self.jump_if(again, body, after)
        arriving = zip(phis, (Value(first, counter), *carried), (advanced, *following), strict=True)
        for offset, (phi, initial, later) in enumerate(arriving):
            arms = f"[ {initial.text}, %{before} ], [ {later.text}, %{latch} ]"
            self.lines[place + offset] = f"  {phi.text} = phi {phi.type.text} {arms}"
        self.start_block(after)
        loop.results = following if certain else [
            self.phi(value.type, [(initial, before), (value, latch)])
            for initial, value in zip(carried, following, strict=True)
        ]

    def _bound(self, bound: Value | int, counter: Type) -> str:
        """A loop's bound, an i64 or a number, as its counter's type."""
        if isinstance(bound, Value) and counter is not I64:
            bound = self.trunc(bound, counter)
        return self.operand(bound, counter)

    @contextmanager
    def if_(self, cond: Value, otherwise: Sequence[Value] = ()) -> Iterator[Branch]:
        """Run the body where the i1 `cond` holds; `results` are the yielded values, else those of
        `otherwise`.
        """
        branch = Branch(self)
        then, after = self.new_label("then"), self.new_label("after")
        before, made = self.block, self._made
        self.jump_if(cond, then, after)
        self.start_block(then)
        yield branch
        end = self.block
        self.jump(after)
        self.start_block(after)
        self._made = made
        branch.results = [
            self.phi(old.type, [(new, end), (old, before)])
            for new, old in zip(branch._yielded, otherwise, strict=True)
        ]

    @contextmanager
    def if_else(self, cond: Value) -> Iterator[Branch]:
        """Two arms: `with b.if_else(c) as branch:` holding `with branch.then():` and `with
        branch.otherwise():`.
        """
        branch = Branch(self)
        branch._labels = [self.new_label("then"), self.new_label("else"), self.new_label("after")]
        self.jump_if(cond, branch._labels[0], branch._labels[1])
        yield branch
        if len(branch._arms) != 2:
            raise ValueError("if_else needs both arms, then() and otherwise()")
        self.start_block(branch._labels[2])
        (then_end, then_values), (else_end, else_values) = branch._arms
        branch.results = [
            self.phi(one.type, [(one, then_end), (other, else_end)])
            for one, other in zip(then_values, else_values, strict=True)
        ]


def _fits_i32(bound: Value | int) -> bool:
    """Whether a loop's bound leaves room for its last step; one that is known only later counts what memory holds."""
    return isinstance(bound, Value) or abs(bound) < 2**30
