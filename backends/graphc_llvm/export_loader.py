"""A Python module beside the header, which needs Python's standard library alone: it loads the shared library."""

from __future__ import annotations

from typing import TypeAlias

from graphc_llvm.export_interface import ABI_VERSION, GROUPS, Interface

_Tensor: TypeAlias = tuple[str, str, tuple[int, ...], bool, str | None]

_TEMPLATE = '''"""@PREFIX@: made by graphc. It needs Python's standard library and @LIBRARY@, which stands beside it.

@SIGNATURE@

Arrays are whatever has a buffer: array.array, memoryview, NumPy arrays. Each is contiguous, and either flat or of the
tensor's shape. `run` returns the outputs, as memoryviews of the tensors' shapes. Params that a call changes are changed
in place. Any number of threads may call.
"""

import array
import ctypes
import math
import os
import threading

ABI_VERSION = @ABI@
TENSORS = @TENSORS@
"""By group: (name, dtype, shape, whether it is written, rows) of each tensor, by its name as an argument. rows: the
dimension of whose rows the shape's first extent tells how many elements each one has, or None."""
DIMENSIONS = @DIMENSIONS@
"""(least size, greatest size) by name; each call finds the sizes in the inputs."""

_CODES = {"float32": "f", "float64": "d", "int32": "i", "int64": "q", "uint32": "I", "bool": "B"}
_ACCEPTED = {"float32": "f", "float64": "d", "int32": "il", "int64": "lq", "uint32": "IL", "bool": "?B"}
_BYTES = {"float32": 4, "float64": 8, "int32": 4, "int64": 8, "uint32": 4, "bool": 1}
_ALIGNMENT = 64

_library = ctypes.CDLL(os.path.join(os.path.dirname(os.path.abspath(__file__)), "@LIBRARY@"))
_library.@PREFIX@_abi_version.restype = ctypes.c_int32
if _library.@PREFIX@_abi_version() != ABI_VERSION:
    raise ImportError("@LIBRARY@ was made by another version of graphc than this file: export both again")
_run = _library.@PREFIX@_run
_run.restype = ctypes.c_int32
_run.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * len(DIMENSIONS) + [ctypes.c_void_p, ctypes.c_size_t]
_library.@PREFIX@_strerror.restype = ctypes.c_char_p
_library.@PREFIX@_strerror.argtypes = [ctypes.c_int32]
_library.@PREFIX@_version.restype = ctypes.c_char_p
_library.@PREFIX@_selftest.restype = ctypes.c_int32
_library.@PREFIX@_selftest.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
for _name in ("workspace_bytes", "selftest_bytes"):
    getattr(_library, "@PREFIX@_" + _name).restype = ctypes.c_int64
_library.@PREFIX@_workspace_bytes.argtypes = [ctypes.c_int64] * len(DIMENSIONS)
_local = threading.local()


def run(@ARGUMENTS@):
    """Compute the outputs@RETURNS@. ValueError and TypeError name the argument that does not fit;
    IndexError: an index is outside its axis, and then no param was changed."""
    held = []
    sizes = _sizes((@INPUTS@))
    inputs = _struct("inputs", (@INPUTS@), sizes, held)
    params = _struct("params", (@PARAMS@), sizes, held)
    shapes = [(dtype, _sized(shape, rows, sizes)) for _, dtype, shape, _, rows in TENSORS["outputs"].values()]
    made = [bytearray(max(_bytes(dtype, shape), 1)) for dtype, shape in shapes]
    outputs = _pointers([_address(memory) for memory in made])
    needed = max(_library.@PREFIX@_workspace_bytes(*sizes.values()), 0)
    if getattr(_local, "workspace", (None, 0, -1))[2] < needed:
        _local.workspace = _aligned(needed)
    status = _run(inputs, params, outputs, *sizes.values(), *_local.workspace[1:])
    if status:
        message = _library.@PREFIX@_strerror(status).decode()
        raise (IndexError if status == 1 else ValueError)("@PREFIX@: " + message)
    found = []
    for memory, (dtype, shape) in zip(made, shapes):
        view = memoryview(memory)[: _bytes(dtype, shape)]
        if _bytes(dtype, shape):
            view = view.cast(_CODES[dtype], shape)
        found.append(view)
    return found[0] if len(found) == 1 else tuple(found)


def selftest():
    """Run on generated inputs, and compare with what was recorded; RuntimeError: the results differ."""
    memory, address, size = _aligned(_library.@PREFIX@_selftest_bytes())
    status = _library.@PREFIX@_selftest(address, size)  # and `memory` is alive until then
    if status:
        raise RuntimeError("@PREFIX@: " + _library.@PREFIX@_strerror(status).decode())


def version():
    """What made the library, for which processor, of which program."""
    return _library.@PREFIX@_version().decode()


@THREADS@def zeros(group, name):
    """A new array of zeros for one tensor of a group ("inputs" or "params")."""
    _, dtype, shape, _, _ = TENSORS[group][name]
    return array.array(_CODES[dtype], bytes(_bytes(dtype, shape)))


def _sizes(inputs):
    """The sizes of the dimensions, by name: each input that has rows of one must have as many."""
    found = {}
    for value, (name, dtype, shape, _, rows) in zip(inputs, TENSORS["inputs"].values()):
        if rows is None or not math.prod(shape):
            continue
        view = _view(value, name, dtype)
        size, rest = divmod(view.nbytes // view.itemsize, math.prod(shape))
        if rest:
            first = rows if shape[0] == 1 else f"{shape[0]}*{rows}"
            text = ", ".join([first, *map(str, shape[1:])]) + ("," if len(shape) == 1 else "")
            wanted = f"({text}), or a multiple of {math.prod(shape)} elements"
            raise ValueError(f"@PREFIX@: {name}: the shape is {wanted}, not {view.shape}")
        if found.setdefault(rows, size) != size:
            raise ValueError(f"@PREFIX@: {name} has {size} rows of {rows}, and another input has {found[rows]}")
    return {name: found.get(name, least) for name, (least, _) in DIMENSIONS.items()}


def _sized(shape, rows, sizes):
    return shape if rows is None else (shape[0] * sizes[rows], *shape[1:])


def _bytes(dtype, shape):
    return _BYTES[dtype] * math.prod(shape)


def _aligned(size):
    memory = bytearray(size + _ALIGNMENT)
    address = _address(memory)
    return memory, address + -address % _ALIGNMENT, size


def _address(memory):
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _pointers(addresses):
    return (ctypes.c_void_p * max(len(addresses), 1))(*addresses)


def _struct(group, values, sizes, held):
    tensors = TENSORS[group].values()
    return _pointers([_checked(value, *one, sizes, held) for value, one in zip(values, tensors)]) if tensors else None


def _view(value, name, dtype):
    try:
        return memoryview(value)
    except TypeError:
        what = f"an array of {dtype} is needed, not {type(value).__name__}"
        raise TypeError(f"@PREFIX@: {name}: {what}") from None


def _checked(value, name, dtype, shape, is_written, rows, sizes, held):
    """The address of an argument's memory, which `held` keeps alive."""
    what = "@PREFIX@: " + name
    view, shape = _view(value, name, dtype), _sized(shape, rows, sizes)
    size = math.prod(shape)
    form = view.format.lstrip("@=<")
    if form not in tuple(_ACCEPTED[dtype]) or view.itemsize != _BYTES[dtype]:
        raise TypeError(f"{what}: elements are {dtype}, not of format {view.format!r} with {view.itemsize} bytes")
    if view.shape not in (tuple(shape), (size,)):
        raise ValueError(f"{what}: the shape is {tuple(shape)} or ({size},), not {view.shape}")
    if not view.c_contiguous:
        raise ValueError(f"{what}: the array is not contiguous")
    if is_written and view.readonly:
        raise ValueError(f"{what}: it is changed by a call, and this array is read-only")
    if not size:
        return 0
    memory = bytearray(view.tobytes()) if view.readonly else view.cast("B")
    held.append((view, memory))
    return _address(memory)
'''

