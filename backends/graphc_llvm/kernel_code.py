"""What lowering one kernel leaves behind: the function's name and what a caller must pass to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelCode:
    """`define internal void @name(ptr %b0, ptr %b1, ..., ptr %workspace)`: one pointer for each root buffer of
    `buffers`, in order, then a 64-byte aligned workspace with unspecified contents: `workspace_bytes`, followed by
    `thread_bytes` (a multiple of 64) for each thread that a parallel section may use."""

    name: str
    buffers: tuple[str, ...]
    workspace_bytes: int
    thread_bytes: int = 0
