"""What the code generator must know of a processor: vectors, registers, instructions, caches.

`host_target()` describes the machine that runs us; `named_target()` one of a few well-known processors, for
export. Schedules are computed from these numbers alone, so two equal Targets give the same code.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_LANE_BITS: Final = {"f32": 32, "f64": 64, "i64": 64, "i32": 32, "i16": 16, "i8": 8, "i1": 8}

# Cache sizes where none can be read: the smallest of common desktop and server processors of the last decade
# (32 KiB first level everywhere; 256 KiB second level on Intel's Skylake client; 1 MiB third level per core).
DEFAULT_CACHES: Final = (32 * 1024, 256 * 1024, 1024 * 1024)

# The feature sets of the x86-64 psABI's micro-architecture levels, section 3.1.1, as LLVM spells them: only
# the ones that the questions below ask about.
_LEVELS: Final = {
    "x86-64": frozenset({"sse2"}),
    "x86-64-v2": frozenset({"sse2", "sse4.1", "sse4.2"}),
    "x86-64-v3": frozenset({"sse2", "sse4.1", "sse4.2", "avx", "avx2", "fma"}),
    "x86-64-v4": frozenset({
        "sse2", "sse4.1", "sse4.2", "avx", "avx2", "fma",
        "avx512f", "avx512vl", "avx512dq", "avx512bw", "avx512cd",
    }),
}
_AVX512: Final = frozenset({"avx512f", "avx512vl", "avx512dq", "avx512bw"})


@dataclass(frozen=True)
class Target:
    """A processor as schedules see it. `features` is LLVM's string (`+fma,-avx512f`); sizes are in bytes per
    core (the third level: what one core may use of it)."""

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int
    vector_registers: int
    has_fma: bool
    has_avx512: bool
    has_rounding: bool
    l1_bytes: int = DEFAULT_CACHES[0]
    l2_bytes: int = DEFAULT_CACHES[1]
    l3_bytes: int = DEFAULT_CACHES[2]
    abi_name: str = ""

    def lanes(self, kind: str) -> int:
        """How many elements of a kind fill one vector register (at least 1)."""
        return max(1, self.vector_bits // _LANE_BITS[kind])


def target_for(
    triple: str, cpu: str, features: str = "", caches: tuple[int, int, int] = DEFAULT_CACHES,
) -> Target:
    """Work a Target out from LLVM's names.

    For x86-64 the feature string is added to the level that `cpu` names; a cpu that is no level must be given
    with its features. For other architectures FMA and 128-bit vectors are assumed where the base
    architecture has them.
    """
    triple = four_part_triple(triple)
    architecture = triple.split("-")[0]
    present = set(_LEVELS.get(cpu, frozenset({"sse2"})) if architecture == "x86_64" else ())
    for word in features.split(","):
        if word.startswith("+"):
            present.add(word[1:])
        elif word.startswith("-"):
            present.discard(word[1:])
    bits, registers, fma, avx512, rounding, abi = 128, 16, False, False, False, ""
    if architecture == "x86_64":
        avx512 = present >= _AVX512
        bits = 512 if avx512 else 256 if "avx" in present else 128
        registers = 32 if avx512 else 16
        fma, rounding = "fma" in present, "sse4.1" in present
    elif architecture in ("aarch64", "arm64"):
        registers, fma, rounding = 32, True, True
    elif architecture.startswith("riscv64"):
        registers, fma, abi = 32, "d" in present, "lp64d" if "d" in present else ""
        bits = 128 if "v" in present else 64
    elif architecture.startswith("wasm"):
        bits, rounding = (128 if "simd128" in present else 64), True
    elif architecture.startswith(("arm", "thumb")):
        bits = 128 if "neon" in present else 32
    return Target(
        name=f"{architecture}/{cpu}", triple=triple, cpu=cpu, features=features, vector_bits=bits,
        vector_registers=registers, has_fma=fma, has_avx512=avx512, has_rounding=rounding, l1_bytes=caches[0],
        l2_bytes=caches[1], l3_bytes=caches[2], abi_name=abi,
    )


def four_part_triple(triple: str) -> str:
    """A triple with its vendor: `aarch64-linux-gnu` becomes `aarch64-unknown-linux-gnu`.

    LLVM reads a three-part triple's fields one place off (an Arm hard-float object came out as soft-float).
    """
    parts = triple.split("-")
    systems = ("linux", "none", "windows", "darwin", "macosx", "wasi", "freebsd")
    if len(parts) in (2, 3) and parts[1].startswith(systems):
        parts.insert(1, "unknown")
    return "-".join(parts)


@cache
def host_target(cpu: str = "native") -> Target:
    """This machine; with another `cpu` name (`x86-64-v3`), this machine's triple and caches at that level."""
    import llvmlite.binding as llvm  # lazy: the import costs 28 ms

    triple, caches = llvm.get_process_triple(), host_caches()
    if cpu != "native":
        return named_target(cpu, triple, caches)
    return target_for(triple, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), caches)


def named_target(
    cpu: str, triple: str = "x86_64-unknown-linux-gnu", caches: tuple[int, int, int] = DEFAULT_CACHES,
) -> Target:
    """A processor by name: a level of x86-64, `neon` (any AArch64) or `generic` (the triple's baseline).

    Raises ValueError for a name that is none of these: its features would have to be guessed.
    """
    if cpu in _LEVELS:
        intel = triple if triple.startswith("x86_64") else "x86_64-unknown-linux-gnu"
        return target_for(intel, cpu, "", caches)
    if cpu in ("neon", "aarch64"):
        arm = triple if triple.startswith(("aarch64", "arm64")) else "aarch64-unknown-linux-gnu"
        return target_for(arm, "generic", "", caches)
    if cpu == "generic":
        return target_for(triple, "x86-64" if triple.startswith("x86_64") else "generic", "", caches)
    known = ", ".join([*_LEVELS, "neon", "generic"])
    raise ValueError(f"unknown processor {cpu!r}; known: native, {known}; or give target_for its features")


def host_caches() -> tuple[int, int, int]:
    """Data cache sizes (L1, L2, L3) in bytes from Linux's sysfs; DEFAULT_CACHES for those that it does not
    tell.

    The third level is divided by the number of processors that share it and that this process may use.
    """
    sizes = list(DEFAULT_CACHES)
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind = int((folder / "level").read_text()), (folder / "type").read_text().strip()
            text = (folder / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        if kind in ("Data", "Unified") and 1 <= level <= 3 and text[-1:] in "KM":
            sizes[level - 1] = int(text[:-1]) * (1024 if text[-1] == "K" else 1024 * 1024)
    if hasattr(os, "sched_getaffinity"):
        sizes[2] = max(sizes[2] // len(os.sched_getaffinity(0)), 1)
    return sizes[0], sizes[1], sizes[2]
