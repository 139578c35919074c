"""The peers: the lines of `kernels` as each library's users would write them, inputs converted beforehand."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import numpy as np

from tests.bench.kernels import Array, Conv, Line

Call = Callable[[], Any]


class Peer(Protocol):
    """A library that can run lines. Making one imports it, and may raise what its import raises."""

    name: str
    version: str

    def prepare(self, line: Line, operands: tuple[Array, Array]) -> Call | None:
        """A call that computes the line and waits for the end, its result good for `np.asarray`; None: cannot."""
        ...


class Torch:
    """PyTorch, eager. `aten.convolution_backward` with a mask computes the one gradient that is asked for."""

    name = "torch"

    def __init__(self, threads: int) -> None:
        self._torch: Any = importlib.import_module("torch")
        self.version = str(self._torch.__version__)
        self._torch.set_num_threads(threads)

    def prepare(self, line: Line, operands: tuple[Array, Array]) -> Call:
        """See `Peer`."""
        torch, conv = self._torch, line.problem
        first, second = (torch.from_numpy(operand) for operand in operands)
        if not isinstance(conv, Conv):
            return lambda: torch.matmul(first, second)
        stride, padding = [conv.stride] * 2, [conv.padding] * 2
        if line.task == "fwd":
            return lambda: torch.nn.functional.conv2d(first, second, stride=stride, padding=padding)
        backward = torch.ops.aten.convolution_backward
        options = (None, stride, padding, [1, 1], False, [0, 0], 1)
        if line.task == "dgrad":
            x = torch.empty(conv.shape("x"))  # only its shape is read
            return lambda: backward(first, x, second, *options, [True, False, False])[0]
        w = torch.empty(conv.shape("w"))
        return lambda: backward(first, second, w, *options, [False, True, False])[1]


class Jax:
    """JAX, jitted for the CPU, on device arrays. A gradient is the transpose of the convolution in one operand."""

    name = "jax"

    def __init__(self, threads: int) -> None:
        self._jax: Any = importlib.import_module("jax")  # its threads: see `environment`
        self.version = str(self._jax.__version__)
        self._jax.devices("cpu")

    def prepare(self, line: Line, operands: tuple[Array, Array]) -> Call:
        """See `Peer`."""
        jax, conv = self._jax, line.problem
        first, second = (jax.device_put(operand) for operand in operands)

        def convolve(x: Any, w: Any) -> Any:
            assert isinstance(conv, Conv)
            return jax.lax.conv_general_dilated(x, w, [conv.stride] * 2, [(conv.padding, conv.padding)] * 2)

        def shaped(operand: str) -> Any:
            return jax.ShapeDtypeStruct(conv.shape(operand), np.float32)

        functions: dict[str, Callable[[Any, Any], Any]] = {
            "matmul": jax.numpy.matmul,
            "fwd": convolve,
            "dgrad": lambda dy, w: jax.linear_transpose(lambda x: convolve(x, w), shaped("x"))(dy)[0],
            "wgrad": lambda dy, x: jax.linear_transpose(lambda w: convolve(x, w), shaped("w"))(dy)[0],
        }
        jitted = jax.jit(functions[line.task])
        return lambda: jitted(first, second).block_until_ready()


class NumPy:
    """NumPy has a matrix product and no convolution."""

    name = "numpy"

    def __init__(self, threads: int) -> None:
        self.version = np.__version__

    def prepare(self, line: Line, operands: tuple[Array, Array]) -> Call | None:
        """See `Peer`."""
        first, second = operands
        return (lambda: first @ second) if line.task == "matmul" else None


PEERS: Final[dict[str, Callable[[int], Peer]]] = {"torch": Torch, "jax": Jax, "numpy": NumPy}


def load(names: Iterable[str], threads: int) -> tuple[list[Peer], list[str]]:
    """(the peers that can be imported, one line for each that cannot)"""
    peers: list[Peer] = []
    absent: list[str] = []
    for name in names:
        try:
            peers.append(PEERS[name](threads))
        except Exception as error:  # a broken installation raises anything
            absent.append(f"{name} is absent: {type(error).__name__}: {' '.join(str(error).split())}")
    return peers, absent
