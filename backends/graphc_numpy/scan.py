"""Loops (kernels of kind `scan`) as Python's own: a function of one step, called in a `for`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.program import Kernel
from graphc_numpy.code import Code, shape_text
from graphc_numpy.literals import dtype_text


def define(code: Code, kernel: Kernel, step: str, names: Sequence[str], targets: Mapping[int, str]) -> None:
    """Lines that define the results of a loop. step: the name of the step's function; names: the operands' variables;
    targets: by stage, the variable of its result."""
    loop = kernel.loop
    assert loop is not None
    first, arrays = names[: loop.carried], names[loop.carried : loop.carried + loop.sliced]
    constants = names[loop.carried + loop.sliced :]
    by_name = loop.program.by_name
    carried = [code.fresh_name(f"{step}_{by_name[loop.program.inputs[i]].name}") for i in range(loop.carried)]
    outputs = [code.fresh_name(f"{step}_{name}") for name in loop.program.outputs]
    t = code.fresh_name("t")

    stacked = {n: target for n, target in targets.items() if loop.finals[n] < 0}
    for number, target in stacked.items():
        buffer = by_name[loop.program.outputs[loop.results[number]]]
        memory = ((loop.length, *buffer.shape), buffer.dtype)
        code.assign(f"np.empty({shape_text(memory[0])}, {dtype_text(buffer.dtype)})", (), memory, target)
    head = [f"{name} = {start}" for name, start in zip(carried, first, strict=True)]
    steps = f"range({loop.length})"
    head.append(f"for {t} in {f'reversed({steps})' if loop.reverse else steps}:")
    arguments = ", ".join([*carried, *(f"{array}[{t}, ...]" for array in arrays), *constants])
    body = [f"{', '.join(outputs)} = {step}({arguments})"]
    body += [f"{name} = {outputs[place]}" for name, place in zip(carried, loop.following, strict=True)]
    body += [f"{target}[{t}] = {outputs[loop.results[number]]}" for number, target in stacked.items()]
    code.statement("\n".join([*head, *(f"    {line}" for line in body)]), (*names, *stacked.values()))
    for number, target in targets.items():
        final = loop.finals[number]
        if final >= 0:
            buffer = by_name[loop.program.inputs[final]]
            code.assign(f"np.asarray({carried[final]})", (), (buffer.shape, buffer.dtype), target)
