"""Machines that the tests of targets run code on: a cross compiler and an emulator of Debian's packages for each."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import requires_tool
from tests.embed.targets_driver import LINKER_SCRIPT

WARNINGS = ("-std=gnu99", "-O1", "-Wall", "-Wextra", "-Werror")
SECONDS = 120  # that a program may run: far more than any takes, so that a hang ends


@dataclass(frozen=True)
class Machine:
    """`cpu` goes to target_named beside the target's name; `compiler` and `emulator` are command lines; the program's
    path is appended to the emulator's. `packages`: where the tools come from."""

    target: str
    cpu: str | None
    compiler: tuple[str, ...]
    emulator: tuple[str, ...]
    packages: str
    is_bare: bool = False


# The linker's warning concerns stacks of systems.
_BARE = ("-mthumb", "-mfloat-abi=hard", "-nostdlib", "-ffreestanding", "-Wl,--no-warn-execstack")
_QEMU_BARE = (
    "-display", "none", "-serial", "none", "-monitor", "none", "-chardev", "stdio,id=text",
    "-semihosting-config", "enable=on,target=native,chardev=text", "-kernel",
)

MACHINES = {
    "x86-64": Machine("x86-64", None, ("gcc",), (), "gcc"),
    "x86-64-v3": Machine("x86-64-v3", None, ("gcc",), (), "gcc"),
    "x86-64-v4": Machine("x86-64-v4", None, ("gcc",), (), "gcc"),
    "aarch64": Machine(
        "aarch64-linux", None, ("aarch64-linux-gnu-gcc", "-static"), ("qemu-aarch64",),
        "qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    ),
    "armv7": Machine(
        "armv7-linux", None, ("arm-linux-gnueabihf-gcc", "-static"), ("qemu-arm",),
        "qemu-user gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
    ),
    "armv7-cortex-a7": Machine(
        "armv7-linux", "cortex-a7", ("arm-linux-gnueabihf-gcc", "-static"), ("qemu-arm",),
        "qemu-user gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
    ),
    "cortex-m4": Machine(
        "cortex-m4", None, ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", *_BARE),
        ("qemu-system-arm", "-machine", "mps2-an386", *_QEMU_BARE), "qemu-system-arm gcc-arm-none-eabi", is_bare=True,
    ),
    "cortex-m7": Machine(
        "cortex-m7", None, ("arm-none-eabi-gcc", "-mcpu=cortex-m7", "-mfpu=fpv5-d16", *_BARE),
        ("qemu-system-arm", "-machine", "mps2-an500", *_QEMU_BARE), "qemu-system-arm gcc-arm-none-eabi", is_bare=True,
    ),
    "cortex-m7-single": Machine(  # as in an STM32F746: the compiler would not use the unit's other half either
        "cortex-m7", "cortex-m7-fp64", ("arm-none-eabi-gcc", "-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", *_BARE),
        ("qemu-system-arm", "-machine", "mps2-an500", *_QEMU_BARE), "qemu-system-arm gcc-arm-none-eabi", is_bare=True,
    ),
    "riscv64": Machine(
        "riscv64-linux", None, ("riscv64-linux-gnu-gcc", "-static"), ("qemu-riscv64",),
        "qemu-user gcc-riscv64-linux-gnu libc6-dev-riscv64-cross",
    ),
    "riscv64-v": Machine(
        "riscv64-linux", "generic+v", ("riscv64-linux-gnu-gcc", "-static"), ("qemu-riscv64", "-cpu", "rv64,v=true"),
        "qemu-user gcc-riscv64-linux-gnu libc6-dev-riscv64-cross",
    ),
}


def build_and_run(machine: Machine, folder: Path, driver: str, objects: list[str]) -> str:
    """What the driver prints, linked with the objects that are in the folder."""
    compiler, *flags = machine.compiler
    (folder / "driver.c").write_text(driver, encoding="ascii")
    command = [requires_tool(compiler, f"Debian: {machine.packages}"), *flags, *WARNINGS, "driver.c", *objects]
    if machine.is_bare:
        (folder / "board.ld").write_text(LINKER_SCRIPT, encoding="ascii")
        command += ["-T", "board.ld"]
    subprocess.run([*command, "-o", "driver"], cwd=folder, check=True)
    emulator = list(machine.emulator)
    if emulator:
        emulator[0] = requires_tool(emulator[0], f"Debian: {machine.packages}")
    done = subprocess.run(
        [*emulator, "./driver"], cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
