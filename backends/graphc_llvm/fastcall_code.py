"""The native call as LLVM IR: the same few functions for every program, which follow the records of `fastcall_layout`.

    CALL(self, arguments, count, names)   what CPython calls (METH_FASTCALL | METH_KEYWORDS)
    TRY(entry, arguments, count)          the result of one program; null with an exception; `entry` when it declines
    NUMBER(thing, argument)               the address of a scalar argument as an element; null when it is for Python
    RESULT(result)                        a new reference to an array that nobody else holds; null with an exception
    ALIGNED(result)                       a new array whose data start at a cache line

The interpreter lock is held throughout, but for the program itself where `releases_lock` says so. From the moment that
all arguments fit until its results stand, the entry is busy: a call that another thread makes meanwhile, or that
Python makes from within this one (a weak reference's callback, a finaliser), passes the entry by.
"""

from __future__ import annotations

import ctypes
from typing import Final

from graphc.program import ALIGNMENT
from graphc_llvm import fastcall_layout as layout
from graphc_llvm.atomics import leave_if
from graphc_llvm.emit import F32, F64, I8, I32, I64, PTR, Builder, Module, Value
from graphc_llvm.fastcall_layout import ArgumentRecord, ArrayRecord, EntryRecord, ResultRecord
from graphc_llvm.target import Target

_TRY, _NUMBER, _RESULT, _ALIGNED = (f"{layout.CALL}_{name}" for name in ("try", "number", "result", "aligned"))
_ARRAY_TYPE, _BYTE_DTYPE = (Value(f"@{name}", PTR) for name in (layout.ARRAY_TYPE, layout.BYTE_DTYPE))
_FLOAT, _INT, _BOOL, _TRUE, _NONE = (
    Value(f"@{name}", PTR)
    for name in ("PyFloat_Type", "PyLong_Type", "PyBool_Type", "_Py_TrueStruct", "_Py_NoneStruct")
)
_NULL: Final = Value("null", PTR)

# float32's least normal and greatest number: between them, rounding a double raises neither underflow nor overflow, of
# which NumPy would warn. An infinity raises none either, but it is too rare to be worth a comparison.
_LEAST, _GREATEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127


class _Module(Module):
    def declare_object(self, thing: Value) -> None:
        """Declare a Python object that is bound to its address when the code is loaded."""
        name = thing.text.removeprefix("@")
        self._declarations[name] = f"@{name} = external global i8"


def fast_call_text(target: Target) -> str:
    """The IR: CALL, which needs `fastcall_layout.symbols` and nothing else."""
    module = _Module(target)
    for thing in (_ARRAY_TYPE, _BYTE_DTYPE, _FLOAT, _INT, _BOOL, _TRUE, _NONE):
        module.declare_object(thing)
    for emit in (_emit_aligned, _emit_result, _emit_number, _emit_try, _emit_call):
        emit(module)
    return module.text()


def _get(b: Builder, record: Value, kind: type[ctypes.Structure], name: str) -> Value:
    """A field of one of our records."""
    stored = next(field[1] for field in kind._fields_ if field[0] == name)
    return b.load(_place(b, record, kind, name), PTR if stored is ctypes.c_void_p else I64, 8)


def _set(b: Builder, value: Value | int, record: Value, kind: type[ctypes.Structure], name: str) -> None:
    stored = value if isinstance(value, Value) else b.const(I64, value)
    b.store(stored, _place(b, record, kind, name), 8)


def _place(b: Builder, record: Value, kind: type[ctypes.Structure], name: str) -> Value:
    return _at(b, record, getattr(kind, name).offset)


def _at(b: Builder, thing: Value, offset: int) -> Value:
    return b.gep(thing, offset, "i8")


def _pointer(b: Builder, thing: Value, offset: int) -> Value:
    """A field of a Python object."""
    return b.load(_at(b, thing, offset), PTR, 8)


def _return_if(b: Builder, condition: Value, value: Value) -> None:
    with b.if_(condition):
        b.ret(value)
        b.start_block(b.new_label("unreachable"))


