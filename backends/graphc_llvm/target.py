"""What the code generator must know of a processor: vectors, registers, instructions, caches.

`host_target()` describes the machine that runs us, `target_named()` another one, for export. Schedules are computed
from these numbers alone, so two equal Targets give the same code.

A target is one of our short names (`aarch64-linux`, `cortex-m4`) or an LLVM triple of an architecture that is known
here; a processor is a name of its architecture's row below, with features after it (`generic+v`). LLVM only warns of
names that it does not know, and generates code for something else; so every name is checked here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
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

# What LLVM's name of a processor of Arm's M profile implies, of what the questions below ask about (Arm's manuals of
# the two): its floating-point unit, and whether that has float64.
_ARM_M: Final = {"cortex-m4": frozenset({"vfp4d16sp"}), "cortex-m7": frozenset({"fp-armv8d16sp", "fp64"})}
# Those of our processors of Armv7-A that have its optional instructions of division (Arm's manuals), as LLVM knows.
_ARM_A_DIVIDES: Final = frozenset({"cortex-a7", "cortex-a15"})
_ARM_FMA: Final = frozenset({"vfp4", "vfp4d16sp", "fp-armv8d16sp"})


@dataclass(frozen=True)
class Target:
    """A processor as schedules see it. `features` is LLVM's string (`+fma,-avx512f`); sizes are in bytes per
    core (the third level: what one core may use of it). Without `has_doubles` only float32 has a unit; `has_fma` and
    `has_rounding` then speak of float32 alone. `division_bits`: the widest integers that are divided and
    converted to floats without code of ours (`wide_integers`); without `has_division` none are divided."""

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
    pointer_bits: int = 64
    has_doubles: bool = True
    division_bits: int = 64
    has_division: bool = True

    @property
    def has_system(self) -> bool:
        """Whether there is an operating system, which could start threads."""
        architecture, _, system = self.triple.split("-")[:3]
        return system not in ("none", "unknown") and not architecture.startswith("wasm")

    @property
    def relocation(self) -> str:
        """LLVM's relocation model. Without a system nothing is moved after it is linked; in WebAssembly
        position-independent code would import its addresses."""
        return "pic" if self.has_system else "static"

    def lanes(self, kind: str) -> int:
        """How many elements of a kind fill one vector register (at least 1)."""
        return max(1, self.vector_bits // _LANE_BITS[kind])


@dataclass(frozen=True)
class Architecture:
    """`processors`: LLVM's feature string of each, and first of all the one that is meant where none is named;
    `features`: those that may be added to a processor or taken from it."""

    processors: Mapping[str, str]
    features: tuple[str, ...] = ()
    caches: tuple[int, int, int] = DEFAULT_CACHES


_RV64GC: Final = "+m,+a,+f,+d,+c"
# The proposals that were in every engine before SIMD was (webassembly.org/features).
_WASM: Final = "+simd128,+bulk-memory,+sign-ext,+nontrapping-fptoint,+mutable-globals"
# A Cortex-M has no data cache, or a small one (M7: up to 64 KiB), in front of memory of some hundred KiB.
_MICROCONTROLLER_CACHES: Final = (16 * 1024, 64 * 1024, 64 * 1024)

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "x86_64": Architecture(dict.fromkeys(("x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"), "")),
    "aarch64": Architecture(
        dict.fromkeys(("generic", "cortex-a53", "cortex-a72", "cortex-a76", "neoverse-n1", "apple-m1"), "+neon"),
    ),
    "armv7": Architecture(
        {
            "generic": "+neon", "cortex-a7": "+neon,+vfp4", "cortex-a8": "+neon", "cortex-a9": "+neon",
            "cortex-a15": "+neon,+vfp4",
        },
        ("vfp4",),
    ),
    "thumbv7em": Architecture({"cortex-m4": "", "cortex-m7": ""}, ("fp64",), _MICROCONTROLLER_CACHES),
    "riscv64": Architecture({"generic": _RV64GC}, ("v", "zfa", "zba", "zbb")),
    "wasm32": Architecture({"generic": _WASM}, ("simd128",)),
}

TARGETS: Final[Mapping[str, tuple[str, str]]] = {
    "x86-64": ("x86_64-unknown-linux-gnu", "x86-64"),
    "x86-64-v2": ("x86_64-unknown-linux-gnu", "x86-64-v2"),
    "x86-64-v3": ("x86_64-unknown-linux-gnu", "x86-64-v3"),
    "x86-64-v4": ("x86_64-unknown-linux-gnu", "x86-64-v4"),
    "aarch64-linux": ("aarch64-unknown-linux-gnu", "generic"),
    "armv7-linux": ("armv7a-unknown-linux-gnueabihf", "generic"),
    "cortex-m4": ("thumbv7em-unknown-none-eabihf", "cortex-m4"),
    "cortex-m7": ("thumbv7em-unknown-none-eabihf", "cortex-m7"),
    "riscv64-linux": ("riscv64-unknown-linux-gnu", "generic"),
    "wasm32": ("wasm32-unknown-unknown", "generic"),
}
"""Short names: the triple and the processor where none is named."""

# The first word of a triple, as LLVM also spells it.
_SPELLINGS: Final = {"arm64": "aarch64", "armv7a": "armv7", "armv7l": "armv7"}


def target_named(target: str | None, cpu: str | None) -> Target:
    """The Target of a short name (TARGETS) or a triple, and of a processor with features; None, None: this machine.

    Without a target, the processor is one that `compile(..., cpu=)` takes. Raises ValueError, which names what there
    is, for a target, a processor or a feature that is unknown.
    """
    if target is None:
        return host_target(cpu or "native")
    triple, default = TARGETS.get(target, (four_part_triple(target), None))
    architecture = _architecture(triple)
    if architecture is None:
        raise ValueError(
            f"unknown target {target!r}; known: {', '.join(TARGETS)}, and LLVM's triples of "
            f"{', '.join(ARCHITECTURES)} (such as aarch64-unknown-linux-gnu)"
        )
    processor, features = _processor(architecture, cpu or default, target)
    return target_for(triple, processor, features, architecture.caches)


def _architecture(triple: str) -> Architecture | None:
    parts = triple.split("-")
    return ARCHITECTURES.get(_SPELLINGS.get(parts[0], parts[0])) if len(parts) >= 3 else None


def _processor(architecture: Architecture, cpu: str | None, target: str) -> tuple[str, str]:
    """A processor's name, and its features for LLVM."""
    name = cpu or next(iter(architecture.processors))
    known = next((one for one in sorted(architecture.processors, key=len, reverse=True) if name.startswith(one)), "")
    added = name[len(known) :]
    if not known or not re.fullmatch(r"([+-][\w.]+)*", added):
        raise ValueError(
            f"unknown processor {name!r} for {target}; known: {', '.join(architecture.processors)}"
            + (f"; and +FEATURE or -FEATURE after it, of {', '.join(architecture.features)}"
               if architecture.features else "")
        )
    words = re.findall(r"[+-][\w.]+", added)
    for word in words:
        if word[1:] not in architecture.features:
            there = ", ".join(architecture.features) or "none"
            raise ValueError(f"unknown feature {word[1:]!r} of {known} for {target}; known: {there}")
    features = ",".join(word for word in (architecture.processors[known], *words) if word)
    return known, features


