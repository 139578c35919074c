"""The llvm backend: programs as native code, through textual LLVM IR with explicit vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from graphc.backend import Executable, Options, TimedExecutable
from graphc.phased import PhasedProgram
from graphc.program import Program
from graphc_llvm.executable import LlvmExecutable, Native
from graphc_llvm.fastcall import FastCalls
from graphc_llvm.fastcall_layout import as_expected


class LlvmBackend:
    """See `graphc.backend.Backend`."""

    name = "llvm"

    def compile(self, program: Program, options: Options) -> Executable:
        """Lower, generate code for this processor (or the one that `options.cpu` names), load."""
        return LlvmExecutable(program, options)

    def compile_phased(self, program: PhasedProgram, options: Options) -> Callable[[PhasedProgram], Executable]:
        """The same of a program for sizes that calls bring: one code for all."""
        native = Native(program, options)
        return lambda sized: LlvmExecutable(sized, options, native)

    def fast_calls(self) -> FastCalls | None:
        """Calls without Python; None on an interpreter or a NumPy whose objects are laid out in another way."""
        return FastCalls() if as_expected() else None

    def timed(self, program: Program, options: Options) -> TimedExecutable:
        """The same code with clocks between the kernels; `BackendError` where the system has none."""
        from graphc_llvm.profile import TimedProgram  # only those who profile need it

        return TimedProgram(program, options)

    def export(
        self,
        program: Program | PhasedProgram,
        path: str,
        values: Mapping[str, NDArray[Any]],
        options: Options,
        **choices: Any,
    ) -> list[str]:
        """Write an object file and a header; see `graphc_llvm.export`."""
        from graphc_llvm.export import export_program  # only those who export need it

        return export_program(program, path, values, options, **choices)


backend = LlvmBackend()
