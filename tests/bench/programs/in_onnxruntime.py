"""Inference by ONNX Runtime. Its models are written by the package `onnx`; all optimisations are on by default."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from tests.bench.programs.libraries import Begin, Program, computed
from tests.bench.programs.problems import Conv, Inference, Linear, Network, Problem

onnx: Any = importlib.import_module("onnx")
runtime: Any = importlib.import_module("onnxruntime")

_OPSET = 17
_IR_VERSION = 8  # that of opset 17: every runtime since 2022 reads it


def prepare(problem: Problem, threads: int) -> Begin:
    """See `libraries.Prepare`."""
    if not isinstance(problem, Inference):
        raise NotImplementedError(f"ONNX Runtime has no program for {problem}")
    x = problem.data()
    model = _model_of(problem.network, x.shape)

    def begin() -> Program:
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = threads
        session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return computed(partial(session.run, None, {"x": x}))

    return begin


def _model_of(network: Network, shape: tuple[int, ...]) -> bytes:
    """The network as an ONNX file's content."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes: list[Any] = []
    initialisers: list[Any] = []
    weights = network.weights()
    last = "x"
    for number, stage in enumerate(network.stages):
        name = f"y{number}"
        operands = [last]
        if isinstance(stage, (Linear, Conv)):
            for what, array in zip(("weight", "bias"), next(weights), strict=True):
                operands.append(f"{what}{number}")
                initialisers.append(numpy_helper.from_array(array, operands[-1]))
        match stage:
            case Linear():
                nodes.append(helper.make_node("Gemm", operands, [name], transB=1))
            case Conv():
                nodes.append(helper.make_node("Conv", operands, [name], pads=[stage.padding] * 4))
            case "relu":
                nodes.append(helper.make_node("Relu", operands, [name]))
            case "pool":
                nodes.append(helper.make_node("MaxPool", operands, [name], kernel_shape=[2, 2], strides=[2, 2]))
            case "flatten":
                nodes.append(helper.make_node("Flatten", operands, [name]))
        last = name
    kind = onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info(last, kind, (shape[0], network.classes))]
    graph = helper.make_graph(nodes, "network", inputs, outputs, initialisers)
    opset = helper.make_opsetid("", _OPSET)
    content: bytes = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION).SerializeToString()
    return content
