"""C programs that call an exported program on another machine: what they hold, and what they print.

A program has its arrays in it, calls `model_run` and `model_selftest` once, and prints each result as hexadecimal
digits, so that it needs nothing from a system but a way to write text. On bare metal that is semihosting (Arm,
"Semihosting for AArch32 and AArch64", version 2.0), and the start-up code is here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

HOSTED = """
#include <stdio.h>
static void put(const char *text) { fputs(text, stdout); }
static void finish(void) { fflush(stdout); }
"""

# The reset handler turns the floating-point unit on (Armv7-M Architecture Reference Manual, B3.2.20: CPACR).
BARE = """
extern unsigned char stack_top[];
int main(void);
static void semihosting(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}
static void put(const char *text) { semihosting(4, text); }
static void finish(void) { semihosting(0x18, (const void *)0x20026); }
void reset(void) {
    *(volatile unsigned *)0xE000ED88 |= 0xFu << 20;
    __asm__ volatile("dsb\\n isb");
    main();
    for (;;) {}
}
__attribute__((section(".vectors"), used)) static const void *const vectors[2] = {stack_top, (const void *)reset};
"""

# Memory of Arm's MPS2 boards (Application Notes AN386 and AN500): 4 MiB from 0, where the processor reads its vectors,
# and 4 MiB from 0x20000000. QEMU loads every segment to where it is linked.
LINKER_SCRIPT = """
MEMORY { code : ORIGIN = 0, LENGTH = 4M  ram : ORIGIN = 0x20000000, LENGTH = 4M }
ENTRY(reset)
SECTIONS {
    .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > code
    .ARM.exidx : { *(.ARM.exidx*) } > code
    .data : { *(.data*) } > ram
    .bss : { *(.bss*) *(COMMON) } > ram
    stack_top = ORIGIN(ram) + LENGTH(ram);
}
"""

# How deep the stack went: what lies below is painted first, and the lowest byte that changed is looked for. The painter
# itself needs a little, which counts as used.
BODY = """
#include "model.h"
#define PAINTED %(painted)d
#define OWN 256
static void put_bytes(const char *name, const volatile unsigned char *bytes, unsigned long count) {
    char text[3] = {0, 0, 0};
    put(name);
    put(" ");
    for (unsigned long i = 0; i < count; i++) {
        text[0] = "0123456789abcdef"[bytes[i] >> 4];
        text[1] = "0123456789abcdef"[bytes[i] & 15];
        put(text);
    }
    put("\\n");
}
%(structs)s
static __attribute__((noinline)) int32_t measured(unsigned *depth) {
    volatile unsigned char *top = (volatile unsigned char *)__builtin_frame_address(0) - OWN;
    unsigned untouched = 0;
    for (unsigned i = 1; i <= PAINTED; i++) *(top - i) = 0xA5;
    int32_t status = model_run(%(arguments)s, workspace, MODEL_WORKSPACE_BYTES%(sizes)s);
    while (untouched < PAINTED && *(top - PAINTED + untouched) == 0xA5) untouched++;
    *depth = OWN + PAINTED - untouched;
    return status;
}
int main(void) {
    unsigned depth = 0;
    int32_t selftest = model_selftest(workspace, sizeof workspace);
    int32_t status = measured(&depth);
    put_bytes("selftest", (unsigned char *)&selftest, sizeof selftest);
    put_bytes("status", (unsigned char *)&status, sizeof status);
    put_bytes("stack", (unsigned char *)&depth, sizeof depth);
%(prints)s
    finish();
    return 0;
}
"""

Groups = Mapping[str, Sequence[Array]]


def source(groups: Groups, printed: Sequence[str], is_bare: bool, painted: int, sizes: Sequence[int] = ()) -> str:
    """The C source of a driver. `groups`: the arrays of `inputs`, `params` and `outputs`; `printed`: the groups whose
    content is printed afterwards; `painted`: bytes of stack whose use is measured; `sizes`: of dynamic dimensions."""
    lines: list[str] = []
    prints: list[str] = []
    for group, arrays in groups.items():
        for number, array in enumerate(arrays):
            content = ",".join(map(str, np.ascontiguousarray(array).tobytes())) or "0"
            lines.append(f"static unsigned char {group}{number}[] __attribute__((aligned(64))) = {{{content}}};")
            if group in printed:
                prints.append(f'    put_bytes("{group}{number}", {group}{number}, {array.nbytes});')
        if arrays:
            pointers = ", ".join(f"(void *){group}{number}" for number in range(len(arrays)))
            lines.append(f"static const model_{group} {group} = {{{pointers}}};")
    told = f"({', '.join(map(str, sizes))})" if sizes else ""
    room = f"MODEL_SELFTEST_BYTES + MODEL_WORKSPACE_BYTES{told}"
    lines.append(f"static unsigned char workspace[{room}] __attribute__((aligned(64)));")
    arguments = ", ".join([*(f"&{group}" if arrays else "0" for group, arrays in groups.items()), *map(str, sizes)])
    words = {"painted": painted, "sizes": told, "arguments": arguments}
    words |= {"structs": "\n".join(lines), "prints": "\n".join(prints)}
    return (BARE if is_bare else HOSTED) + BODY % words


def read_output(text: str) -> Mapping[str, bytes]:
    """The bytes that a driver printed, by name."""
    return {name: bytes.fromhex(digits) for name, _, digits in (line.partition(" ") for line in text.splitlines())}
