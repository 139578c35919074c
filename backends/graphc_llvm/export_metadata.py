"""What an exported program tells of itself: describe, strerror, version, workspace_bytes.

The records are read-only data without addresses in them, as a loader of shared libraries would have to write those:
names and shapes stand in the records themselves, which are as long as this program's longest.
"""

from __future__ import annotations

import struct
from importlib import metadata
from typing import Final

from graphc.program import ITEM_SIZES
from graphc_llvm.emit import I32, I64, PTR, Builder, Module, Value
from graphc_llvm.export_interface import ABI_VERSION, DTYPES, GROUPS, STATUS, Interface
from graphc_llvm.export_sizes import Sizes, size_params
from graphc_llvm.target import Target

_NAME_STEP: Final = 8  # names' lengths are multiples of it, so that records are
_DTYPE_BYTES: Final = 8


def info_sizes(interface: Interface) -> tuple[int, int]:
    """Of the struct tensor_info: the bytes of a name with its closing zero, and the extents in a shape."""
    fields = [field for _, _, field in interface.arguments()]
    longest = max((len(field.name.encode()) for field in fields), default=0) + 1
    rank = max((len(field.buffer.shape) for field in fields), default=0)
    return -(-longest // _NAME_STEP) * _NAME_STEP, max(rank, 1)


def emit_metadata(module: Module, target: Target, interface: Interface) -> None:
    """All functions but run and selftest."""
    prefix = interface.prefix
    b = module.function(f"{prefix}_workspace_bytes", size_params(interface), I64)
    sizes = Sizes(b, interface, b.params)
    needed = sizes.workspace_bytes()
    if isinstance(needed, int):
        b.ret(b.const(I64, needed))
    else:
        b.ret(b.select(sizes.are_wrong(), b.const(I64, -1), needed))
    _describe(module, interface)
    _strerror(module, prefix)
    b = module.function(f"{prefix}_version", [], PTR)
    program = f"{interface.program.name} {interface.program.digest[:16]}"
    text = f"graphc {metadata.version('graphc')}, abi {ABI_VERSION}, {target.name}, {program}"
    b.ret(text_data(module, f"{prefix}_text_version", text.encode() + b"\0"))
    b = module.function(f"{prefix}_abi_version", [], I32)
    b.ret(b.const(I32, ABI_VERSION))


def text_data(module: Module, name: str, content: bytes) -> Value:
    """Read-only bytes."""
    module.define_bytes(name, len(content), escaped(content))
    return Value(f"@{name}", PTR)


def escaped(content: bytes) -> str:
    """Bytes as LLVM's text."""
    return "\\" + content.hex("\\") if content else ""


def _describe(module: Module, interface: Interface) -> None:
    """`const P_tensor_info *P_describe(int32_t kind, int32_t i)`; see the header for the record."""
    name_bytes, rank = info_sizes(interface)
    b = module.function(f"{interface.prefix}_describe", [("kind", I32), ("i", I32)], PTR)
    kind, position = b.params
    for number, group in enumerate(GROUPS):
        records = b""
        for field in interface.fields[group]:
            shape = [*field.buffer.shape, *[0] * (rank - len(field.buffer.shape))]
            code, rows = DTYPES.index(field.buffer.dtype), 0 if field.rows is None else field.rows + 1
            numbers = (len(field.buffer.shape), code, ITEM_SIZES[field.buffer.dtype], number, field.is_written, rows)
            record = struct.pack(f"<qq{rank}q", field.buffer.nbytes, field.buffer.size, *shape)
            record += struct.pack("<6i", *numbers) + field.buffer.dtype.encode().ljust(_DTYPE_BYTES, b"\0")
            records += record + field.name.encode().ljust(name_bytes, b"\0")
        count = len(interface.fields[group])
        if not count:
            continue
        data = text_data(module, f"{interface.prefix}_info_{group}", records)
        with b.if_(b.icmp("eq", kind, number)), b.if_(b.icmp("ult", position, count)):
            place = b.mul(b.zext(position, I64), len(records) // count)
            _leave(b, b.gep(data, place, "i8"))
    b.ret(Value("null", PTR))


def _strerror(module: Module, prefix: str) -> None:
    """Texts in rows of one length; any other code gets the last."""
    texts = [text.encode() for _, text in STATUS] + [b"unknown status"]
    width = max(map(len, texts)) + 1
    rows = text_data(module, f"{prefix}_text_status", b"".join(text.ljust(width, b"\0") for text in texts))
    b = module.function(f"{prefix}_strerror", [("status", I32)], PTR)
    (status,) = b.params
    row = b.select(b.icmp("ult", status, len(STATUS)), status, b.const(I32, len(STATUS)))
    b.ret(b.gep(rows, b.mul(b.zext(row, I64), width), "i8"))


def _leave(b: Builder, value: Value) -> None:
    b.ret(value)
    b.start_block(b.new_label("unreachable"))
