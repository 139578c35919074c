"""A program as DOT: fused kernels as boxes with their members, and the buffers that go from one to the next.

Every edge is a buffer that a kernel writes, or the caller gives, and another kernel reads. A param or state that gets
a new value has a dashed edge back from the kernel that computes it; what is returned stands in a double box.
"""

from __future__ import annotations

import graphviz

from graphc.ir.extent import format_shape
from graphc.program import Buffer, Kernel, Program
from graphc.render import labels
from graphc.render.drawing import FONT, STYLES

MOST_MEMBERS = 6  # of a kernel, that its box names
CONTRACTION_COLOUR = "#e3ecf7"


def dot_of_program(program: Program) -> str:
    """The DOT text; the same program gives the same text."""
    picture = graphviz.Digraph("graphc")
    picture.attr("graph", rankdir="TB", nodesep="0.3", ranksep="0.45", fontname=FONT, fontsize="11", bgcolor="white")
    picture.attr("node", fontname=FONT, fontsize="12", margin="0.12,0.06", height="0.4", color="#333333")
    picture.attr("edge", fontname=FONT, fontsize="10", color="#333333", arrowsize="0.7")
    writers: dict[str, list[str]] = {}  # by root: the drawn nodes that give it its content
    read = {program.root(name).name for kernel in program.kernels for name in kernel.reads}
    targets = {target for _, target in program.updates}
    for buffer in program.buffers:
        kind = buffer.kind
        if buffer.alias is None and kind in STYLES and (buffer.name in read or buffer.name in targets):
            writers[buffer.name] = [f"b_{buffer.name}"]
            picture.node(f"b_{buffer.name}", labels.lines([labels.bold(buffer.name), _size(buffer)]), **STYLES[kind])
    for number, kernel in enumerate(program.kernels):
        own = f"k{number}"
        colour = CONTRACTION_COLOUR if kernel.kind == "contraction" else "#ffffff"
        lines = labels.lines(_kernel_lines(kernel))
        picture.node(own, lines, shape="box", style="rounded,filled", fillcolor=colour)
        for root in dict.fromkeys(program.root(name).name for name in kernel.reads):
            for writer in writers.get(root, ()):
                picture.edge(writer, own, label=_edge_label(program.by_name[root], writer))
        for name in kernel.writes:
            writers.setdefault(program.root(name).name, []).append(own)
    for output in dict.fromkeys(program.outputs):
        buffer = program.by_name[output]
        picture.node(f"o_{output}", labels.lines([labels.bold(output), _size(buffer)]), **STYLES["output"])
        for writer in writers.get(program.root(output).name, ()):
            picture.edge(writer, f"o_{output}")
    for source, target in program.updates:
        for writer in writers.get(program.root(source).name, ()):
            picture.edge(writer, f"b_{target}", style="dashed", constraint="false", label=":=")
    return str(picture.source)


def _kernel_lines(kernel: Kernel) -> list[str]:
    """The kernel's name and kind, and what the user wrote of what it computes."""
    members = list(dict.fromkeys(filter(None, (_member(stage.scope, stage.op) for stage in kernel.stages))))
    found = [labels.bold(kernel.name), labels.italic(_kind(kernel))]
    found += [labels.escaped(member) for member in members[:MOST_MEMBERS]]
    if len(members) > MOST_MEMBERS:
        found.append(labels.quiet(f"and {len(members) - MOST_MEMBERS} more"))
    return found


def _kind(kernel: Kernel) -> str:
    if kernel.loop is not None:
        return f"{kernel.loop.length} steps of {len(kernel.loop.program.kernels)} kernels"
    stages = len(kernel.stages)
    return kernel.kind if stages == 1 else f"{kernel.kind}, {stages} stages"


def _member(scope: str, op: str) -> str:
    return f"{scope}: {op}" if scope and op else op


def _edge_label(buffer: Buffer, writer: str) -> str:
    """A leaf says its size itself."""
    if writer.startswith("b_"):
        return ""
    return labels.lines([labels.escaped(buffer.name), _size(buffer)])


def _size(buffer: Buffer) -> str:
    return labels.quiet(f"{buffer.dtype}{format_shape(buffer.shape)} {labels.byte_count(buffer.nbytes)}")
