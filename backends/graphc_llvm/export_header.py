"""The C header of an exported program: C99 and later, and C++."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.program import ALIGNMENT
from graphc_llvm.export_interface import ABI_VERSION, C_TYPES, DTYPES, GROUPS, KINDS, STATUS, Field, Interface
from graphc_llvm.export_metadata import info_sizes
from graphc_llvm.export_needs import comment
from graphc_llvm.export_selftest import selftest_bytes

_ABOUT = {
    "inputs": "What a call reads.",
    "params": "Params and states; those without const are read and then written.",
    "outputs": "What a call writes.",
}

_NEEDS_THREADS = "   Programs link it with -pthread, for the threads that threads_start starts."
_NEEDS_NOTHING = "   Programs link it and need nothing else."


def header(interface: Interface, tested: Interface, needs: Sequence[str]) -> str:
    """The text of the header. tested: the interface for the self-test's sizes. needs: the functions of the compiler's
    run-time library that the object calls."""
    prefix, macro = interface.prefix, interface.macro
    guard = f"GRAPHC_{prefix}_H"
    lines = [
        f"/* {prefix}: made by graphc from {_comment(interface.program.name)}.",
        "   Arrays are row-major; each comment tells the tensor's name, dtype and shape. Nothing here allocates, and",
        "   nothing keeps state between calls: any number of threads may call at once, each with its own workspace",
        "   and outputs.",
        *_links(interface, needs),
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        "/* Of these functions and structs; the object's own is abi_version(). */",
        f"#define {macro}_ABI_VERSION {ABI_VERSION}",
        "",
        "/* What run and selftest return. */",
        *(f"#define {macro}_{name} {code} /* {text} */" for code, (name, text) in enumerate(STATUS)),
        "",
    ]
    for group in GROUPS:
        lines += _struct(interface, group)
    lines += _limits(interface)
    lines += _sizes(interface, selftest_bytes(tested))
    lines += _tensor_info(interface)
    lines += _functions(interface)
    return "\n".join([*lines, "", "#ifdef __cplusplus", "}", "#endif", "", "#endif", ""])


def _links(interface: Interface, needs: Sequence[str]) -> list[str]:
    """The end of the first comment: what is linked beside the object."""
    if needs:
        return [*([_NEEDS_THREADS] if interface.threads > 1 else ()), *comment(needs)]
    return [f"{_NEEDS_THREADS if interface.threads > 1 else _NEEDS_NOTHING} */"]


def _comment(text: str) -> str:
    """Text that can stand in a comment."""
    return text.encode("ascii", "backslashreplace").decode().replace("*/", "* /").replace("/*", "/ *")


def _struct(interface: Interface, group: str) -> list[str]:
    name = f"{interface.prefix}_{group}"
    fields: Sequence[Field] = interface.fields[group]
    if not fields:
        return [f"typedef struct {name} {name}; /* {group}: there are none, pass NULL */", ""]
    lines = [f"/* {_ABOUT[group]} */", f"typedef struct {name} {{"]
    for field in fields:
        const = "" if field.is_written else "const "
        what = f"{_comment(field.name)}: {field.buffer.dtype}{interface.shape_text(field)}"
        lines.append(f"    {const}{C_TYPES[field.buffer.dtype]} *{field.field}; /* {what} */")
    return [*lines, f"}} {name};", ""]


def _sizes(interface: Interface, of_selftest: int) -> list[str]:
    macro = interface.macro
    lines = ["/* Elements of each tensor, and bytes of the workspaces. */"]
    for group, _, field in interface.arguments():
        name, size = f"{macro}_{KINDS[GROUPS.index(group)]}_{field.field}_SIZE", str(field.buffer.size)
        if field.rows is not None:
            argument = interface.dimensions[field.rows].argument
            name, size = f"{name}({argument})", f"(({argument}) * INT64_C({size}))"
        lines.append(f"#define {name} {size}")
    lines.append(f"#define {_workspace_bytes(interface)}")
    lines += [f"#define {macro}_SELFTEST_BYTES {of_selftest}", ""]
    if interface.threads > 1:
        lines += ["/* The most threads that a call of run uses. */", f"#define {macro}_THREADS {interface.threads}", ""]
    return lines


def _limits(interface: Interface) -> list[str]:
    if not interface.dimensions:
        return []
    lines = ["/* The sizes that a call may tell. */"]
    for dimension in interface.dimensions:
        name = f"{interface.macro}_%s_{dimension.argument}"
        lines += [f"#define {name % 'LEAST'} INT64_C({dimension.least})"]
        lines += [f"#define {name % 'MOST'} INT64_C({dimension.most})"]
    return [*lines, ""]


def _workspace_bytes(interface: Interface) -> str:
    """The macro's name, with its arguments, and what it stands for."""
    name = f"{interface.macro}_WORKSPACE_BYTES"
    if not interface.dimensions:
        return f"{name} {interface.workspace_bytes}"
    arguments = [dimension.argument for dimension in interface.dimensions]
    terms = [f"INT64_C({interface.fixed_bytes})"]
    for place, nbytes in interface.growing:
        lines = f"(({arguments[place]}) * INT64_C({nbytes}) + {ALIGNMENT - 1}) / {ALIGNMENT}"
        terms.append(f"{lines} * {ALIGNMENT}")
    unused = "".join(f" + 0 * ({one})" for number, one in enumerate(arguments) if number not in dict(interface.growing))
    return f"{name}({', '.join(arguments)}) ({' + '.join(terms)}{unused})"