_THREADS = '''MOST_THREADS = @MOST@
_library.@PREFIX@_threads_start.restype = ctypes.c_int32
_library.@PREFIX@_threads_start.argtypes = [ctypes.c_int32]


def threads(count):
    """Let calls use so many threads, of which the caller is one, from now on: 1 to MOST_THREADS; 1 stops the others. At
    first a call uses its caller alone. ValueError: another number; RuntimeError: the system gives no more threads."""
    if not 1 <= count <= MOST_THREADS:
        raise ValueError(f"@PREFIX@: the number of threads is from 1 to {MOST_THREADS}, not {count}")
    status = _library.@PREFIX@_threads_start(count)
    if status:
        raise RuntimeError("@PREFIX@: " + _library.@PREFIX@_strerror(status).decode())


'''


def python_loader(interface: Interface, library: str) -> str:
    """The text of the module."""
    arguments = [field.field for group in ("inputs", "params") for field in interface.fields[group]]
    if len(set(arguments)) < len(arguments):  # an input and a param of one name
        arguments = [f"{group}_{field.field}" for group in ("inputs", "params") for field in interface.fields[group]]
    own = iter(arguments)
    names = [dimension.name for dimension in interface.dimensions]
    tensors: dict[str, dict[str, _Tensor]] = {}
    for group in GROUPS:
        tensors[group] = {
            (field.field if group == "outputs" else next(own)): (
                field.name,
                field.buffer.dtype,
                field.buffer.shape,
                field.is_written,
                None if field.rows is None else names[field.rows],
            )
            for field in interface.fields[group]
        }
    outputs = [field.name for field in interface.fields["outputs"]]
    texts = {
        "THREADS": _THREADS.replace("@MOST@", str(interface.threads)) if interface.threads > 1 else "",
        "PREFIX": interface.prefix,
        "LIBRARY": library,
        "SIGNATURE": _signature(interface, tensors),
        "DIMENSIONS": repr({one.name: (one.least, one.most) for one in interface.dimensions}),
        "ABI": str(ABI_VERSION),
        "TENSORS": _table(tensors),
        "ARGUMENTS": ", ".join(arguments),
        "RETURNS": f": {', '.join(ascii(name)[1:-1] for name in outputs)}" if outputs else "",
        "INPUTS": "".join(f"{name}, " for name in tensors["inputs"]).rstrip(" "),
        "PARAMS": "".join(f"{name}, " for name in tensors["params"]).rstrip(" "),
    }
    made = _TEMPLATE
    for name, text in texts.items():
        made = made.replace(f"@{name}@", text)
    return made


def _signature(interface: Interface, tensors: dict[str, dict[str, _Tensor]]) -> str:
    lines: list[str] = []
    for group, known in tensors.items():
        for (argument, (_, dtype, _, is_written, _)), field in zip(known.items(), interface.fields[group], strict=True):
            changed = ", changed in place" if is_written and group == "params" else ""
            lines.append(f"    {group[:-1]:6} {argument}: {dtype}{interface.shape_text(field)}{changed}")
    return "\n".join(lines)


def _table(tensors: dict[str, dict[str, _Tensor]]) -> str:
    lines = ["{"]
    for group, known in tensors.items():
        lines.append(f"    {group!r}: {{")
        lines += [f"        {argument!r}: {facts!a}," for argument, facts in known.items()]
        lines.append("    },")
    return "\n".join([*lines, "}"])
