"""graphc: a symbolic computational-graph compiler.

Declare a model as an expression graph, derive its gradients symbolically, and compile it to readable NumPy code or to
native loops.

>>> import graphc as gc
>>> x = gc.input("x", ())
>>> y = gc.sin(x) * x
>>> float(gc.evaluate(gc.grad(y, x), {x: 0.0}))
0.0
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from graphc import nn, optim
from graphc.compiler import Function, compile, evaluate
from graphc.errors import GraphcError
from graphc.lang import random
from graphc.lang.activations import (
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_softmax,
    logsumexp,
    maxout,
    prelu,
    relu,
    silu,
    softmax,
)
from graphc.lang.arrays import (
    arange,
    broadcast_to,
    concatenate,
    cumsum,
    diagonal,
    expand_dims,
    eye,
    flatten,
    flip,
    full,
    full_like,
    moveaxis,
    one_hot,
    ones,
    ones_like,
    pad,
    permute_dims,
    ravel,
    repeat,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    take,
    tile,
    transpose,
    tril,
    triu,
    zeros,
    zeros_like,
)
from graphc.lang.calculus import (
    custom_vjp,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    vjp,
)
from graphc.lang.checkpoint import checkpoint
from graphc.lang.define import (
    define,
)
from graphc.lang.elementwise import (
    abs,
    absolute,
    add,
    arccos,
    arcsin,
    arctan,
    arctan2,
    astype,
    ceil,
    clip,
    cos,
    cosh,
    divide,
    equal,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    greater,
    greater_equal,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply,
    ndtr,
    negative,
    not_equal,
    power,
    reciprocal,
    remainder,
    rint,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    where,
)
from graphc.lang.finite import (
    complex_step,
    finite_difference,
)
from graphc.lang.linear import (
    dot,
    einsum,
    matmul,
    outer,
    tensordot,
)
from graphc.lang.pooling import (
    avg_pool1d,
    avg_pool2d,
    global_avg_pool,
    global_max_pool,
    max_pool1d,
    max_pool2d,
)
from graphc.lang.reduce import (
    all,
    any,
    argmax,
    argmin,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from graphc.lang.scan import scan
from graphc.lang.source import (
    scope,
)
from graphc.lang.sympy_bridge import (
    from_sympy,
    to_sympy,
)
from graphc.lang.tensor import (
    Tensor,
    Variable,
    constant,
    input,
    param,
    state,
)
from graphc.lang.windows import (
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
)
from graphc.nn import init
from graphc.nn.saving import load, save

if TYPE_CHECKING:
    from graphc import data
    from graphc.render import render
    from graphc.train import Trainer, diagnose, fit, trace_nan

__version__ = "0.1.0"

pi = 3.141592653589793
inf = float("inf")
nan = float("nan")

# Public names whose modules are loaded when they are first used: most programs need none of them.
_LAZY = {
    "data": ("graphc.data", None),
    "render": ("graphc.render", "render"),
    **{name: ("graphc.train", name) for name in ("Trainer", "diagnose", "fit", "trace_nan")},
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'graphc' has no attribute {name!r}")
    module_name, attribute = _LAZY[name]
    module = importlib.import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


__all__ = [
    "Function",
    "GraphcError",
    "Tensor",
    "Trainer",
    "Variable",
    "abs",
    "absolute",
    "add",
    "all",
    "any",
    "arange",
    "arccos",
    "arcsin",
    "arctan",
    "arctan2",
    "argmax",
    "argmin",
    "astype",
    "avg_pool1d",
    "avg_pool2d",
    "broadcast_to",
    "ceil",
    "checkpoint",
    "clip",
    "compile",
    "complex_step",
    "concatenate",
    "constant",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cos",
    "cosh",
    "cumsum",
    "custom_vjp",
    "data",
    "define",
    "diagnose",
    "diagonal",
    "divide",
    "dot",
    "einsum",
    "elu",
    "equal",
    "erf",
    "evaluate",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "eye",
    "finite_difference",
    "fit",
    "flatten",
    "flip",
    "floor",
    "floor_divide",
    "from_sympy",
    "full",
    "full_like",
    "gelu",
    "global_avg_pool",
    "global_max_pool",
    "grad",
    "greater",
    "greater_equal",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "hessian",
    "hvp",
    "inf",
    "init",
    "input",
    "isnan",
    "jacobian",
    "jvp",
    "leaky_relu",
    "less",
    "less_equal",
    "load",
    "log",
    "log10",
    "log1p",
    "log2",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "matmul",
    "max",
    "max_pool1d",
    "max_pool2d",
    "maximum",
    "maxout",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "ndtr",
    "nan",
    "negative",
    "nn",
    "not_equal",
    "one_hot",
    "ones",
    "ones_like",
    "optim",
    "outer",
    "pad",
    "param",
    "permute_dims",
    "pi",
    "power",
    "prelu",
    "prod",
    "random",
    "ravel",
    "reciprocal",
    "relu",
    "remainder",
    "render",
    "repeat",
    "reshape",
    "rint",
    "rsqrt",
    "scan",
    "save",
    "scope",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "state",
    "std",
    "stop_gradient",
    "subtract",
    "sum",
    "swapaxes",
    "take",
    "tan",
    "tanh",
    "tensordot",
    "tile",
    "to_sympy",
    "trace_nan",
    "transpose",
    "tril",
    "triu",
    "var",
    "vjp",
    "where",
    "zeros",
    "zeros_like",
]