def _emit_call(module: Module) -> None:
    b = module.function(layout.CALL, [("self", PTR), ("arguments", PTR), ("count", I64), ("names", PTR)], PTR)
    itself, arguments, count, names = b.params
    caller = _pointer(b, itself, layout.VALUE)
    leave_if(b, b.icmp("ne", names, _NULL), "slow")
    chain = _get(b, caller, layout.CallerRecord, "chain")
    entries = _place(b, chain, layout.ChainRecord, "entries")
    with b.loop(0, _get(b, chain, layout.ChainRecord, "count")) as turn:
        entry = b.load(b.gep(entries, turn.index, "ptr"), PTR, 8)
        outcome = b.call(_TRY, PTR, [entry, arguments, count])
        _return_if(b, b.icmp("ne", outcome, entry), outcome)
    b.jump("slow")
    b.start_block("slow")
    slow = _get(b, caller, layout.CallerRecord, "slow")
    b.ret(b.call("PyObject_Vectorcall", PTR, [slow, arguments, count, names]))


def _emit_try(module: Module) -> None:
    b = module.function(_TRY, [("record", PTR), ("arguments", PTR), ("count", I64)], PTR, linkage="internal")
    entry, arguments, count = b.params
    leave_if(b, b.icmp("ne", count, _get(b, entry, EntryRecord, "argument_count")), "declined")
    leave_if(b, b.icmp("ne", _get(b, entry, EntryRecord, "busy"), 0), "declined")
    table, records = _get(b, entry, EntryRecord, "table"), _get(b, entry, EntryRecord, "arguments")
    with b.loop(0, count) as turn:
        thing = b.load(b.gep(arguments, turn.index, "ptr"), PTR, 8)
        record = _at_index(b, records, turn.index, ArgumentRecord)
        with b.if_else(b.icmp("eq", _pointer(b, thing, layout.TYPE), _ARRAY_TYPE)) as branch:
            with branch.then():
                needed = layout.CONTIGUOUS | layout.ALIGNED
                flags = b.and_(_flags(b, thing), needed)
                leave_if(b, b.icmp("ne", flags, needed), "declined")
                _leave_unless_it_fits(b, thing, record, "declined", any_object=True)
                branch.yield_([_pointer(b, thing, layout.ARRAY_DATA)])
            with branch.otherwise():
                address = b.call(_NUMBER, PTR, [thing, record])
                leave_if(b, b.icmp("eq", address, _NULL), "declined")
                branch.yield_([address])
        b.store(branch.results[0], b.gep(table, turn.index, "ptr"), 8)
    _set(b, 1, entry, EntryRecord, "busy")
    outcome = _results(b, entry)
    status = _run(b, entry, table)
    _set(b, 0, entry, EntryRecord, "busy")
    with b.if_(b.icmp("eq", status, 0)):
        b.ret(outcome)
        b.start_block(b.new_label("unreachable"))
    b.call("Py_DecRef", None, [outcome])  # nothing was updated: Python computes it again, and says what is wrong
    b.jump("declined")
    b.start_block("declined")
    b.ret(entry)


def _at_index(b: Builder, records: Value, index: Value, kind: type[ctypes.Structure]) -> Value:
    return b.gep(records, b.mul(index, ctypes.sizeof(kind)), "i8")


def _flags(b: Builder, array: Value) -> Value:
    return b.zext(b.load(_at(b, array, layout.ARRAY_FLAGS), I32, 4), I64)


