"""The command line: graphc demo | show | render | build | check | bench | cache.

SPEC is file.py:name or module:name, the name of a tensor, a list of tensors or a compiled function. Exit codes: 0 when
all is well, 1 when a check or a command fails, 2 for a wrong command line or SPEC; errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from graphc.errors import GraphcError, SpecError

SHOW_KINDS = ("graph", "program", "memory", "numpy", "llvm", "asm", "latex", "text", "code")
RENDER_LEVELS = ("op", "graph", "program", "time", "memory")
_SPEC_HELP = "file.py:name or module:name of a tensor, a list of tensors or a compiled function"


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    import graphc  # the package that holds this one: only its version is read

    top = argparse.ArgumentParser(
        prog="graphc",
        description="A symbolic computational-graph compiler: derive, see, check and compile.",
        epilog="example: graphc render model.py:loss -o loss.svg --backward",
    )
    top.add_argument("--version", action="version", version=f"graphc {graphc.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    demo = commands.add_parser("demo", help="train a network on handwritten digits and write what it became")
    demo.add_argument("--output", metavar="DIR", default="graphc-demo", help="where files go (default: %(default)s)")
    demo.add_argument("--epochs", type=_positive, default=30, metavar="N", help="default: %(default)s")
    demo.add_argument("--seed", type=_natural, default=0, metavar="S", help="of split, weights, batches (default: 0)")
    demo.add_argument("--backend", default="llvm", help="default: %(default)s")

    show = commands.add_parser("show", help="print the graph, the equations or the generated code")
    show.add_argument("spec", metavar="SPEC", help=_SPEC_HELP)
    show.add_argument("--as", dest="kind", choices=SHOW_KINDS, default="graph", help="default: %(default)s")
    show.add_argument("--index", action="store_true", help="latex and text in index notation, one equation a node")
    show.add_argument("--diff", metavar="PASS", help="what a pass does to the graph, and by which rules; or all")
    _add_backward(show)
    _add_sizes(show)

    render = commands.add_parser("render", help="draw the graph, its program's kernels, their times, or their memory")
    render.add_argument("spec", metavar="SPEC", help=_SPEC_HELP)
    render.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="ends in .svg, .png, .pdf, .html, .dot or .gv"
    )
    render.add_argument(
        "--level",
        choices=RENDER_LEVELS,
        default="op",
        help="op: as it is written; graph: after differentiation and rewriting; program: fused kernels; time and "
        "memory: of each kernel (default: %(default)s)",
    )
    _add_backward(render)
    _add_sizes(render)
    render.add_argument(
        "--values",
        metavar="x=-2,y=5",
        help="numbers, lists or .npy files for the inputs, or `random`; written on the edges with their gradients",
    )
    render.add_argument("--depth", type=_natural, metavar="N", help="fold scopes deeper than this (default: as fits)")
    render.add_argument("--direction", choices=("LR", "TB"), help="left to right or top to bottom (default: as fits)")
    render.add_argument("--steps", action="store_true", help="a picture for each step, numbered; in HTML a slider")
    render.add_argument("--diff", metavar="PASS", help="the graph before and after a pass, and by which rules; or all")
    render.add_argument("--profile", action="store_true", help="with --level program: run it, and tell kernels' times")

    build = commands.add_parser("build", help="write the code as an object file and a header, for other programs")
    build.add_argument("spec", metavar="SPEC", help=_SPEC_HELP)
    build.add_argument("-o", "--output", metavar="DIR", required=True, help="where the files go")
    build.add_argument("--name", help="of the files, and what names of C begin with (default: that of the SPEC)")
    _add_sizes(build, 1)
    build.add_argument("--dynamic", metavar="N,...", help="named dimensions whose sizes are arguments of each call")
    build.add_argument(
        "--weights", choices=("embed", "pass"), help="in the object, or passed at each call (default: embed, or pass "
        "for a function that updates them)"
    )
    build.add_argument("--formats", metavar="a,so", help="files beside .o and .h (default: a, and so where it can be)")
    build.add_argument("--loader", choices=("python", "javascript"), help="write a module that needs no graphc, too")
    build.add_argument("--target", help="another machine, such as aarch64-linux (default: this one)")
    build.add_argument("--cpu", help="the processor (default: this one, or the target's least)")
    build.add_argument(
        "--threads", type=_positive, default=1, metavar="N", help="the most that a call may use, once its caller has "
        "started them (default: %(default)s)"
    )

    check = commands.add_parser("check", help="compare the gradients with central differences in float64")
    check.add_argument("spec", metavar="SPEC", help=_SPEC_HELP)
    check.add_argument("--wrt", metavar="a,b", help="the leaves to check (default: every float leaf)")
    check.add_argument("--seed", type=_natural, default=0, metavar="S", help="of the random inputs (default: 0)")
    _add_sizes(check)

    bench = commands.add_parser("bench", help="time a call, and each of its kernels beside the machine's roofline")
    bench.add_argument("spec", metavar="SPEC", help=_SPEC_HELP)
    bench.add_argument("--backward", action="store_true", help="with the gradients of every float leaf")
    _add_sizes(bench, 64)
    bench.add_argument("--threads", type=_positive, metavar="N", help="default: all CPUs")
    bench.add_argument("--repeats", type=_positive, metavar="N", help="timed runs (default: half a second of them)")
    bench.add_argument("--top", type=_positive, metavar="N", help="print the N slowest kernels alone")
    bench.add_argument("--json", metavar="FILE", help="write all that was measured to a file, too")

    cache = commands.add_parser("cache", help="tell where compiled code is kept on disk, and how much there is")
    cache.add_argument("--list", action="store_true", help="with a line for each entry: last use, bytes, name")
    cache.add_argument("--clear", action="store_true", help="remove all entries")
    return top


def _add_backward(command: argparse.ArgumentParser) -> None:
    command.add_argument("--backward", action="store_true", help="with the gradients of the one float scalar")
    command.add_argument("--wrt", metavar="a,b", help="the leaves to differentiate by (default: every float leaf)")


def _add_sizes(command: argparse.ArgumentParser, default: int = 2) -> None:
    command.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="N=64",
        help=f"the size of a named dimension; may be repeated (default: {default} for each)",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 up is needed, not {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number from 0 up is needed, not {text!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = parser().parse_args(arguments)
    try:
        return _run(given)
    except SpecError as error:
        print(f"graphc: {_one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more at its end
        return 0
    except (GraphcError, OSError) as error:
        print(f"graphc: {_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("graphc: interrupted", file=sys.stderr)
        return 130


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _run(given: argparse.Namespace) -> int:
    # Each command is imported when it runs: --help and --version load none of them.
    if given.command == "demo":
        from graphc.cli.demo import demo

        return demo(given.output, given.epochs, given.seed, given.backend)
    if given.command == "show":
        from graphc.cli.show import show

        return show(given.spec, given.kind, given.backward, given.wrt, given.size, given.index, given.diff)
    if given.command == "render":
        from graphc.cli.render import Options, render

        options = Options(
            given.level,
            given.backward,
            given.wrt,
            given.values,
            given.size,
            given.depth,
            given.direction,
            given.steps,
            given.diff,
            given.profile,
        )
        return render(given.spec, given.output, options)
    if given.command == "bench":
        from graphc.cli.bench import bench

        return bench(given.spec, given.size, given.threads, given.repeats, given.backward, given.json, given.top)
    if given.command == "build":
        from graphc.cli.build import Options as BuildOptions
        from graphc.cli.build import build

        choices = (given.name, tuple(given.size), given.weights, given.formats, given.loader, given.target, given.cpu)
        return build(given.spec, given.output, BuildOptions(*choices, given.threads, given.dynamic))
    if given.command == "cache":
        from graphc.cli.cache import cache

        return cache(given.list, given.clear)
    from graphc.cli.check import check

    return check(given.spec, given.wrt, given.seed, given.size)
