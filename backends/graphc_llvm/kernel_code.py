"""What lowering one kernel leaves behind: the function's name and what a caller must pass to it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelCode:
    """`define internal void @name(ptr %b0, ptr %b1, ..., ptr %workspace)`: one pointer for each root buffer of
    `buffers`, in order, then a 64-byte aligned workspace of `workspace_bytes` with unspecified contents."""

    name: str
    buffers: tuple[str, ...]
    workspace_bytes: int