def _leave_unless_it_fits(b: Builder, array: Value, record: Value, label: str, any_object: bool) -> None:
    """Go to `label` unless an ndarray has the record's rank, dtype and dimensions. any_object: another dtype object of
    the same number and byte order will do; an unpickled array has one."""
    rank = _get(b, record, ArrayRecord, "rank")
    its_rank = b.sext(b.load(_at(b, array, layout.ARRAY_RANK), I32, 4), I64)
    leave_if(b, b.icmp("ne", its_rank, rank), label)
    dtype, its_dtype = _get(b, record, ArrayRecord, "dtype"), _pointer(b, array, layout.ARRAY_DTYPE)
    with b.if_(b.icmp("ne", its_dtype, dtype)):
        if any_object:
            for offset, kind in ((layout.DTYPE_NUMBER, I32), (layout.DTYPE_BYTE_ORDER, I8)):
                one, other = (b.load(_at(b, each, offset), kind) for each in (dtype, its_dtype))
                leave_if(b, b.icmp("ne", one, other), label)
        else:
            b.jump(label)
            b.start_block(b.new_label("unreachable"))
    dimensions = _get(b, record, ArrayRecord, "dimensions")
    its_dimensions = _pointer(b, array, layout.ARRAY_DIMENSIONS)
    with b.loop(0, rank) as axis:
        one, other = (b.load(b.gep(each, axis.index, "i64"), I64) for each in (dimensions, its_dimensions))
        leave_if(b, b.icmp("ne", one, other), label)


def _results(b: Builder, entry: Value) -> Value:
    """Fill the results' part of the table; gives the one result, or the tuple of them."""
    count, single = _get(b, entry, EntryRecord, "result_count"), _get(b, entry, EntryRecord, "single")
    many = b.icmp("eq", single, 0)
    with b.if_(many, otherwise=[_NULL]) as branch:
        made = b.call("PyTuple_New", PTR, [count])
        leave_if(b, b.icmp("eq", made, _NULL), "failed")
        branch.yield_([made])
    outcome = branch.results[0]
    table, records = _get(b, entry, EntryRecord, "result_table"), _get(b, entry, EntryRecord, "results")
    with b.loop(0, count, carried=[_NULL]) as turn:
        array = b.call(_RESULT, PTR, [_at_index(b, records, turn.index, ResultRecord)])
        with b.if_(b.icmp("eq", array, _NULL)):
            b.call("Py_DecRef", None, [outcome])  # with the arrays that it holds so far; null is allowed
            b.jump("failed")
            b.start_block(b.new_label("unreachable"))
        b.store(_pointer(b, array, layout.ARRAY_DATA), b.gep(table, turn.index, "ptr"), 8)
        with b.if_(many):
            b.store(array, b.gep(_at(b, outcome, layout.TUPLE_ITEMS), turn.index, "ptr"), 8)
        turn.yield_([array])
    finished = b.select(many, outcome, turn.results[0])
    go_on = b.new_label("ready")
    b.jump(go_on)
    b.start_block("failed")
    _set(b, 0, entry, EntryRecord, "busy")
    b.ret(_NULL)
    b.start_block(go_on)
    return finished


def _run(b: Builder, entry: Value, table: Value) -> Value:
    """Call the program; its status."""
    code, arena = _get(b, entry, EntryRecord, "code"), _get(b, entry, EntryRecord, "arena")
    call = f"call i64 {code.text}(ptr {table.text}, ptr {arena.text})"
    with b.if_else(b.icmp("eq", _get(b, entry, EntryRecord, "releases_lock"), 0)) as branch:
        with branch.then():
            branch.yield_([b.emit(call, I64)])
        with branch.otherwise():
            state = b.call("PyEval_SaveThread", PTR, [])
            status = b.emit(call, I64)
            b.call("PyEval_RestoreThread", None, [state])
            branch.yield_([status])
    return branch.results[0]