def _tensor_info(interface: Interface) -> list[str]:
    prefix, macro = interface.prefix, interface.macro
    name_bytes, rank = info_sizes(interface)
    return [
        "/* The first argument of describe, and what `dtype` may be. */",
        *(f"#define {macro}_KIND_{kind} {number}" for number, kind in enumerate(KINDS)),
        *(f"#define {macro}_DTYPE_{dtype.upper()} {number}" for number, dtype in enumerate(DTYPES)),
        "",
        f"typedef struct {prefix}_tensor_info {{",
        "    int64_t bytes;",
        "    int64_t size; /* elements */",
        f"    int64_t shape[{rank}]; /* the first `rank` of them count */",
        "    int32_t rank;",
        "    int32_t dtype;",
        "    int32_t item_bytes;",
        "    int32_t kind;",
        "    int32_t is_written;",
        "    int32_t rows; /* k: bytes, size and shape[0] are of one row, and grow with run's k-th size; 0: fixed */",
        "    char dtype_name[8];",
        f"    char name[{name_bytes}]; /* as in Python, UTF-8 */",
        f"}} {prefix}_tensor_info;",
        "",
    ]


def _functions(interface: Interface) -> list[str]:
    prefix = interface.prefix
    sizes = [f"int64_t {dimension.argument}" for dimension in interface.dimensions]
    before = "".join(f"{size}, " for size in sizes)
    refused = "; -1 for sizes that run refuses" if sizes else ""
    return [
        f"/* Bytes that run needs in its workspace, which must be aligned to {ALIGNMENT} bytes{refused}. */",
        f"int64_t {prefix}_workspace_bytes({', '.join(sizes) or 'void'});",
        "",
        "/* Compute the outputs, and the new values of params and states that are not const: 0, or a status. What is",
        "   written may not overlap anything else. A call whose arguments are refused writes nothing; one that meets",
        "   an index outside its axis (BAD_INDEX) leaves params and states as they were. */",
        f"int32_t {prefix}_run(const {prefix}_inputs *inputs, const {prefix}_params *params,",
        f"    const {prefix}_outputs *outputs, {before}void *workspace, size_t workspace_bytes);",
        "",
        "/* Tensor i of a kind, in the order of its struct; NULL past the last one. */",
        f"const {prefix}_tensor_info *{prefix}_describe(int32_t kind, int32_t i);",
        "",
        "/* What a status means. */",
        f"const char *{prefix}_strerror(int32_t status);",
        "",
        "/* Run on generated inputs, and compare with what was recorded when this was made: 0, or a status. The",
        f"   workspace is aligned as for run and has {prefix}_selftest_bytes() bytes. */",
        f"int32_t {prefix}_selftest(void *workspace, size_t workspace_bytes);",
        f"int64_t {prefix}_selftest_bytes(void);",
        "",
        "/* What made this, for which processor, of which program. */",
        f"const char *{prefix}_version(void);",
        f"int32_t {prefix}_abi_version(void);",
        *(_threads(interface) if interface.threads > 1 else ()),
    ]


def _threads(interface: Interface) -> list[str]:
    prefix, macro = interface.prefix, interface.macro
    return [
        "",
        f"/* Let run use so many threads from now on, of which its caller is one: 1 to {macro}_THREADS. 0, or a",
        "   status: BAD_THREADS has changed nothing, NO_THREADS leaves the caller alone. Results are the same bits",
        "   for any number. A call that finds the threads busy, or being started or stopped, runs on its caller",
        "   alone; so do all calls before the first start, and in the child of a fork, which may start its own. */",
        f"int32_t {prefix}_threads_start(int32_t threads);",
        "",
        "/* End the threads, and wait until they have ended: only then may a shared library be unloaded. Calls of",
        "   run go on, each on its caller alone. */",
        f"void {prefix}_threads_stop(void);",
    ]
