"""A Python module beside the header, which needs Python's standard library alone: it loads the shared library."""

from __future__ import annotations

from graphc_llvm.export_interface import ABI_VERSION, GROUPS, Interface

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
"""By group: (name, dtype, shape, whether it is written) of each tensor, by its name as an argument."""

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
_run.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_size_t]
_library.@PREFIX@_strerror.restype = ctypes.c_char_p
_library.@PREFIX@_strerror.argtypes = [ctypes.c_int32]
_library.@PREFIX@_version.restype = ctypes.c_char_p
_library.@PREFIX@_selftest.restype = ctypes.c_int32
_library.@PREFIX@_selftest.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
for _name in ("workspace_bytes", "selftest_bytes"):
    getattr(_library, "@PREFIX@_" + _name).restype = ctypes.c_int64
_local = threading.local()


def run(@ARGUMENTS@):
    """Compute the outputs@RETURNS@. ValueError and TypeError name the argument that does not fit;
    IndexError: an index is outside its axis, and then no param was changed."""
    held = []
    inputs = _struct("inputs", (@INPUTS@), held)
    params = _struct("params", (@PARAMS@), held)
    made = [bytearray(max(_bytes(dtype, shape), 1)) for _, dtype, shape, _ in TENSORS["outputs"].values()]
    outputs = _pointers([_address(memory) for memory in made])
    if not hasattr(_local, "workspace"):
        _local.workspace = _aligned(_library.@PREFIX@_workspace_bytes())
    status = _run(inputs, params, outputs, *_local.workspace[1:])
    if status:
        message = _library.@PREFIX@_strerror(status).decode()
        raise (IndexError if status == 1 else ValueError)("@PREFIX@: " + message)
    found = []
    for memory, (_, dtype, shape, _) in zip(made, TENSORS["outputs"].values()):
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


def zeros(group, name):
    """A new array of zeros for one tensor of a group ("inputs" or "params")."""
    _, dtype, shape, _ = TENSORS[group][name]
    return array.array(_CODES[dtype], bytes(_bytes(dtype, shape)))


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


def _struct(group, values, held):
    tensors = TENSORS[group].values()
    return _pointers([_checked(value, *tensor, held) for value, tensor in zip(values, tensors)]) if tensors else None


def _checked(value, name, dtype, shape, is_written, held):
    """The address of an argument's memory, which `held` keeps alive."""
    what = "@PREFIX@: " + name
    try:
        view = memoryview(value)
    except TypeError:
        raise TypeError(f"{what}: an array of {dtype} is needed, not {type(value).__name__}") from None
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


def python_loader(interface: Interface, library: str) -> str:
    """The text of the module."""
    arguments = [field.field for group in ("inputs", "params") for field in interface.fields[group]]
    if len(set(arguments)) < len(arguments):  # an input and a param of one name
        arguments = [f"{group}_{field.field}" for group in ("inputs", "params") for field in interface.fields[group]]
    own = iter(arguments)
    tensors: dict[str, dict[str, tuple[str, str, tuple[int, ...], bool]]] = {}
    for group in GROUPS:
        tensors[group] = {
            (field.field if group == "outputs" else next(own)): (
                field.name,
                field.buffer.dtype,
                field.buffer.shape,
                field.is_written,
            )
            for field in interface.fields[group]
        }
    outputs = [field.name for field in interface.fields["outputs"]]
    texts = {
        "PREFIX": interface.prefix,
        "LIBRARY": library,
        "SIGNATURE": _signature(tensors),
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


def _signature(tensors: dict[str, dict[str, tuple[str, str, tuple[int, ...], bool]]]) -> str:
    lines: list[str] = []
    for group, known in tensors.items():
        for argument, (_, dtype, shape, is_written) in known.items():
            changed = ", changed in place" if is_written and group == "params" else ""
            lines.append(f"    {group[:-1]:6} {argument}: {dtype}{shape}{changed}")
    return "\n".join(lines)


def _table(tensors: dict[str, dict[str, tuple[str, str, tuple[int, ...], bool]]]) -> str:
    lines = ["{"]
    for group, known in tensors.items():
        lines.append(f"    {group!r}: {{")
        lines += [f"        {argument!r}: {facts!a}," for argument, facts in known.items()]
        lines.append("    },")
    return "\n".join([*lines, "}"])