def _emit_number(module: Module) -> None:
    """Only exact types, whose conversion runs no Python code; only numbers of which NumPy's conversion, in the slow
    path, gives neither a warning nor an error."""
    b = module.function(_NUMBER, [("thing", PTR), ("argument", PTR)], PTR, linkage="internal")
    thing, argument = b.params
    kind, value = _get(b, argument, ArgumentRecord, "kind"), _at(b, thing, layout.VALUE)
    its_type, number = _pointer(b, thing, layout.TYPE), _place(b, argument, ArgumentRecord, "number")
    leave_if(b, b.icmp("eq", kind, 0), "declined")
    scalar = _get(b, argument, ArgumentRecord, "scalar")
    _return_if(b, b.icmp("eq", its_type, scalar), value)

    def is_kind(wanted: int) -> Value:
        return b.icmp("eq", kind, wanted)

    with b.if_(b.icmp("eq", its_type, _FLOAT)):
        _return_if(b, is_kind(layout.FLOAT64), value)
        leave_if(b, b.icmp("ne", kind, layout.FLOAT32), "declined")
        given = b.load(value, F64)
        magnitude = b.abs(given)
        is_normal = b.and_(b.fcmp("oge", magnitude, _LEAST), b.fcmp("ole", magnitude, _GREATEST))
        leave_if(b, b.not_(b.or_(is_normal, b.fcmp("oeq", given, 0.0))), "declined")
        b.store(b.fptrunc(given, F32), number)
        b.ret(number)
        b.start_block(b.new_label("unreachable"))
    with b.if_(b.icmp("eq", its_type, _INT)):
        leave_if(b, is_kind(layout.BOOL), "declined")
        overflow = b.alloca("i32", 1, align=4)
        whole = b.call("PyLong_AsLongLongAndOverflow", I64, [thing, overflow])
        leave_if(b, b.icmp("ne", b.load(overflow, I32), 0), "declined")
        with b.if_(is_kind(layout.FLOAT32)):
            b.store(b.sitofp(whole, F32), number)
            b.ret(number)
            b.start_block(b.new_label("unreachable"))
        with b.if_(is_kind(layout.FLOAT64)):
            b.store(b.sitofp(whole, F64), number)
            b.ret(number)
            b.start_block(b.new_label("unreachable"))
        with b.if_(is_kind(layout.INT32)):
            half = b.trunc(whole, I32)
            leave_if(b, b.icmp("ne", b.sext(half, I64), whole), "declined")
            b.store(half, number)
            b.ret(number)
            b.start_block(b.new_label("unreachable"))
        b.store(whole, number)
        b.ret(number)
        b.start_block(b.new_label("unreachable"))
    leave_if(b, b.icmp("ne", its_type, _BOOL), "declined")
    leave_if(b, b.icmp("ne", kind, layout.BOOL), "declined")
    b.store(b.zext(b.icmp("eq", thing, _TRUE), I8), number)
    b.ret(number)
    b.start_block("declined")
    b.ret(_NULL)


def _emit_result(module: Module) -> None:
    b = module.function(_RESULT, [("result", PTR)], PTR, linkage="internal")
    (result,) = b.params
    slots, count = _get(b, result, ResultRecord, "slots"), _get(b, result, ResultRecord, "slot_count")
    with b.loop(0, count) as turn:
        place, spoilt, held = b.gep(slots, turn.index, "ptr"), b.new_label("spoilt"), b.new_label("held")
        old = b.load(place, PTR, 8)
        leave_if(b, b.icmp("ne", b.load(_at(b, old, layout.REFERENCES), I64), 1), held)
        _leave_unless_as_made(b, old, result, spoilt)
        b.store(b.const(I64, 2), _at(b, old, layout.REFERENCES))
        b.ret(old)
        b.start_block(spoilt)
        b.call("Py_IncRef", None, [_NONE])
        b.store(_NONE, place, 8)
        b.call("Py_DecRef", None, [old])  # which may run a weak reference's callback
        b.jump(held)
        b.start_block(held)
    with b.if_else(b.icmp("eq", _get(b, result, ResultRecord, "raw_bytes"), 0)) as branch:
        with branch.then():
            dtype = _get(b, result, ArrayRecord, "dtype")
            b.call("Py_IncRef", None, [dtype])  # the next call steals it
            rank = b.trunc(_get(b, result, ArrayRecord, "rank"), I32)
            dimensions = _get(b, result, ArrayRecord, "dimensions")
            branch.yield_([b.call("PyArray_Empty", PTR, [rank, dimensions, dtype, b.const(I32, 0)])])
        with branch.otherwise():
            branch.yield_([b.call(_ALIGNED, PTR, [result])])
    array = branch.results[0]
    _return_if(b, b.icmp("eq", array, _NULL), _NULL)
    _set(b, _flags(b, array), result, ResultRecord, "flags")
    with b.if_(b.icmp("ne", count, 0)):
        number = _get(b, result, ResultRecord, "turn")
        place = b.gep(slots, number, "ptr")
        replaced = b.load(place, PTR, 8)
        b.call("Py_IncRef", None, [array])
        b.store(array, place, 8)
        following = b.add(number, 1)
        _set(b, b.select(b.icmp("eq", following, count), 0, following), result, ResultRecord, "turn")
        b.call("Py_DecRef", None, [replaced])
    b.ret(array)


