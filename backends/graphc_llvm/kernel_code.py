"""What the emitter of a kernel hands back to the one of the program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelCode:
    """A function `name(ptr buffer, ptr buffer, ..., ptr workspace)` over root buffers, each once, in this order; the
    workspace is 64-byte aligned, holds `workspace_bytes`, and keeps nothing between kernels."""

    name: str
    buffers: tuple[str, ...]
    workspace_bytes: int