def target_for(
    triple: str, cpu: str, features: str = "", caches: tuple[int, int, int] = DEFAULT_CACHES,
) -> Target:
    """Work a Target out from LLVM's names.

    The feature string is added to what `cpu` implies where that is known (levels of x86-64, Cortex-M4 and M7); another
    cpu must be given with its features. FMA and 128-bit vectors of AArch64 belong to every processor.

    Where there are no vectors, "vectors" are of one lane: the registers are those of scalars.
    """
    triple = four_part_triple(triple)
    architecture = triple.split("-")[0]
    if architecture == "x86_64":
        present = set(_LEVELS.get(cpu, frozenset({"sse2"})))
    else:
        present = set(_ARM_M.get(cpu, ()))
    for word in features.split(","):
        if word.startswith("+"):
            present.add(word[1:])
        elif word.startswith("-"):
            present.discard(word[1:])
    bits, registers, fma, avx512, rounding, abi = 128, 16, False, False, False, ""
    pointer_bits, doubles, division, divides = 64, True, 64, True
    if architecture == "x86_64":
        avx512 = present >= _AVX512
        bits = 512 if avx512 else 256 if "avx" in present else 128
        registers = 32 if avx512 else 16
        fma, rounding = "fma" in present, "sse4.1" in present
    elif architecture in ("aarch64", "arm64"):
        registers, fma, rounding = 32, True, True
    elif architecture.startswith("riscv64"):
        registers, fma, abi = 32, "d" in present, "lp64d" if "d" in present else ""
        bits, rounding = 128 if "v" in present else 32, "zfa" in present
    elif architecture.startswith("wasm"):
        bits, rounding, pointer_bits = (128 if "simd128" in present else 32), True, 32
    elif architecture.startswith(("arm", "thumb")):
        bits, registers = (128, 16) if "neon" in present else (32, 32)
        fma, rounding = bool(present & _ARM_FMA), "fp-armv8d16sp" in present
        pointer_bits, doubles = 32, bool(present & {"neon", "fp64"})
        division = 32
        divides = not architecture.startswith("armv7") or cpu in _ARM_A_DIVIDES
    return Target(
        name=f"{architecture}/{cpu}", triple=triple, cpu=cpu, features=features, vector_bits=bits,
        vector_registers=registers, has_fma=fma, has_avx512=avx512, has_rounding=rounding, l1_bytes=caches[0],
        l2_bytes=caches[1], l3_bytes=caches[2], abi_name=abi, pointer_bits=pointer_bits, has_doubles=doubles,
        division_bits=division, has_division=divides,
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
    raise ValueError(f"unknown processor {cpu!r}; known: native, {known}; others are for export with target=")


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