def _leave_unless_as_made(b: Builder, array: Value, result: Value, label: str) -> None:
    """Go to `label` unless an array, of which a slot holds the only reference, is as it was made, and nothing else sees
    its memory. Its own memory it has alone; that of ALIGNED belongs to its base, of which views of it hold more
    references. A weak reference could bring it back."""
    leave_if(b, b.icmp("ne", _pointer(b, array, layout.TYPE), _ARRAY_TYPE), label)
    leave_if(b, b.icmp("ne", _flags(b, array), _get(b, result, ResultRecord, "flags")), label)
    leave_if(b, b.icmp("ne", _pointer(b, array, layout.ARRAY_WEAK_REFERENCES), _NULL), label)
    _leave_unless_it_fits(b, array, result, label, any_object=False)
    base = _pointer(b, array, layout.ARRAY_BASE)
    with b.if_(b.icmp("ne", base, _NULL)):
        leave_if(b, b.icmp("ne", _pointer(b, base, layout.TYPE), _ARRAY_TYPE), label)
        leave_if(b, b.icmp("ne", b.load(_at(b, base, layout.REFERENCES), I64), 1), label)
        leave_if(b, b.icmp("eq", b.and_(_flags(b, base), layout.OWN_DATA), 0), label)
        leave_if(b, b.icmp("ne", _pointer(b, base, layout.ARRAY_WEAK_REFERENCES), _NULL), label)


def _emit_aligned(module: Module) -> None:
    b = module.function(_ALIGNED, [("result", PTR)], PTR, linkage="internal")
    (result,) = b.params
    b.call("Py_IncRef", None, [_BYTE_DTYPE])
    size, one, zero = _place(b, result, ResultRecord, "raw_bytes"), b.const(I32, 1), b.const(I32, 0)
    raw = b.call("PyArray_Empty", PTR, [one, size, _BYTE_DTYPE, zero])
    _return_if(b, b.icmp("eq", raw, _NULL), _NULL)
    start = _pointer(b, raw, layout.ARRAY_DATA)
    address = b.emit(f"ptrtoint ptr {start.text} to i64", I64)
    data = b.gep(start, b.and_(b.sub(0, address), ALIGNMENT - 1), "i8")
    dtype = _get(b, result, ArrayRecord, "dtype")
    b.call("Py_IncRef", None, [dtype])
    rank = b.trunc(_get(b, result, ArrayRecord, "rank"), I32)
    flags = b.const(I32, layout.CONTIGUOUS | layout.ALIGNED | layout.WRITEABLE)
    dimensions = _get(b, result, ArrayRecord, "dimensions")
    listed = [_ARRAY_TYPE, dtype, rank, dimensions, _NULL, data, flags, _NULL]
    array = b.call("PyArray_NewFromDescr", PTR, listed)
    with b.if_(b.icmp("eq", array, _NULL)):
        b.call("Py_DecRef", None, [raw])
        b.ret(_NULL)
        b.start_block(b.new_label("unreachable"))
    failed = b.call("PyArray_SetBaseObject", I32, [array, raw])  # it takes the reference in any case
    with b.if_(b.icmp("ne", failed, 0)):
        b.call("Py_DecRef", None, [array])
        b.ret(_NULL)
        b.start_block(b.new_label("unreachable"))
    b.ret(array)
