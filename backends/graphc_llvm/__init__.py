"""The llvm backend: programs as native code, through textual LLVM IR with explicit vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from graphc.backend import Executable, Options
from graphc.program import Program
from graphc_llvm.executable import LlvmExecutable


class LlvmBackend:
    """See `graphc.backend.Backend`."""

    name = "llvm"

    def compile(self, program: Program, options: Options) -> Executable:
        """Lower, generate code for this processor (or the one that `options.cpu` names), load."""
        return LlvmExecutable(program, options)

    def export(
        self, program: Program, path: str, values: Mapping[str, NDArray[Any]], options: Options, **choices: Any
    ) -> list[str]:
        """Write an object file and a header; see `graphc_llvm.export`."""
        from graphc_llvm.export import export_program  # only those who export need it

        return export_program(program, path, values, options, **choices)


backend = LlvmBackend()
