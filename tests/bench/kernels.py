"""The table of single kernels: matrix products and convolutions, each gradient a line of its own; and graphc's side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

import graphc as gc

Array = NDArray[Any]
Task = Literal["matmul", "fwd", "dgrad", "wgrad"]
"""What a line computes: a @ b; y of x and w; the gradient of x from dy and w; the gradient of w from dy and x."""

GOALS_PEAK: Final = 524.0
"""GFLOP/s of two threads of the machine for which the goals were set, by the same loop as `peak.py`. What is asked of
another machine is the same share of its own peak."""


@dataclass(frozen=True)
class Matmul:
    """[n, n] @ [n, n]."""

    n: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.n**3

    def shape(self, operand: str) -> tuple[int, ...]:
        """The shape of an operand, "x" or "w"."""
        return (self.n, self.n)


@dataclass(frozen=True)
class Conv:
    """x[batch, channels, size, size] * w[filters, channels, kernel, kernel], square in every way."""

    batch: int
    channels: int
    filters: int
    size: int
    kernel: int
    stride: int = 1
    padding: int = 0

    @property
    def out(self) -> int:
        """Rows, and columns, of the result."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def flops(self) -> int:
        """Those of the direct sum without any care for the border, whichever way it or a gradient is computed."""
        return 2 * self.batch * self.filters * self.out**2 * self.channels * self.kernel**2

    def shape(self, operand: str) -> tuple[int, ...]:
        """The shape of an operand or a result: "x", "w" or "dy"."""
        return {
            "x": (self.batch, self.channels, self.size, self.size),
            "w": (self.filters, self.channels, self.kernel, self.kernel),
            "dy": (self.batch, self.filters, self.out, self.out),
        }[operand]


OPERANDS: Final[dict[Task, tuple[str, str]]] = {
    "matmul": ("x", "w"),
    "fwd": ("x", "w"),
    "dgrad": ("dy", "w"),
    "wgrad": ("dy", "x"),
}


@dataclass(frozen=True)
class Line:
    """A line of the table. `goal`: GFLOP/s on the machine of GOALS_PEAK."""

    name: str
    task: Task
    problem: Matmul | Conv
    goal: float

    @property
    def goal_share(self) -> float:
        """The goal as a share of the peak; more than 1 where a faster algorithm does less than `flops`."""
        return self.goal / GOALS_PEAK

    def operands(self) -> tuple[Array, Array]:
        """The two arguments: standard normal, always the same."""
        random = np.random.default_rng(len(self.name))
        first, second = (
            random.standard_normal(self.problem.shape(operand), dtype=np.float32) for operand in OPERANDS[self.task]
        )
        return first, second


def _convs(name: str, problem: Conv, goals: tuple[float, float, float]) -> list[Line]:
    tasks: tuple[Task, Task, Task] = ("fwd", "dgrad", "wgrad")
    return [Line(f"{name} {task}", task, problem, goal) for task, goal in zip(tasks, goals, strict=True)]


# The goals are prototypes' rates on the machine of GOALS_PEAK, two threads; 780 and 850 are Winograd's.
LINES: Final = (
    Line("matmul 256", "matmul", Matmul(256), 440),
    Line("matmul 512", "matmul", Matmul(512), 470),
    Line("matmul 1024", "matmul", Matmul(1024), 470),
    Line("matmul 2048", "matmul", Matmul(2048), 470),
    *_convs("conv 3->64 224x224 3x3", Conv(1, 3, 64, 224, 3, padding=1), (400, 230, 270)),
    *_convs("conv 64->64 56x56 3x3", Conv(8, 64, 64, 56, 3, padding=1), (780, 750, 460)),
    *_convs("conv 128->128 28x28 3x3", Conv(8, 128, 128, 28, 3, padding=1), (850, 800, 475)),
    *_convs("conv 512->512 7x7 3x3", Conv(8, 512, 512, 7, 3, padding=1), (480, 450, 440)),
    *_convs("conv 256->64 56x56 1x1", Conv(8, 256, 64, 56, 1), (470, 400, 400)),
    *_convs("conv 3->64 224x224 11x11/4", Conv(8, 3, 64, 224, 11, stride=4, padding=2), (470, 370, 430)),
    *_convs("conv 6->16 14x14 5x5", Conv(64, 6, 16, 14, 5), (400, 280, 390)),
    *_convs("conv 32->64 26x26 3x3", Conv(64, 32, 64, 26, 3), (460, 420, 450)),
)


def compiled(line: Line, threads: int, backend: str | None = None) -> gc.Function:
    """The line in graphc. A gradient's program is its contraction alone: dy comes as an input, what the forward program
    needs does not."""
    problem = line.problem
    x, w = gc.input("x", problem.shape("x")), gc.input("w", problem.shape("w"))
    if isinstance(problem, Matmul):
        return gc.compile([x, w], x @ w, threads=threads, backend=backend)
    y = gc.conv2d(x, w, stride=problem.stride, padding=problem.padding)
    if line.task == "fwd":
        return gc.compile([x, w], y, threads=threads, backend=backend)
    dy = gc.input("dy", y.shape)
    if line.task == "dgrad":
        return gc.compile([dy, w], gc.vjp(y, x, dy), threads=threads, backend=backend)
    return gc.compile([dy, x], gc.vjp(y, w, dy), threads=threads, backend=backend)
